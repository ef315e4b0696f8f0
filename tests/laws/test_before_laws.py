"""The slow definitions resume from a snapshot, cut anywhere, as if they had read the log before it."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.verify import stored_tables, table_sums
from flows.verify.person_records import PERSON_RECORDS
from flows.verify.report import Findings, difference
from flows.verify.waiting import PartitionWaits, reference_of
from models.aggregates.tables import Tables
from models.reference.before import SnapshotState
from models.reference.partition import Partition
from models.reference.people import Person
from models.reference.sample import Sample
from models.reference.sums import Sums
from models.reference.waiting import WaitingReference
from schemas.keys import PLAIN
from schemas.state import facts
from tests.laws.test_fold_laws import build, one_action
from tests.laws.test_link_laws import HOME, case, folded, law, linkings, records, splits
from tests.laws.test_outcome_laws import busy
from tests.laws.test_verify_laws import DAY, by_definition, crowded, mismatches
from tests.laws.world import Memory, Record, fold_log, log_of


def snapshot(log: Sequence[Record], partition: int, sizes: Sequence[int] = ()) -> Memory:
    return fold_log(log, sizes, partition=partition) if log else Memory()


def before(memory: Memory, log: Sequence[Record], partition: int) -> SnapshotState:
    newest = max((timestamp for _, timestamp, _ in log), default=0)
    received = memory.hashes.get(PLAIN.received(partition), {})
    tallies = memory.hashes.get(PLAIN.tallies(partition), {})
    return SnapshotState(partition, newest, memory.values, received, tallies)


def resumed(
    log: Sequence[Record],
    cut: int,
    partition: int,
    sums: Sums | None = None,
    sample: int | None = None,
    waiting: WaitingReference | None = None,
) -> Partition:
    """A reference that read only the records after `cut`."""
    held = before(snapshot(log[:cut], partition, [7, 30]), log[:cut], partition)
    reference = Partition(DAY, Sample(sample), sums, held, waiting=waiting)
    for offset, timestamp, event in log[cut:]:
        reference.take(offset, timestamp, event)
    return reference


def plainly(person: Person) -> dict[str, Any]:
    return {
        feature.what: feature.expected(person)
        for feature in PERSON_RECORDS
        if feature.there(person)
    }


def assert_same(reference: Partition, whole: Partition) -> None:
    assert reference.people.keys() == whole.people.keys()
    for name, one in whole.people.items():
        assert difference(plainly(reference.people[name]), plainly(one)) is None
    assert (reference.received, reference.tallies) == (whole.received, whole.tallies)
    assert (reference.ids.newest, reference.ids.held()) == (whole.ids.newest, whole.ids.held())


def wrong_sums(logs: Sequence[Sequence[Record]], cuts: Sequence[int]) -> Any:
    """Compares tables as of the cuts plus the records after them with the tables of all records."""
    whole, early = Tables(len(logs)), Tables(len(logs))
    for p, (log, cut) in enumerate(zip(logs, cuts, strict=True)):
        for tables, prefix in ((whole, log), (early, log[:cut])):
            for entry in snapshot(prefix, p).streams.get(PLAIN.deltas(p), []):
                tables.apply(p, facts.decode(entry[1][facts.FIELD]))
    stored, held = (stored_tables.of_tables(it, PLAIN.tables()) for it in (whole, early))
    marks, found = stored_tables.reference_marks([stored, held]), Findings()
    sums, waits = [Sums(marks) for _ in logs], []
    for p, (log, cut) in enumerate(zip(logs, cuts, strict=True)):
        made = resumed(log, cut, p, sums[p], 0, reference_of(held, p, marks))
        waits.append(PartitionWaits.of(p, made.waiting))
    before_cuts = stored_tables.sums_of(held, marks)
    table_sums.compare(found, stored, Sums.of([before_cuts, *sums]), waits)
    return found.mismatches()


@law
@given(st.lists(one_action, min_size=1, max_size=60), st.floats(0, 1))
def test_cut_anywhere_sessions_and_pairs_are_the_same(
    drawn: list[dict[str, object]], where: float
) -> None:
    log = build(drawn)
    cut = int(len(log) * where)
    assert_same(resumed(log, cut, 0), by_definition(log))
    assert wrong_sums([log], [cut]) == []


@law
@given(records, linkings, splits, st.floats(0, 1))
def test_cut_anywhere_people_links_and_sums_are_the_same(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], sizes: list[int], where: float
) -> None:
    check(drawn, linked, sizes, random.Random(len(drawn)), where)


@pytest.mark.parametrize("seed", range(6))
def test_cut_anywhere_a_crowded_log_with_links_gives_the_same(seed: int) -> None:
    rnd = random.Random(seed)
    drawn, linked = crowded(rnd)
    check(drawn, linked, [rnd.randrange(1, 40)], rnd, rnd.random())


def check(drawn: Any, linked: Any, sizes: Sequence[int], rnd: random.Random, where: float) -> None:
    made = case(drawn, linked)
    done = folded(made, rnd, sizes)
    logs = [log_of(made.logs[0]), log_of(made.logs[1]), log_of(done.log)]
    cuts = [int(len(log) * where) for log in logs]
    for p, (log, cut) in enumerate(zip(logs, cuts, strict=True)):
        after = resumed(log, cut, p)
        assert mismatches(done.memories[p], p, after) == []
        assert_same(after, by_definition(log))
    assert wrong_sums(logs, cuts) == []
    assert len(logs) - 1 == HOME


@pytest.mark.parametrize("where", [0.0, 0.5, 1.0])
def test_cut_anywhere_an_unlink_of_an_id_without_a_record_leaves_none(where: float) -> None:
    one = {"who": 1, "what": "served", "item": "i0", "slate": (1, 0), "named": False, "back": 0}
    check([one], [(1, 2, -3)], [], random.Random(1), where)


@pytest.mark.parametrize("cut", [0, 1, 200, 350, 699, 700])
def test_cut_anywhere_more_slates_than_are_kept_give_the_same(cut: int) -> None:
    log = busy(1)
    assert_same(resumed(log, cut, 0), by_definition(log))
    assert wrong_sums([log], [cut]) == []


def test_a_fact_that_was_skipped_is_found() -> None:
    """The check finds a log whose middle was skipped."""
    log = busy(3)
    held = before(snapshot(log[:300], 0), log[:300], 0)
    reference = Partition(DAY, Sample(None), None, held)
    for offset, timestamp, event in log[330:]:
        reference.take(offset, timestamp, event)
    assert mismatches(fold_log(log), 0, reference)


def test_a_sample_draws_from_those_who_did_nothing_since_too() -> None:
    drawn = [
        {"who": n % 300, "item": "i1", "what": "click", "gap": 1000, "back": 0, "session": "",
         "known": True, "again": False}
        for n in range(450)
    ]  # fmt: skip
    log = build(drawn)

    def sample(cut: int) -> dict[str, Any]:
        reference = resumed(log, cut, 0, sample=40)
        return {name: plainly(it) for name, it in reference.checked.items()}

    assert len(sample(0)) == 40
    assert sample(0) == sample(200) == sample(300) == sample(450)
