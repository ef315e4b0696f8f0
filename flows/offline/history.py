"""The history in the log: each person's state at any offset, and the facts between two offsets."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.offline.boundaries import between_frames, boundaries
from flows.offline.fold import Offline
from flows.offline.records import Records, person_hash, recorded
from flows.people.fold import VERSION
from flows.people.steps import decode
from infra.kafka import kafka_client
from infra.lake.log import open_log
from infra.log_reader import Batch, LogReader
from infra.settings import Settings
from models.outcomes.strangers import bucket_of, find, shown
from schemas import events, items
from schemas.items import Item
from schemas.keys import PLAIN
from schemas.state import facts
from schemas.state.facts import Actions, Delta
from schemas.state.fences import Fence
from schemas.topics import EVENTS, ITEMS, Topic

RECORDS_PER_BATCH: Final = 2_000
"""The most of an offline fold; a cut may end a batch early."""


Record = tuple[int, int, events.Event]
"""(offset, record time, event)."""


class Log(NamedTuple):
    """`events[p]`: partition p of the topic, from its beginning, without the `undecodable` records.
    `items`: the catalogue after all changes in the topic `items`."""

    events: list[Records]
    items: list[Item]
    undecodable: int = 0


class Cut(NamedTuple):
    """A point in a person's history: after the records of their partition before `offset`."""

    partition: int
    offset: int
    person: str


class State(NamedTuple):
    """A person's records as stored; None where there is none."""

    row: bytes | None
    seen: bytes | None
    impressions: bytes | None


NO_STATE: Final = State(None, None, None)


class Facts(NamedTuple):
    """Sorted facts: `place` (n,) ascends; `start` (n + 1,) is the index at which each fact's pairs begin."""

    place: NDArray[np.int64]
    actions: Actions
    start: NDArray[np.int64]

    def entry(self, first: int, end: int) -> Delta:
        """The facts with first <= place < end, as an entry of the delta log."""
        lo, hi = np.searchsorted(self.place, [first, end]).tolist()
        a, b = int(self.start[lo]), int(self.start[hi])
        delta = (self.place[lo:hi] - first).astype(np.uint32)
        columns = [column[lo:hi] for column in self.actions[1:-2]]
        pairs = [column[a:b] for column in self.actions[-2:]]
        return Delta(first, end, Actions(delta, *columns, *pairs))  # type: ignore[arg-type]

    def entries(self, first: int, end: int) -> tuple[Delta, ...]:
        """The same, in one entry."""
        return (self.entry(first, end),)


def read(settings: Settings) -> Log:
    """Reads `events` and `items`, each partition from its beginning: from the lake as far as it reaches, then
    from the broker. Errors: `KafkaError`, `OffTheLog`, `LakeError`."""
    partitions = kafka_client.ensure_topics(settings)[EVENTS.name].partitions
    log = open_log(settings)
    records = [Records() for _ in range(partitions)]
    undecodable = 0
    for batch in _batches(log, EVENTS, partitions):
        decoded, letters = decode([batch])
        records[batch.partition].extend(decoded.records)
        undecodable += len(letters)
    held: dict[str, Item | None] = {}
    for batch in _batches(log, ITEMS, partitions):
        for value in batch.values:
            change = items.decode(value or b"")
            name = change.item.item_id if isinstance(change, items.PutItem) else change.item_id
            held[name] = items.apply(change, held.get(name))
    return Log(records, [item for item in held.values() if item is not None], undecodable)


def _batches(log: LogReader, topic: Topic, partitions: int) -> Iterable[Batch]:
    for partition in range(partitions):
        yield from log.read(topic.name, partition, 0, log.bounds(topic.name, partition)[1])


def fold(log: Log, cuts: Iterable[Cut], settings: Settings) -> tuple[dict[Cut, State], list[Facts]]:
    """The state at each cut, and each partition's facts, as `people` would make them of this log."""
    wanted, states, all_facts = list(cuts), dict[Cut, State](), list[Facts]()
    for partition in range(len(log.events)):
        entries: list[Delta] = []
        states |= fold_partition(log, partition, wanted, settings, entries.append)
        all_facts.append(_joined(entries))
    return states, all_facts


def fold_partition(
    log: Log,
    partition: int,
    cuts: Iterable[Cut],
    settings: Settings,
    take: Callable[[Delta], object],
) -> dict[Cut, State]:
    """The state at each of `cuts` that lies in this partition. `take` gets each batch's entry of the delta
    log, in order."""
    records = recorded(log.events[partition])
    mine = [cut for cut in dict.fromkeys(cuts) if cut.partition == partition]
    people = Offline(settings, partition, Fence("", len(log.events), 0, 0, VERSION))
    places = records.at_offsets(np.array([cut.offset for cut in mine], np.int64))
    stops, read_at = boundaries(
        records.column("person"),
        places,
        np.array([person_hash(cut.person) for cut in mine], np.uint64),
        RECORDS_PER_BATCH,
    )
    stops, read_at = between_frames(records.column("offset"), stops, places, read_at)
    due: dict[int, list[Cut]] = defaultdict(list)
    for cut, stop in zip(mine, read_at, strict=True):
        due[stop].append(cut)
    states = dict.fromkeys(due.pop(0, ()), NO_STATE)
    first = 0
    for stop in stops:
        if first < stop:
            take(people.fold_values(records.values_between(first, stop)))
            first = stop
        for cut in due.pop(stop, ()):
            states[cut] = _state(people, cut)
    return states


def _state(people: Offline, cut: Cut) -> State:
    named = (PLAIN.row, PLAIN.seen, PLAIN.impressions)
    found = State(*(people.get(key(cut.partition, cut.person)) for key in named))
    if found.row is not None or found.impressions is not None:
        return found
    bucket = people.get(PLAIN.strangers_bucket(cut.partition, bucket_of(cut.person)))
    entry = find(bucket, cut.person) if bucket else None
    return found._replace(impressions=shown(entry)) if entry else found


def _joined(entries: Sequence[Delta]) -> Facts:
    place = [entry.first + entry.actions.delta.astype(np.int64) for entry in entries]
    return _facts(
        np.concatenate([np.empty(0, np.int64), *place]), [entry.actions for entry in entries]
    )


def by_time(partitions: Sequence[Facts]) -> Facts:
    """The facts of all partitions, sorted by time; `place` is the index in that order, from 0."""
    joined = _facts(np.empty(0, np.int64), [each.actions for each in partitions])
    order = np.argsort(joined.actions.time, kind="stable")
    pairs = joined.actions.pairs[order].astype(np.int64)
    stops = np.cumsum(pairs)
    of_pairs = np.repeat(joined.start[:-1][order] - (stops - pairs), pairs) + np.arange(pairs.sum())
    columns = [column[order] for column in joined.actions[:-2]]
    pair_columns = [column[of_pairs] for column in joined.actions[-2:]]
    actions = Actions(*columns, *pair_columns)  # type: ignore[arg-type]
    return _facts(np.arange(len(order)), [actions])


def _facts(place: NDArray[np.int64], actions_of_batches: Sequence[Actions]) -> Facts:
    none = facts.NO_ACTIONS
    columns: list[Any] = [
        np.concatenate(column) for column in zip(none, *actions_of_batches, strict=True)
    ]
    actions = Actions(*columns)
    start = np.concatenate([[0], np.cumsum(actions.pairs, dtype=np.int64)])
    return Facts(place, actions, start)
