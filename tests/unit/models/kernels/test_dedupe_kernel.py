"""De-duplication and slots by the kernel are what numpy and a dictionary give."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.dedupe import Deduper
from models.kernels.loading import kernel, missing
from models.slots import FIRST_ENTRIES, SlotTable

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)

NEWEST: Final = 40
# a bucket is 5 wide; ids that share a slot, and slots at the table's end
IDS: Final = st.sampled_from([0, 1, 2, 3, 1 << 60, (1 << 60) + 1, 2**64 - 1, 2**64 - 2])
TIMES: Final = st.integers(0, 90) | st.integers(-20, 10_000)
BATCHES: Final = st.lists(st.lists(st.tuples(IDS, TIMES), max_size=12), min_size=1, max_size=5)


@given(st.dictionaries(st.integers(4, 8), st.lists(IDS.filter(bool)), max_size=3), BATCHES)
def test_fresh_ids_by_the_kernel(
    loaded: dict[int, list[int]], batches: list[list[tuple[int, int]]]
) -> None:
    """Answers and ids to store alike, in their order; so a record of one is that of the other."""
    compiled, plain = Deduper(20, NEWEST), Deduper(20, NEWEST)
    for bucket, held in loaded.items():
        for deduper in (compiled, plain):
            deduper.load(bucket, np.array(held, np.uint64))
    for batch in batches:
        ids = np.array([id_ for id_, _ in batch], np.uint64)
        times = np.array([time for _, time in batch], np.int64)
        fresh, stored, gone = compiled.fresh(ids, times)
        wanted, wanted_stored, wanted_gone = plain.fresh_by_numpy(ids, times)
        assert fresh.tolist() == wanted.tolist()
        assert {bucket: it.tolist() for bucket, it in stored.items()} == {
            bucket: it.tolist() for bucket, it in wanted_stored.items()
        }
        assert (gone, compiled.newest) == (wanted_gone, plain.newest)


def test_tables_of_ids_grow() -> None:
    ids = np.random.default_rng(1).integers(1, 2**63, 5_000, np.uint64)
    deduper = Deduper(20)
    times = np.full(len(ids), 3, np.int64)
    for at in range(0, len(ids), 100):
        assert deduper.fresh(ids[at : at + 100], times[at : at + 100])[0].all()
        assert not deduper.fresh(ids[: at + 100], times[: at + 100])[0].any()


@given(BATCHES)
def test_fresh_ids_do_not_depend_on_the_batches(batches: list[list[tuple[int, int]]]) -> None:
    one, split = Deduper(20, NEWEST), Deduper(20, NEWEST)
    columns = [
        (np.array([i for i, _ in it], np.uint64), np.array([t for _, t in it], np.int64))
        for it in [[record for batch in batches for record in batch], *batches]
    ]
    whole = one.fresh_by_numpy(*columns[0])[0]
    assert whole.tolist() == [new for it in columns[1:] for new in split.fresh(*it)[0].tolist()]


PEOPLE: Final = st.lists(
    st.tuples(st.integers(0, 3), IDS, st.integers(0, 2)), unique=True, max_size=12
)


@given(st.lists(PEOPLE, min_size=1, max_size=4))
def test_slots_by_the_kernel(groups: list[list[tuple[int, int, int]]]) -> None:
    compiled, plain = SlotTable(), SlotTable(None)
    for n, group in enumerate(groups):
        partition = np.array([it[0] for it in group], np.int64)
        person, person2 = (np.array([it[i] for it in group], np.uint64) for i in (1, 2))
        names = partition, person, person2
        found = compiled.find(*names)
        assert found.tolist() == plain.find(*names).tolist()
        slots = np.arange(len(group)) + 100 * n
        compiled.add(*names, slots)
        plain.add(*names, slots)
        assert compiled.find(*names).tolist() == plain.find(*names).tolist() == slots.tolist()
        assert len(compiled) == len(plain)


def test_a_table_of_slots_grows_and_is_cleared() -> None:
    random = np.random.default_rng(1)
    n = FIRST_ENTRIES * 5
    person, person2 = random.integers(0, 2**63, (2, n), np.uint64)
    partition, slots, table = random.integers(0, 4, n), np.arange(n), SlotTable()
    for at in range(0, n, 300):
        some = slice(at, at + 300)
        table.add(partition[some], person[some], person2[some], slots[some])
    assert (table.find(partition, person, person2) == slots).all()
    assert (table.find(partition + 4, person, person2) == -1).all()
    table.clear()
    assert (table.find(partition, person, person2) == -1).all()


def test_one_person_of_many_partitions_has_a_slot_in_each() -> None:
    n, table = 3_000, SlotTable()
    partition, slots, person = np.arange(n), np.arange(n)[::-1].copy(), np.full(n, 7, np.uint64)
    table.add(partition, person, person, slots)
    assert (table.find(partition, person, person) == slots).all()
    assert (table.find(partition + n, person, person) == -1).all()
