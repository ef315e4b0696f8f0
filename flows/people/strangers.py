"""The strangers of one partition: ids that were shown slates, and have done nothing yet.

A read of an id that nobody has seen must not cost memory for ever. What it was shown lies here, in a ring: of
the newest strangers, by when they were last shown a slate, as the log has it. The first action or link of one
makes it the account of a person. Who leaves the ring before that keeps what was counted, and nothing else.
"""

from __future__ import annotations

from collections import OrderedDict
from functools import lru_cache
from typing import Final

import numpy as np
import xxhash

from flows.people.batch import Effects, Span
from flows.people.outcome_records import FirstAct, acts
from flows.people.rows import Fetch
from models.arrays import I64
from models.outcomes import strangers
from models.outcomes.strangers import BUCKETS, Entry, bucket_of
from models.records import ACTION, KIND, RecordColumns
from schemas.events import Link, Linking, Merge, Served, Unlink
from schemas.keys import Keyspace
from schemas.state.write import Write

MAY_BE_STRANGERS: Final = (Served, Link, Linking, Merge, Unlink)
"""Records of ids that may have done nothing yet. Some store nothing: a slate of a stranger, an unlink without
a link, a merge that came before, an id linked to itself."""
_CONCERNS: Final = np.zeros(256, np.bool_)
_CONCERNS[[KIND[it] for it in MAY_BE_STRANGERS]] = True
_ACTS: Final = np.zeros(256, np.bool_)
_ACTS[[ACTION, *(KIND[it] for it in (Link, Linking, Merge))]] = True
_xxh = xxhash.xxh3_64_intdigest


class Strangers:
    """A write-through cache of all of them. `limit`: how many; 0: nobody is a stranger. Errors of the
    constructor: ValueError where a stored bucket cannot be read."""

    def __init__(self, partition: int, fetch: Fetch, keyspace: Keyspace, limit: int) -> None:
        self._partition, self._keyspace, self.limit = partition, keyspace, limit
        self._held: OrderedDict[str, Entry] = OrderedDict()
        """Oldest first."""
        self._hashes: dict[int, str] = {}
        self._buckets: dict[int, dict[str, bytes]] = {}
        """Each oldest first: the entries as they lie in it."""
        self._changed: set[int] = set()
        self._head = keyspace.strangers(partition)
        held = fetch([self._head])[0] if limit else None
        self._begun = int(held) if held else None
        """The offset of the first record by which somebody was a stranger: before it lie those of earlier
        versions, or none."""
        self._stored = held is not None
        """Whether the store has that."""
        if self._stored:
            self._load(fetch)

    def _load(self, fetch: Fetch) -> None:
        found = fetch(_names(self._keyspace, self._partition))
        entries: list[tuple[str, Entry]] = []
        for bucket, blob in enumerate(found):
            if blob:
                held = strangers.read_bucket(blob)
                entries += held.items()
                self._buckets[bucket] = {
                    person: strangers.write_entry(person, entry) for person, entry in held.items()
                }
        self._held = OrderedDict(sorted(entries, key=lambda it: it[1].order))
        self._hashes = {_xxh(person.encode()): person for person in self._held}

    def __contains__(self, person: str) -> bool:
        return person in self._held

    def __len__(self) -> int:
        return len(self._held)

    def stored(self, person: str) -> bytes:
        """The account of a stranger, as stored; b"" for another id."""
        entry = self._held.get(person)
        return entry.stored if entry else b""

    def put(self, person: str, stored: bytes, offset: int) -> int:
        """Keeps the account of a stranger, who is the newest now, by the record at `offset`. Returns how many
        leave for it."""
        if self._begun is None:
            self._begun = offset
        self._drop(person)
        newest = next(reversed(self._held.values()), None)
        # of the ring alone, so that it is the same however the log was cut
        entry = Entry(newest.order + 1 if newest else 0, strangers.pack(strangers.cut(stored)))
        bucket = bucket_of(person)
        self._held[person] = entry
        self._buckets.setdefault(bucket, {})[person] = strangers.write_entry(person, entry)
        self._hashes[_xxh(person.encode())] = person
        self._changed.add(bucket)
        evicted = max(0, len(self._held) - self.limit)
        for _ in range(evicted):
            self._drop(next(iter(self._held)))  # of an OrderedDict in constant time
        return evicted

    def take(self, person: str) -> bytes | None:
        """The account of a stranger, who is none any more; None for another id. Errors: ValueError."""
        entry = self._drop(person)
        return entry.stored if entry else None

    def _drop(self, person: str) -> Entry | None:
        entry = self._held.pop(person, None)
        if entry is None:
            return None
        bucket = bucket_of(person)
        del self._buckets[bucket][person]
        del self._hashes[_xxh(person.encode())]
        self._changed.add(bucket)
        return entry

    def store(self, write: Write) -> None:
        """Adds the buckets that changed to the write."""
        if not self._changed:
            return
        if not self._stored and self._begun is not None:
            write.values[self._head] = b"%d" % self._begun
            self._stored = True
        names = _names(self._keyspace, self._partition)
        for bucket in sorted(self._changed):
            key = names[bucket]
            if held := self._buckets.get(bucket):
                write.values[key] = strangers.join_entries(held.values())
            else:
                self._buckets.pop(bucket, None)
                write.deleted.append(key)
        self._changed.clear()

    def first_acts(
        self, columns: RecordColumns, offsets: I64, span: Span, effects: Effects
    ) -> dict[int, FirstAct]:
        """By row, the first acts of those who are strangers, or may be by a record of the span. `offsets`
        (n,) of the records."""
        if not self.limit:
            return {}
        rows = slice(span.start, span.stop)
        people, kinds = columns.person[rows].tolist(), columns.kind[rows]
        among: set[int] = set()
        concerned = _CONCERNS[kinds]
        if concerned.any():
            among.update(columns.person[rows][concerned].tolist())
        elif self._hashes.keys().isdisjoint(people):
            return {}
        found: dict[int, FirstAct] = {}
        done: set[int] = set()
        for n in np.flatnonzero(_ACTS[kinds]).tolist():
            person, row = people[n], span.start + n
            if person in done or not (person in among or person in self._hashes):
                continue
            at = int(offsets[row])
            if kinds[n] != ACTION and not acts(at, columns.event(row), effects.new_merges):
                continue
            done.add(person)
            found[row] = FirstAct(columns.person_text(row))
        return found


@lru_cache(maxsize=64)
def _names(keyspace: Keyspace, partition: int) -> list[bytes]:
    """The keys of all buckets."""
    return [keyspace.strangers_bucket(partition, n) for n in range(BUCKETS)]
