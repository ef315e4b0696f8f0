"""The locks: what runs is what is tested, every file by its hash, from no registry in particular."""

from __future__ import annotations

import re
from typing import Final

import pytest

from infra.plan import ROOT

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
