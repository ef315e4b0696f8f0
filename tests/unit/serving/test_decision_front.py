"""Case, sources, groups and rules of the compiled decision: what C finds is what the definition finds."""

from __future__ import annotations

from typing import Any, Final

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features.registry import ROW
from models.features.ring import RING_SIZE
from models.kernels.loading import kernel, missing
from models.outcomes.impressions import IMPRESSION
from models.seen import ENTRY
from schemas.actions import ACTIONS
from serving.decide import compiled, workspace
from serving.decide.case import Case
from serving.decide.columns import ALL_COLUMNS
from serving.decide.decide import ENTRIES
from serving.decide.entries import Entries
from serving.decide.groups import choose
from serving.decide.person import Blobs, decode
from serving.decide.pool import Pool
from serving.decide.rules import RULES, eligible
from serving.decide.sources import SOURCES, least_served, retrieve
from tests.support import decisions
from tests.support.decisions import Seeds
from tests.support.worlds import NOW

pytestmark = [pytest.mark.check, pytest.mark.skipif(kernel is None, reason=missing)]
PASSED_OVER: Final = 255
NAMES: Final = sorted([*(source.name for source in SOURCES), *(rule.name for rule in RULES)])


def decided(case: Case, entries: Entries) -> Any:
    """The `decision` after it was made, with what its last retrieval found."""
    made = compiled.decide(entries, case.person, case.world, case.ask, "none", lambda *_: None)
    assert made is not None
    work = workspace.take()  # the one that was given back last
    workspace.give_back(work)
    return work.d


def read(pointer: Any, n: int, dtype: Any) -> NDArray[Any]:
    assert kernel is not None
    size = n * np.dtype(dtype).itemsize
    return np.frombuffer(kernel.ffi.buffer(pointer, size), dtype) if n else np.empty(0, dtype)


def same(found: NDArray[Any], expected: NDArray[Any]) -> None:
    assert found.tolist() == expected.tolist()


def same_person(d: Any, case: Case) -> None:
    interest, vector = case.interest, case.vector
    shown, counts = case._impressions
    same(read(d.interest, d.n_interest, np.int32), interest.slots)
    same(read(d.interest_weight, d.n_interest, np.float64), interest.weights)
    assert bool(d.viewed) == interest.in_view
    same(read(d.likeness, 64, np.float32), case.likeness)
    assert bool(d.has_vector) == (vector is not None)
    if vector is not None:
        same(read(d.vector, 64, np.float32), vector)
    same(read(d.shown_slot, d.n_shown, np.int32), shown)
    same(read(d.shown_count, d.n_shown, np.float64), counts)
    assert bool(d.has_impressions) == bool(len(case.person.impressions))


def same_pool(d: Any, pool: Pool) -> None:
    same(read(d.slot, d.n, np.int32), pool.slots)
    for at, (name, brought) in enumerate(pool.retrieved.items()):
        rows = slice(d.source_begin[at], d.source_begin[at + 1])
        same(read(d.entry_slot, d.n_entries, np.int32)[rows], brought.slots)
        same(read(d.entry_value, d.n_entries, np.float64)[rows], brought.values)
        same(read(d.entry_by, d.n_entries, np.int32)[rows], brought.entries)
        same(read(d.entry_number, d.n_entries, np.int32)[rows], pool.numbers[name])
        same(read(d.entry_brought, d.n_entries, np.int32)[rows], pool._brought[name])
    same(read(d.bits, d.n, np.uint32), pool._bits)
    same(read(d.by_source, len(pool.retrieved), np.int64), np.array([*pool.counts.values()]))
    assert bool(d.has_chosen) == (pool.chosen is not None)
    if pool.chosen is not None:
        same(read(d.chosen, d.n, np.int32), pool.chosen)


def same_front(case: Case, entries: Entries = ENTRIES) -> None:
    d = decided(case, entries)
    same_person(d, case)
    pool = retrieve(case, d.deeper)
    verdict = eligible(case, pool.slots)
    choice = choose(case, pool, verdict.kept)
    same_pool(d, choice.pool)
    removed_by = read(d.removed_by, d.n, np.uint8)
    for at, rule in enumerate(RULES):
        assert bool(d.rule_applies[at]) == (rule.name in verdict.removed), rule.name
        removed = verdict.removed.get(rule.name, choice.kept[:0])
        same(np.flatnonzero(removed_by == 1 + at), removed)
    same(np.flatnonzero(removed_by == 0), choice.kept)
    same(np.flatnonzero(removed_by == PASSED_OVER), choice.passed_over)
    slots = pool.slots[case.longest_ago(pool.slots)]
    epochs, latest = (read(it, d.slot_room, np.uint32) for it in (d.latest.epoch, d.latest.value))
    found = np.where(epochs == d.epoch, latest, 0)[slots].astype(np.int64)
    assert (np.diff(found) >= 0).all()


@given(decisions.seeds)
@settings(deadline=None)
def test_the_stages_are_the_same(of: Seeds) -> None:
    setting = decisions.made(of)
    same_front(Case(setting.person, setting.world, setting.ask))


@given(decisions.seeds, st.sets(st.sampled_from(NAMES), min_size=1, max_size=4))
@settings(deadline=None)
def test_sources_and_rules_without_an_entry_are_handed_in(of: Seeds, names: set[str]) -> None:
    setting = decisions.made(of)
    entries = Entries(SOURCES, RULES, ALL_COLUMNS, least_served, without=names)
    same_front(Case(setting.person, setting.world, setting.ask), entries)


@given(decisions.seeds, st.integers(0, 2**32 - 1))
@settings(deadline=None)
def test_a_row_and_entries_of_any_bytes_mean_the_same(of: Seeds, seed: int) -> None:
    setting, rng = decisions.made(of), np.random.default_rng(seed)
    items = setting.world.items
    hashes = np.concatenate([items.hash, items.groups.hashes])
    row = np.frombuffer(rng.bytes(ROW.itemsize), ROW)[0].copy()
    row["ring"]["item"] = rng.choice(hashes, RING_SIZE)
    row["ring"]["action"] %= len(ACTIONS) + 1
    seen = np.frombuffer(rng.bytes(ENTRY.itemsize * 60), ENTRY).copy()
    seen["item"], seen["time"] = rng.choice(hashes, 60), rng.choice([0, 5, NOW // 1000], 60)
    shown = np.frombuffer(rng.bytes(IMPRESSION.itemsize * 64), IMPRESSION).copy()
    shown["item"] = rng.choice(hashes, 64)
    blobs: Blobs = [None, seen.tobytes(), None, None, shown.tobytes(), None, None, None, None]
    who = decode(blobs)
    who.row_bytes, who.preferences = row.tobytes(), setting.person.preferences
    same_front(Case(who, setting.world, setting.ask))


def test_each_source_and_rule_has_its_entry() -> None:
    assert ENTRIES.in_python["source"] == ENTRIES.in_python["rule"] == []
