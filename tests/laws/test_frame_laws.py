"""Served records in frames, cut anywhere, are folded and stored as if each were a single record."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import pairwise
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.offline import history
from flows.offline.fold import Offline
from flows.offline.records import recorded
from flows.people.fold import VERSION
from infra.frames import cut, framed, spread
from infra.lake.write import columns
from infra.log_reader import Batch
from infra.settings import Settings
from models.outcomes import strangers
from schemas import events
from schemas.events import Link, Served
from schemas.headers import traced
from schemas.keys import PLAIN
from schemas.lake import BY_TOPIC
from schemas.record import Record
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from tests.laws.world import T0, action, assigned, person, served

TRACE = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
GUEST = 1
"""Is linked to another person in most logs: what concerns the guest is sent as merges."""
Place = tuple[int, int]

people = st.sampled_from([GUEST, GUEST, 2, 3, 4])
steps = st.one_of(
    st.tuples(st.just("served"), people, st.integers(0, 12)),
    st.tuples(st.just("served"), people, st.integers(0, 12)),
    st.tuples(st.sampled_from(["click", "display", "purchase"]), people, st.integers(0, 12)),
    st.tuples(st.just("link"), st.just(GUEST), st.integers(2, 4)),
    st.tuples(st.just("bad"), people, st.just(0)),
)


def made(log: Sequence[tuple[str, int, int]]) -> list[Record]:
    """The records of a log, as serving and the edge write them."""
    found = []
    for n, (what, who, name) in enumerate(log):
        at, headers = T0 + n * 1000, EVENTS.headers
        event: events.Event
        if what in ("served", "bad"):
            event = served(f"s{name}", (f"i{name}", "i1"), who, at, experiments=(assigned(),))
            headers = traced(headers, TRACE if n % 3 == 0 else b"")
        elif what == "link":
            event = Link(event_id=f"l{n}", person=person(who), to=person(name), received_at=at)
        else:
            event = action(n, who, f"i{name}", what, at=at, slate_id=f"s{name}")
        value = events.encode(event)
        if what == "bad":
            value = value.replace(b'"placement":"home"', b'"placement":7')
        found.append(Record(person(who).encode(), 0, value, headers))
    return found


def batches(records: Sequence[Record], stops: Sequence[int], frames: bool) -> Iterator[Batch]:
    """The records up to each of `stops` together: in frames where that may be, else single ones; all those
    between two stops have one time."""
    first = 0
    for n, (start, end) in enumerate(pairwise([0, *stops])):
        group, runs = list(records[start:end]), [list[Record]()]
        for it in group:
            if not it.value.startswith(b'{"kind":"served"'):
                runs += [[it], []]
            else:
                runs[-1].append(it)
        joined = [it for run in runs for it in framed(EVENTS.name, run)] if frames else group
        next_ = first + len(joined)
        yield spread(
            EVENTS.name,
            Batch(
                0,
                first,
                next_,
                list(range(first, next_)),
                [T0 + n] * len(joined),
                [it.value for it in joined],
                keys=[it.key for it in joined],
                headers=[it.headers for it in joined],
            ),
        )
        first = next_


class Folded:
    """What the fold makes of batches, without their offsets. `places`: of each record."""

    def __init__(self, read: Sequence[Batch]) -> None:
        fold = _offline()
        self.places: list[Place] = []
        self.arms: list[tuple[Any, ...]] = []
        for batch in read:
            indexes = batch.indexes or [0] * len(batch.offsets)
            self.places += zip(batch.offsets, indexes, strict=True)
            delta = fold.fold(batch)
            _, *arms = delta.arms
            self.arms += zip(*(np.asarray(it).tolist() for it in arms), strict=True)
        self.state, self.received, self.tallies = fold.state, fold.received, fold.tallies
        self.state.pop(PLAIN.strangers(0), None)  # an offset
        self.dead, self.events = fold.dead, fold.events
        self.sent = [
            events.decode_stored(it.fields[b"v"]) for it in fold.outbox if b"v" in it.fields
        ]


@settings(max_examples=30)
@given(st.lists(steps, min_size=1, max_size=30), st.data())
def test_any_frames_give_the_same_state_the_same_merges_and_the_same_rows(
    log: list[tuple[str, int, int]], data: st.DataObject
) -> None:
    if data.draw(st.booleans()):
        log = [("link", GUEST, 2), *log]
    records = made(log)
    stops = sorted({*data.draw(st.lists(st.integers(1, len(log)), max_size=4)), len(log)})
    single, joined = (list(batches(records, stops, frames)) for frames in (False, True))
    size = data.draw(st.integers(1, 9))
    alone = Folded(single)
    together = Folded([part for batch in joined for part in cut(batch, size)])
    assert together.events == len(records)
    for name in ("state", "received", "tallies", "dead", "arms"):
        assert getattr(together, name) == getattr(alone, name), name
    assert [_sent(it, together.places) for it in together.sent] == [
        _sent(it, alone.places) for it in alone.sent
    ]
    rows, others = (
        columns(BY_TOPIC[EVENTS.name], each).drop_columns(["offset", "index"])
        for each in (joined, single)
    )
    assert rows == others
    assert len(set(together.places)) == len(records)


def _sent(merge: Any, places: Sequence[Place]) -> tuple[object, ...]:
    """A merge, named by the number of its record in the log where it is of a served one."""
    if not isinstance(merge.served, Served):
        return (merge.of, merge.counts, merge.link, merge.recent)
    return (places.index((merge.offset, merge.n - 1)), merge.of, merge.served, merge.person)


@settings(max_examples=20)
@given(st.lists(steps, min_size=4, max_size=30), st.lists(st.integers(1, 30), max_size=4))
def test_a_state_of_the_past_is_read_between_frames(
    log: list[tuple[str, int, int]], stops: list[int]
) -> None:
    records = [it for it in made(log) if b'"placement":7' not in it.value]
    stops = sorted({*(it for it in stops if it < len(records)), len(records)})
    read = list(batches(records, stops, True))
    parts = [part for batch in read for part in cut(batch, 1)]
    fold, cuts = _offline(), []
    wanted = dict[history.Cut, bytes | None]()
    for part in parts:
        for who in (1, 2, 3):
            at = history.Cut(0, part.first, person(who))
            cuts.append(at)
            bucket = fold.get(PLAIN.strangers_bucket(0, strangers.bucket_of(at.person))) or b""
            entry = strangers.find(bucket, at.person) if bucket else None
            wanted[at] = (
                strangers.shown(entry) if entry else fold.get(PLAIN.impressions(0, at.person))
            )
        fold.fold(part)
    past = [
        (offset, timestamp, events.decode(value or b"", timestamp))
        for part in parts
        for offset, timestamp, value in zip(part.offsets, part.timestamps, part.values, strict=True)
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(history, "RECORDS_PER_BATCH", 3)
        found = history.fold_partition(
            history.Log([recorded(past)], []), 0, cuts, Settings(partitions=4), lambda entry: None
        )
    assert {at: state.impressions for at, state in found.items()} == wanted


def _offline() -> Offline:
    return Offline(Settings(partitions=4), 0, Fence("", 4, 0, 0, VERSION))
