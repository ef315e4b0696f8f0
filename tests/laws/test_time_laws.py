"""Law 14: no claim of an event moves time. Whatever a record says, its own timestamp bounds it."""

from __future__ import annotations

import ast
import types
import typing
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from flows.offline import history
from flows.offline.fold import Offline
from flows.offline.history import Log
from flows.offline.records import Records
from flows.offline.view import Distinct
from flows.people.cold import last_seen
from flows.people.fold import VERSION
from flows.people.steps import decode
from flows.verify.walk import Walk
from infra.apps.replay.world import in_time_order
from infra.apps.train.log import interactions
from infra.settings import Settings
from models.aggregates.popularity import HALF_LIVES
from models.aggregates.tables import Tables
from models.features import ring
from models.features.affinity import affinity
from models.features.registry import FEATURES, read_row
from models.outcomes import impressions, open_slates
from models.reference.partition import Partition
from models.reference.sample import Sample
from schemas import events, keys
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.record_time import MILLIS, SECONDS
from schemas.state import facts
from schemas.state.fences import Fence
from tests.laws.test_fold_laws import build, one_action
from tests.laws.world import DAY, T0, action, fold_log, log_of, person, served
from tests.support.offline import MemoryLog

ROOT = Path(__file__).resolve().parents[2]
OF_2062 = 2_919_000_000_000
LATEST = 4_102_444_800_000


class State(NamedTuple):
    """Everything that folding and reading a log of one partition yields."""

    people: Offline
    entries: list[facts.Delta]
    log: Log
    newest: int
    """Highest timestamp of a record, ms."""

    @property
    def tables(self) -> Tables:
        made = Tables(1)
        for entry in self.entries:
            made.apply(0, entry)
        return made

    def rows(self) -> list[np.void]:
        return [
            read_row(value) for key, value in self.people.pairs() if key.startswith(keys.ROW + b":")
        ]


def folded(log: MemoryLog, size: int = 20_000) -> State:
    end = log.end_offsets[0]
    people = Offline(Settings(), 0, Fence("t", 1, 0, 0, VERSION))
    entries = [people.fold(batch) for batch in log.read("events", 0, 0, end, size)]
    records = [it for batch in log.read("events", 0, 0, end) for it in decode([batch])[0].records]
    return State(
        people, entries, Log([Records(records)], []), max(at for at, _ in log.partitions[0])
    )


def claimed(log: Sequence[tuple[int, int, events.Event]], ahead: Sequence[int]) -> MemoryLog:
    """The log, in which the records at `ahead` claim to be of 2062."""
    made = []
    for offset, timestamp, event in log:
        if offset in ahead and isinstance(event, events.Action):
            event = msgspec.structs.replace(event, occurred_at=OF_2062, received_at=OF_2062)
        made.append((timestamp, events.encode(event)))
    return MemoryLog([made])


def honest(log: Sequence[tuple[int, int, events.Event]], ahead: Sequence[int]) -> MemoryLog:
    """The log, in which those records say the time at which they were written."""
    made = []
    for offset, timestamp, event in log:
        if isinstance(event, events.Action):
            times = (
                (timestamp, timestamp)
                if offset in ahead
                else (event.occurred_at, event.received_at)
            )
            at, received = (min(time, timestamp) for time in times)
            event = msgspec.structs.replace(event, occurred_at=at, received_at=received)
        made.append((timestamp, events.encode(event)))
    return MemoryLog([made])


@given(
    st.lists(one_action, min_size=1, max_size=60),
    st.sets(st.integers(0, 59), max_size=8),
    st.integers(1, 40),
)
def test_a_log_that_claims_2062_folds_to_what_an_honest_one_does(
    drawn: list[dict[str, object]], ahead: set[int], size: int
) -> None:
    """So that a rebuild cures a state that such events had spoilt: it folds the log as it is."""
    log = [(offset, T0 + offset * DAY // 9, event) for offset, _, event in build(drawn)]
    one, other = (folded(make(log, sorted(ahead)), size) for make in (claimed, honest))
    assert one.people.state == other.people.state
    assert [facts.encode(it) for it in one.entries] == [facts.encode(it) for it in other.entries]
    assert list(one.log.events[0]) == list(other.log.events[0])
    newest = one.newest
    for name, latest in READERS.items():
        assert latest(one) <= newest, name


def _ring(it: State) -> int:
    entries = [ring.recent(row) for row in it.rows()]
    return max(
        (int((1000 * e["time"].astype("i8") + e["ms"]).max(initial=0)) for e in entries), default=0
    )


def _session(it: State) -> int:
    """The session's newest action is the person's newest."""
    return max((int(row[name]) for row in it.rows() for name in ("newest", "first")), default=0)


def _facts(it: State) -> int:
    return max((1000 * int(e.actions.time.max(initial=0)) for e in it.entries), default=0)


def _landmarks(it: State) -> int:
    made = it.tables
    marks = [*made.popularity.landmarks, made.pairs.landmark]
    return max(int(1000 * mark.at) for mark in marks)


def _affinity(it: State) -> int:
    """The moment from which on every affinity fades: the newest of all its terms."""
    at, half = it.newest, 60_000
    for row in it.rows():
        one, other = affinity(row, at, half)[1], affinity(row, at + half, half)[1]
        if not np.allclose(other, one / 2):
            return at + half
    return at


def _split(it: State) -> int:
    return int(interactions(it.log).time.max(initial=0))


def _evaluation(it: State) -> int:
    actions = [entry.actions for entry in it.entries]
    return 1000 * max((int(each.time.max(initial=0)) for each in actions), default=0)


def _last_seen(it: State) -> int:
    """By it a person goes to the cold tier."""
    return max(
        (
            last_seen({keys.ROW: value})
            for key, value in it.people.pairs()
            if key.startswith(keys.ROW + b":")
        ),
        default=0,
    )


def _window(it: State) -> int:
    return it.people.fence.newest


READERS: dict[str, Callable[[State], int]] = {
    "list": _ring,
    "session": _session,
    "popularity, co-visitation": _landmarks,
    "facts": _facts,
    "affinity": _affinity,
    "the trainer's split": _split,
    "evaluation": _evaluation,
    "retention": _last_seen,
    "window of de-duplication": _window,
}
"""The latest time (ms) that each reader of event times has taken from a log."""


def test_one_view_of_2062_leaves_all_else_as_popular_as_it_was() -> None:
    """`field/01`: everything else was worth 0.0 for ever, also after a rebuild."""
    made = [action(n, n, f"i{n % 3}") for n in range(30)]
    log = log_of(
        [*made, action(30, 31, "i9", "view"), *(action(n, n, "i1") for n in range(31, 40))]
    )
    state = folded(claimed(log, [30]))
    tables, now = state.tables, state.newest / 1000
    for column in range(len(HALF_LIVES)):
        sums = tables.popularity.landmarks[column].now(tables.popularity.sums[:, column], now)
        by_item = dict(zip(tables.items.hashes.tolist(), sums.tolist(), strict=False))
        assert by_item[item_hash("i1")] > by_item[item_hash("i9")] > 0.9
        assert by_item[item_hash("i0")] > 1.9 * by_item[item_hash("i9")]
    assert int(max(state.entries[0].actions.time)) * 1000 <= state.newest


def test_the_next_action_goes_on_with_the_session_of_one_that_claimed_2062() -> None:
    log = log_of([action(0, item="i0"), action(1, item="i1"), action(2, item="i2")])
    state = folded(claimed(log, [1]))
    [row] = state.rows()
    for feature in FEATURES:
        assert feature.value(row) == feature.value(folded(honest(log, [1])).rows()[0]), feature.name
    partners = [it.partner.tolist() for it in (state.entries[0].actions,)]
    assert partners == [[item_hash("i0"), item_hash("i1"), item_hash("i0")]]


def test_verify_and_the_view_of_distinct_events_read_the_same_times() -> None:
    log = claimed(log_of([action(n, n % 3, f"i{n}") for n in range(20)]), [3, 4, 12])
    walk = Walk(log, 0, Partition(DAY, Sample(None)))
    walk.advance_to(20)
    state = folded(log)
    for who in range(3):
        [kept] = [it for name, it in walk.reference.checked.items() if name == person(who)]
        row = read_row(state.people.get(PLAIN.row(0, person(who))))
        assert {f.name: f.value(row) for f in FEATURES} == kept.features()
    for batch in log.read("events", 0, 0, 20):
        for _, timestamp, event in Distinct(DAY).take(batch).records:
            assert event.received_at <= timestamp


def test_slates_and_impressions_of_2062_are_of_their_records_time() -> None:
    shown = served("s1", ["i1", "i2"], at=OF_2062)
    log = MemoryLog([[(T0, events.encode(shown)), (T0 + 5000, events.encode(action(1, at=T0)))]])
    people = folded(log).people
    row = impressions.read(people.get(PLAIN.impressions(0, person(1))))
    assert row["last"].tolist() == [T0 // 1000] * 2
    [slate] = open_slates.decode(people.get(PLAIN.open_slates(0, person(1)))).slates
    assert slate.at == T0


def far(kind: type, depth: int = 0) -> Any:
    """A record of this kind in which every integer is a time far ahead, and every list has an entry."""
    hints = typing.get_type_hints(kind)
    return kind(**{name: _far(hint, depth) for name, hint in hints.items() if name != "__doc__"})


def _far(hint: Any, depth: int) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin is typing.Union or origin is types.UnionType:
        return _far(arguments[0], depth)
    if origin is tuple:
        return tuple(_far(each, depth) for each in arguments if each is not Ellipsis)
    if origin is typing.Literal:
        return arguments[0]
    if origin is dict:
        return {}
    if isinstance(hint, type) and issubclass(hint, msgspec.Struct):
        return far(hint, depth + 1)
    if hint is int:
        return LATEST
    if hint is bytes:
        return b""
    if hint in (float, bool):
        return hint(1)
    return "a" * 32


@pytest.mark.parametrize("kind", events.EVERY_KIND)
def test_no_time_in_a_record_is_later_than_its_timestamp(kind: type) -> None:
    """Whatever a record holds at any depth, under a name of a time."""
    made = events.decode(events.encode(far(kind)), T0)
    found: list[tuple[str, int]] = []

    def look(value: Any) -> None:
        for name in value.__struct_fields__:
            held = getattr(value, name)
            if name in MILLIS | SECONDS:
                found.append((name, held * (1000 if name in SECONDS else 1)))
            for each in held if isinstance(held, tuple) else (held,):
                if isinstance(each, msgspec.Struct):
                    look(each)

    look(made)
    assert found
    assert [(name, at) for name, at in found if at > T0] == []


def test_a_record_without_a_timestamp_is_of_1970() -> None:
    """A broker shows -1 for it. It moves nothing, and no row holds a negative time."""
    made = events.decode(events.encode(action(1)), -1)
    assert isinstance(made, events.Action)
    assert (made.occurred_at, made.received_at) == (0, 0)


STORED = {
    "schemas/events.py",
    "schemas/lake.py",  # its columns keep what the record says
    "flows/offline/records.py",  # its own packed records, which were bounded when they were read
    "flows/verify/person_records.py",  # preferences, as stored in Redis
    "models/reference/before.py",  # the same, in a snapshot
}


def test_every_reader_of_the_log_bounds_its_times() -> None:
    """No module but those of `STORED` decodes an event without its record's timestamp."""
    found = set()
    for room in ("flows", "infra", "models", "schemas", "serving"):
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Attribute) and ast.unparse(node) in (
                    "events.DECODER",
                    "events.DECODER.decode",
                    "events.decode_stored",
                ):
                    found.add(str(path.relative_to(ROOT)))
                if isinstance(node, ast.ImportFrom) and node.module == "schemas.events":
                    assert not {it.name for it in node.names} & {"DECODER", "decode_stored"}
    assert found <= STORED


def test_facts_of_evaluation_are_in_the_order_of_bounded_times() -> None:
    log = claimed(log_of([action(n, n % 3, f"i{n}") for n in range(9)]), [2])
    state = folded(log)
    _, partitions = history.fold(state.log, [], Settings())
    assert in_time_order(partitions)[-1] * 1000 <= state.newest
    assert fold_log(state.log.events[0]).state() == folded(log).people.state
