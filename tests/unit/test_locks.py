"""The locks: what runs is what is tested, every file by its hash, from no registry in particular."""

from __future__ import annotations

import ast
import re
import sys
import tomllib
from importlib.metadata import packages_distributions
from typing import Final

import pytest

from tests.unit.test_house import PACKAGES, ROOT

# name, its version and marker, its hashes
ENTRY: Final = re.compile(r"^([\w.-]+)(==.*?)\\\n((?:    --hash=\S+(?: \\)?\n)+)", re.MULTILINE)
Entries = dict[str, set[tuple[str, frozenset[str]]]]


def text(group: str) -> str:
    return (ROOT / "infra" / "lock" / f"{group}.txt").read_text()


def entries(group: str) -> Entries:
    """Name -> its entries: one, or one per version of Python."""
    found: Entries = {}
    for name, version, hashes in ENTRY.findall(text(group)):
        held = frozenset(re.findall(r"sha256:[0-9a-f]{64}", hashes))
        found.setdefault(name, set()).add((version.strip(), held))
    return found


def test_what_runs_is_what_is_tested() -> None:
    """Where it fails: `make lock`, which cuts the one out of the other."""
    run, dev = entries("run"), entries("dev")
    assert run.keys() <= dev.keys()
    assert {name: it for name, it in run.items() if it != dev[name]} == {}


@pytest.mark.parametrize("group", ["run", "dev"])
def test_each_has_a_hash_and_none_an_address(group: str) -> None:
    assert ENTRY.sub("", text(group)) == ""
    assert "://" not in text(group)
    assert all(held for it in entries(group).values() for _, held in it)


def imported() -> set[str]:
    """The packages of others that our code imports, at the top of a file or in a function."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {it.name for it in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    return {it.partition(".")[0] for it in found} - sys.stdlib_module_names - {*PACKAGES}


def test_what_is_imported_is_declared() -> None:
    """Not left to a dependency that happens to bring it; and nothing of the tests' own."""

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # an extra in brackets names what it brings: kafka-python[crc32c,lz4]
    named = {
        plain(it) for line in project["dependencies"] for it in re.findall(r"[A-Za-z][\w.-]*", line)
    }
    owners = packages_distributions()
    undeclared = {it for it in imported() if not {plain(d) for d in owners.get(it, ())} & named}
    assert undeclared == set()
