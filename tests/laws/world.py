"""A log, cut into batches as a test pleases, folded into a dict that performs writes as Redis does."""

from __future__ import annotations

import struct
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

from flows.people.batch import read_of
from flows.people.fold import PeopleFold
from models.aggregates.tables import Tables
from models.outcomes.join import REACH
from models.outcomes.touched import Reach
from models.release.person import Encoder
from models.seen import MAX_ITEMS
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.events import Assigned, Served
from schemas.keys import PLAIN
from schemas.state import facts
from schemas.state.fences import Fence
from schemas.state.write import Write

T0 = 1_760_000_000_000
DAY = 86_400_000
Record = tuple[int, int, events.Event]
"""(offset, record time, event)."""


def person(n: int) -> Pseudonym:
    return Pseudonym(f"{n:032x}")


def action(
    n: int, who: int = 1, item: str = "i1", what: str = "click", **more: Any
) -> events.Action:
    """Action number n of a log: its event id is n, its time n seconds after T0, unless given."""
    at = int(more.pop("at", T0 + n * 1000))
    fields = {
        "event_id": f"e{n}",
        "person": person(who),
        "item_id": item,
        "action": what,
        "occurred_at": at,
        "received_at": at,
        "category": f"c{len(item) % 3}",
        "known": True,
        **more,
    }
    return events.Action(**fields)


def served(
    slate: str, items: Sequence[str] = ("i1",), who: int = 1, at: int = T0, **more: Any
) -> Served:
    fields = {
        "person": person(who),
        "slate_id": slate,
        "placement": "home",
        "received_at": at,
        "items": tuple(items),
        **more,
    }
    return Served(**fields)


def assigned(experiment: str = "x", variant: str = "a", version: int = 1) -> Assigned:
    return Assigned(experiment, version, variant)


def log_of(made: Sequence[events.Event], start: int = 0) -> list[Record]:
    return [(start + n, T0 + n * 1000, event) for n, event in enumerate(made)]


class Memory:
    """The store as plain values: the keys that a partition's flow would write to Redis."""

    def __init__(self) -> None:
        self.values: dict[bytes, bytes] = {}
        self.hashes: dict[bytes, dict[bytes, bytes]] = {}
        self.streams: dict[bytes, list[tuple[bytes, dict[bytes, bytes]]]] = {}
        self.counts: Counter[str] = Counter()
        """What the folds counted: no state, batches may count differently."""

    def fetch(self, names: Sequence[bytes]) -> list[bytes | None]:
        return [self.values.get(name) for name in names]

    def perform(self, write: Write) -> None:
        self.values.update(write.values)
        for key, data in write.appends.items():
            self.values[key] = self.values.get(key, b"") + data
        for key, mapping in write.fields.items():
            self.hashes.setdefault(key, {}).update(mapping)
        for entry in write.entries:
            self.streams.setdefault(entry.key, []).append((entry.id, entry.fields))
        for key in write.deleted:
            self.values.pop(key, None)
        self.counts.update(write.counts)

    def state(self) -> dict[bytes, object]:
        """Everything that must not depend on how the log was cut: the delta log's entries joined."""
        streams = {key: list(entries) for key, entries in self.streams.items() if key[:2] != b"dl"}
        return {**self.values, **self.hashes, **streams}

    def all_facts(self, partition: int = 0) -> list[tuple[Any, ...]]:
        """Facts about actions one by one, at their offset in the log."""
        found: list[tuple[Any, ...]] = []
        for entry in self.entries(partition):
            at = 0
            for i, pairs in enumerate(entry.actions.pairs.tolist()):
                a = entry.actions
                found.append(
                    (
                        entry.first + int(a.delta[i]),
                        int(a.item[i]),
                        int(a.time[i]),
                        int(a.action[i]),
                        tuple(a.partner[at : at + pairs].tolist()),
                        tuple(a.lag[at : at + pairs].tolist()),
                    )
                )
                at += pairs
        return found

    def entries(self, partition: int = 0) -> list[facts.Delta]:
        log = self.streams.get(PLAIN.deltas(partition), [])
        return [facts.decode(fields[facts.FIELD]) for _, fields in log]

    def arms(self, partition: int = 0) -> list[tuple[object, ...]]:
        """(offset, placement, item, state, explored, reward) of each fact about arms."""
        return [row for entry in self.entries(partition) for row in rows_of(entry, entry.arms)]

    def moments(self, partition: int = 0) -> list[tuple[Any, ...]]:
        """(offset, experiment, version, variant, before, after) of each fact about moments."""
        return [row for entry in self.entries(partition) for row in rows_of(entry, entry.moments)]

    def money(self, partition: int = 0) -> list[tuple[Any, ...]]:
        """(offset, item, currency, amount, quantity, purchases) of each fact about money."""
        return [row for entry in self.entries(partition) for row in rows_of(entry, entry.money)]

    def backs(self, partition: int = 0) -> list[tuple[Any, ...]]:
        """(offset, item, s, action) of each fact that takes back another."""
        found: list[tuple[Any, ...]] = []
        for entry in self.entries(partition):
            a = entry.actions
            columns = (a.delta + entry.first, a.item, a.time, a.action, a.flags)
            rows = zip(*(column.tolist() for column in columns), strict=True)
            found += [row[:4] for row in rows if row[4] & facts.BACK]
        return found

    def tables(self, partitions: int = 1) -> Tables:
        made = Tables(partitions)
        for p in range(partitions):
            for entry in self.entries(p):
                made.apply(p, entry)
        return made


def rows_of(
    entry: facts.Delta, section: facts.Arms | facts.Moments | facts.Money
) -> list[tuple[Any, ...]]:
    """The facts of a section as plain values, at their offset in the log."""
    columns = [entry.first + section.delta.astype("i8"), *section[1:]]
    return [
        tuple(tuple(value) if isinstance(value, list) else value for value in row)
        for row in zip(*(column.tolist() for column in columns), strict=True)
    ]


def cuts(length: int, sizes: Iterable[int]) -> list[slice]:
    """The whole length in pieces of these sizes, over and over."""
    pieces: list[slice] = []
    at, sizes = 0, list(sizes) or [length]
    while at < length:
        size = max(1, sizes[len(pieces) % len(sizes)])
        pieces.append(slice(at, min(at + size, length)))
        at += size
    return pieces


def fold_log(
    log: Sequence[Record],
    sizes: Iterable[int] = (),
    *,
    memory: Memory | None = None,
    restart: bool = False,
    hours: float = 24,
    partition: int = 0,
    encoder: Encoder | None = None,
    reach: Reach = REACH,
    max_seen: int = MAX_ITEMS,
    strangers: int = 0,
) -> Memory:
    """Folds a log in batches of these sizes; `restart`: a new worker for each batch."""
    memory = memory or Memory()
    span = int(hours * 3_600_000)
    fold, fence = None, Fence("t", 4, log[0][0] if log else 0, 0, 1)
    for piece in cuts(len(log), sizes):
        if fold is None or restart:
            fences = {partition: fence}
            fold = PeopleFold(fences, memory.fetch, span, 10, PLAIN, reach, max_seen, strangers)
            fold.remember_received(partition, memory.hashes.get(PLAIN.received(partition), {}))
            fold.remember_tallies(partition, memory.hashes.get(PLAIN.tallies(partition), {}))
            fold.encoder = encoder
        write = write_of(fold, log[piece], partition)
        memory.perform(write)
        fence = write.fence
    return memory


def write_of(fold: PeopleFold, records: Sequence[Record], partition: int = 0) -> Write:
    """The write of the next records of one partition."""
    first, next_ = fold.fence(partition).offset, records[-1][0] + 1
    [write] = fold.fold(fold.dedupe(read_of(partition, first, next_, records)))
    return write


def u64s(data: bytes | None) -> list[int]:
    return [n for (n,) in struct.iter_unpack("<Q", data or b"")]
