"""Words: a name has one meaning, an import keeps it, and it is the field's."""

from __future__ import annotations

import ast
import re
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
PACKAGES = ("schemas", "models", "flows", "serving", "infra")
ONE_MEANING: dict[tuple[str, str], str] = {}
"""(package, class): why two files may have it. A slow definition has a name of its own."""


def parsed(*packages: str) -> Iterator[tuple[Path, ast.Module]]:
    for package in packages:
        for path in sorted((ROOT / package).rglob("*.py")):
            yield path.relative_to(ROOT), ast.parse(path.read_text())


def test_a_class_name_has_one_meaning_in_a_package() -> None:
    files: defaultdict[tuple[str, str], set[str]] = defaultdict(set)
    for path, tree in parsed(*PACKAGES):
        for node in ast.walk(tree):
            if isinstance(node, ast.ClassDef):
                files[path.parts[0], node.name].add(str(path))
    twice = {name: sorted(where) for name, where in files.items() if len(where) > 1}
    assert {name: where for name, where in twice.items() if name not in ONE_MEANING} == {}
    assert ONE_MEANING.keys() <= twice.keys(), "the list allows what is not there any more"


def bound(tree: ast.Module) -> Iterator[str]:
    """The names that a module binds or reads, without the aliases of imports."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Name):
            yield node.id
        elif isinstance(node, ast.arg):
            yield node.arg
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            yield node.name


def imports(tree: ast.Module) -> Iterator[tuple[str, ast.alias]]:
    for node in ast.walk(tree):
        if isinstance(node, ast.Import | ast.ImportFrom):
            origin = (getattr(node, "module", None) or node.names[0].name).partition(".")[0]
            for alias in node.names:
                yield origin, alias


def test_an_import_of_ours_keeps_its_name_unless_two_of_one_name_meet() -> None:
    needless = []
    for path, tree in parsed(*PACKAGES, "tests"):
        names = {*bound(tree)}
        plain = {alias.name for _, alias in imports(tree) if not alias.asname}
        for origin, alias in imports(tree):
            ours = origin in (*PACKAGES, "tests") and alias.asname
            if ours and alias.name not in names | plain:
                needless.append(f"{path}: {alias.name} as {alias.asname}")
    assert needless == []


def test_the_glossary_has_twenty_words_and_each_names_its_place() -> None:
    text = (ROOT / "docs" / "glossary.md").read_text()
    rows = re.findall(r"^\| \*\*(.+?)\*\* \| (.+?) \| \[.+?\]\(\.\./(.+?)\) \|$", text, re.M)
    assert len(rows) == len({word for word, _, _ in rows}) == 20
    for word, meaning, place in rows:
        assert (ROOT / place).exists(), f"{word}: {place} is not there"
        assert meaning.endswith("."), f"{word}: a sentence"
        assert ". " not in meaning, f"{word}: one sentence"
