"""The fold of several partitions in one read: each one's writes are those of a fold of it alone."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.people.batch import Decoded, Span
from flows.people.fold import PeopleFold
from flows.people.steps import decode
from infra.log_reader import Batch
from models.records import of_events
from models.release.person import Encoder
from schemas import events
from schemas.keys import PLAIN
from schemas.state.fences import Fence
from schemas.state.write import Write
from tests.laws import test_fold_laws, test_link_laws
from tests.laws.test_link_laws import HOME, case, linkings, records_with_money
from tests.laws.world import DAY, T0, Memory, Record, action, log_of, person, served

Logs = dict[int, list[Record]]
Cut = list[dict[int, int]]
"""Of each read, how many records it has of each partition."""
cuts = st.lists(st.dictionaries(st.integers(0, 4), st.integers(0, 15)), min_size=1, max_size=4)


def reads(logs: Logs, cut: Cut) -> Iterator[dict[int, list[Record]]]:
    """The logs in reads: a batch of some of the partitions each."""
    at = dict.fromkeys(logs, 0)
    n = 0
    while any(at[p] < len(log) for p, log in logs.items()):
        sizes = {p: cut[n % len(cut)].get(p, 0) for p in logs}
        if not any(at[p] < len(logs[p]) and size for p, size in sizes.items()):
            sizes = dict.fromkeys(logs, 3)
        read = {p: logs[p][at[p] : at[p] + size] for p, size in sorted(sizes.items()) if size}
        yield {p: records for p, records in read.items() if records}
        for p, size in sizes.items():
            at[p] += size
        n += 1


def decoded(read: dict[int, list[Record]], fold: PeopleFold) -> Decoded:
    """A read of several partitions."""
    joined = [record for records in read.values() for record in records]
    spans, start = [], 0
    for p, records in read.items():
        stop = start + len(records)
        spans.append(Span(p, fold.fence(p).offset, records[-1][0] + 1, start, stop))
        start = stop
    columns = of_events([event for *_, event in joined], [time for _, time, _ in joined])
    return Decoded(columns, np.array([offset for offset, *_ in joined], np.int64), spans)


def folded(logs: Logs, cut: Cut, encoder: Encoder | None = None) -> dict[int, list[Write]]:
    """Each partition's writes by one fold of all."""
    memory, made = Memory(), dict[int, list[Write]]()
    fences = {p: Fence("t", 4, log[0][0], 0, 1) for p, log in logs.items()}
    fold = PeopleFold(fences, memory.fetch, DAY, 5, PLAIN)
    fold.encoder = encoder
    for read in reads(logs, cut):
        for write in fold.fold(fold.dedupe(decoded(read, fold))):
            memory.perform(write)
            made.setdefault(write.partition, []).append(write)
    return made


def check(logs: Logs, cut: Cut) -> None:
    logs = {p: log for p, log in logs.items() if log}
    together = folded(logs, cut)
    for p, log in logs.items():
        sizes = [len(read[p]) for read in reads(logs, cut) if p in read]
        assert together[p] == alone(p, log, sizes)


def alone(partition: int, log: Sequence[Record], sizes: Sequence[int]) -> list[Write]:
    """The writes of one partition's fold."""
    memory, made, at = Memory(), list[Write](), 0
    fences = {partition: Fence("t", 4, log[0][0], 0, 1)}
    fold = PeopleFold(fences, memory.fetch, DAY, 5, PLAIN)
    for size in sizes:
        [write] = fold.fold(fold.dedupe(decoded({partition: list(log[at : at + size])}, fold)))
        memory.perform(write)
        made.append(write)
        at += size
    return made


@settings(deadline=None, max_examples=60)
@given(st.lists(st.lists(test_fold_laws.one_action, max_size=60), min_size=2, max_size=4), cuts)
def test_each_partition_is_folded_as_if_it_were_alone(
    drawn: list[list[dict[str, Any]]], cut: Cut
) -> None:
    """The same people and offsets in all of them."""
    check({p: test_fold_laws.build(it) for p, it in enumerate(drawn)}, cut)


@settings(deadline=None, max_examples=60)
@given(records_with_money, linkings, st.randoms(use_true_random=False), cuts)
def test_each_is_folded_as_if_it_were_alone_with_links_and_slates(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], rnd: Any, cut: Cut
) -> None:
    made = case(drawn, linked)
    home = test_link_laws.folded(made, rnd).log
    check({p: log_of(it) for p, it in {**made.logs, HOME: home}.items()}, cut)


@pytest.mark.parametrize("key", [PLAIN.row, PLAIN.seen, PLAIN.open_slates, PLAIN.overflow])
def test_a_value_that_cannot_be_read_takes_out_its_partition_alone(key: Any) -> None:
    memory = Memory()
    logs: Logs = {p: log_of(busy()) for p in range(3)}
    fences = {p: Fence("t", 4, 0, 0, 1) for p in logs}
    whole = folded(logs, [dict.fromkeys(logs, 400)])
    memory.values[key(1, person(1))] = b"\xff\xffno such value"
    fold = PeopleFold(fences, memory.fetch, DAY, 100, PLAIN)
    if key == PLAIN.overflow:
        memory.values[PLAIN.row(1, person(1))] = overflowing_row()
    writes = fold.fold(fold.dedupe(decoded(logs, fold)))
    assert list(fold.faults) == [1]
    assert writes == [*whole[0], *whole[2]]
    del memory.values[key(1, person(1))]
    memory.values.pop(PLAIN.row(1, person(1)), None)
    fold.begin(1, fences[1])
    assert fold.fold(fold.dedupe(decoded({1: logs[1]}, fold))) == whole[1]
    assert not fold.faults


def test_a_partition_without_a_record_that_decodes_moves_on() -> None:
    """A read may hold nothing else of it, or hold it beside others."""
    fences = {p: Fence("t", 4, 0, 0, 1) for p in range(2)}
    good = [events.encode(action(n)) for n in range(3)]
    reads_: list[dict[int, list[bytes | None]]] = [
        {0: [b"no json"]},
        {0: [b"no json", None], 1: [*good]},
    ]
    for values in reads_:
        fold = PeopleFold(fences, Memory().fetch, DAY, 5, PLAIN)
        read, letters = decode(
            [
                Batch(p, 0, len(its), list(range(len(its))), [T0 + DAY] * len(its), its)
                for p, its in values.items()
            ]
        )
        writes = fold.fold(fold.dedupe(read))
        assert [(it.partition, it.fence.offset) for it in writes] == [
            (p, len(its)) for p, its in values.items()
        ]
        assert [it.reason for it in letters] == ["not_json", "empty"][: len(letters)]
        assert writes[0].values == {}


def busy() -> list[events.Event]:
    """More of one person than their list holds, a slate, and others."""
    many: list[events.Event] = [action(n, 1, f"i{n}", "click") for n in range(330)]
    slate = served("s1", ["i1", "i2"], at=T0)
    others: list[events.Event] = [action(n, 2 + n % 3, f"i{n}") for n in range(1000, 1020)]
    return [slate, *many, action(999, 1, "i1", slate_id="s1"), *others]


def overflowing_row() -> bytes:
    """A row that says that its person has an overflow."""
    memory = Memory()
    from models.features.registry import pack_rows, read_rows

    one = folded({1: log_of([action(1)])}, [{1: 1}])
    memory.perform(one[1][0])
    rows = read_rows([memory.values[PLAIN.row(1, person(1))]])
    rows["flags"] |= 2
    return pack_rows(rows)[0]
