"""Words: a name has one meaning, an import keeps it, and it is the field's."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "models", "flows", "serving", "infra")
ONE_MEANING: dict[tuple[str, str], str] = {}
"""(package, class): why two files may have it. A slow definition has a name of its own."""


NOT_OURS = {
    "stamp", "stamps", "stamped", "tie", "ties", "tied", "told", "tell", "tells", "telling", "turn", "turns",
    "left", "aside", "hello", "ends", "known", "part", "parts", "stand", "stands", "standing", "whom",
    "whoever", "somebody", "nobody",
}  # fmt: skip
"""Words that say nothing to an engineer of streams: a name in code does without them."""
GIVEN = {
    "known", "part", "parts", "stands",  # fields on the wire and in what commands print
    "list_parts", "build_part", "for_part",  # Bytewax's
    "tell",  # of a file, as pyarrow calls it
    "tie_break", "tie_breaks",  # the field's
}  # fmt: skip


Nodes = list[ast.AST]
"""All nodes of a module."""
Parsed = list[tuple[Path, Nodes]]


@pytest.fixture(scope="module")
def parsed() -> Parsed:
    """Every module, ours and of tests."""
    paths = [path for it in (*PACKAGES, "tests") for path in sorted((ROOT / it).rglob("*.py"))]
    return [(path.relative_to(ROOT), [*ast.walk(ast.parse(path.read_text()))]) for path in paths]


def test_a_class_name_has_one_meaning_in_a_package(parsed: Parsed) -> None:
    files: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for path, nodes in parsed:
        for node in nodes:
            if isinstance(node, ast.ClassDef) and path.parts[0] in PACKAGES:
                files[path.parts[0], node.name].add(str(path))
    twice = {name: sorted(where) for name, where in files.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in ONE_MEANING} == {}
    assert ONE_MEANING.keys() <= twice.keys(), "the list allows what is not there any more"


def bound(nodes: Nodes) -> Iterator[str]:
    """The names that a module binds or reads, without the aliases of imports."""
    for node in nodes:
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def imports(nodes: Nodes) -> Iterator[tuple[str, ast.alias]]:
    for node in nodes:
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = (getattr(node, "module", None) or node.names[0].name).partition(".")[0]
            for alias in node.names:
                yield origin, alias


def test_an_import_of_ours_keeps_its_name_unless_two_of_one_name_meet(parsed: Parsed) -> None:
    needless = []
    for path, nodes in parsed:
        names, imported = {*bound(nodes)}, [*imports(nodes)]
        plain = {alias.name for _, alias in imported if not alias.asname}
        for origin, alias in imported:
            ours = origin in (*PACKAGES, "tests") and alias.asname
            if ours and alias.name not in names | plain:
                needless.append(f"{path}: {alias.name} as {alias.asname}")
    assert needless == []


def given_names(nodes: Nodes) -> Iterator[str]:
    """The names that a module gives: of functions, classes, parameters, variables, attributes."""
    for node in nodes:
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            yield node.id
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            yield node.attr


def words(name: str) -> set[str]:
    return {word.lower() for word in re.findall(r"[A-Z]+(?![a-z])|[A-Z]?[a-z0-9]+", name)}


def test_names_in_code_are_words_of_the_field(parsed: Parsed) -> None:
    assert words("told_BIG_MadeAnew2") == {"told", "big", "made", "anew2"}
    found = [
        f"{path}: {name}"
        for path, nodes in parsed
        for name in dict.fromkeys([path.stem, *given_names(nodes)])
        if NOT_OURS & words(name) and name not in GIVEN
    ]
    # a sentence that names a test may say that something "ends" or is "known"
    assert [it for it in found if ": test_" not in it] == []


def test_the_glossary_has_twenty_words_and_each_names_its_place() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| \[.+?\]\(\.\./(.+?)\) \|$", text, re.M)
    assert len(rows) == len({word for word, _, _ in rows}) == 20
    for word, meaning, place in rows:
        assert (ROOT / place).exists(), f"{word}: {place} is not there"
        assert meaning.endswith("."), f"{word}: a sentence"
        assert ". " not in meaning, f"{word}: one sentence"
