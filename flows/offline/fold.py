"""`people` offline: folds one partition in memory, with the fold of the flow.

batch ─ decode ─ dead letters (counted) ─ dedupe ─ fold ─ a dict
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from flows.offline.records import Value
from flows.people.batch import Decoded, read_of_columns
from flows.people.steps import decode, new_fold
from infra.log_reader import Batch
from infra.settings import Settings
from models import records
from models.records import Remembered
from schemas.keys import PLAIN
from schemas.state import facts
from schemas.state.facts import Delta
from schemas.state.fences import Fence
from schemas.state.write import StreamEntry, Write
from schemas.times import LATEST

MAX_BATCH_RECORDS = 20_000
"""Of a batch where no transaction bounds it."""


class Offline:
    """The state of a partition at its fence. Keys are those of `PLAIN`. It makes no vectors: they are a cache
    that the flow fills again. Errors of `fold`: those of `PeopleFold`."""

    def __init__(
        self,
        settings: Settings,
        partition: int,
        fence: Fence,
        state: Mapping[bytes, bytes] | None = None,
        received: Mapping[bytes, bytes] | None = None,
        tallies: Mapping[bytes, bytes] | None = None,
    ) -> None:
        """`state`: string keys as of `fence`; `received`, `tallies`: fields of ``or:{p}`` and ``n:{p}``."""
        self.partition = partition
        self.received: dict[bytes, bytes] = dict(received or {})
        """The fields of ``or:{p}``."""
        self.tallies: dict[bytes, bytes] = dict(tallies or {})
        """The fields of ``n:{p}``."""
        self.outbox: list[StreamEntry] = []
        """The outbox entries of the fold, in order; the caller clears them."""
        self.dead: Counter[str] = Counter()
        """Records that no fold can take, by reason."""
        self.events = 0
        """Records so far, dead letters included."""
        # values that grow by appends are bytearrays: bytes would be copied at each append
        self._held: dict[bytes, bytes | bytearray] = dict(state or {})
        self._remembered = Remembered()
        self._fold = new_fold(settings, {partition: fence}, self._fetch, PLAIN)
        self._fold.remember_received(partition, self.received)
        self._fold.remember_tallies(partition, self.tallies)

    @property
    def fence(self) -> Fence:
        return self._fold.fence(self.partition)

    @property
    def state(self) -> dict[bytes, bytes]:
        """A copy of every string key and its value, as the flow would store them."""
        return {key: bytes(value) for key, value in self._held.items()}

    def pairs(self) -> Iterator[tuple[bytes, bytes]]:
        """The same pairs, ascending by key, as an iterator."""
        for key in sorted(self._held):
            yield key, bytes(self._held[key])

    def get(self, key: bytes) -> bytes | None:
        held = self._held.get(key)
        return bytes(held) if held is not None else None

    def fold(self, batch: Batch) -> Delta:
        """Folds the next batch of the log; returns its entry of the delta log.

        Errors: ValueError where the batch does not start at the fence.
        """
        decoded, letters = decode([batch], self._remembered)
        self.dead.update(letter.reason for letter in letters)
        self.events += len(letters)
        return self.fold_decoded(decoded)

    def fold_values(self, values: Sequence[Value]) -> Delta:
        """The same, of the next records that decode."""
        offsets, times, texts = (list(column) for column in zip(*values, strict=True))
        # their times were bounded when they were read from the log (law 14)
        columns = records.decode(texts, [LATEST] * len(texts), self._remembered)
        first, next_ = self.fence.offset, offsets[-1] + 1
        batch = read_of_columns(self.partition, first, next_, columns, offsets)
        batch.times = np.array(times, np.int64)
        return self.fold_decoded(batch)

    def fold_decoded(self, batch: Decoded) -> Delta:
        """The same, of a read of this partition alone that is decoded."""
        [span] = batch.spans
        if span.first != self.fence.offset:
            raise ValueError(
                f"partition {self.partition}: the batch starts at {span.first}, the fold is at"
                f" {self.fence.offset}"
            )
        self.events += len(batch)
        writes = self._fold.fold(self._fold.dedupe(batch))
        for fault in self._fold.faults.values():
            raise fault
        [write] = writes
        return self._perform(write)

    def _fetch(self, names: Sequence[bytes]) -> list[bytes | None]:
        return [self.get(name) for name in names]

    def _perform(self, write: Write) -> Delta:
        """Applies a write in memory, as `flows.kit.commit` does in Redis."""
        held = self._held
        held.update(write.values)
        for key, data in write.appends.items():
            before = held.get(key)
            if isinstance(before, bytearray):
                before += data
            else:
                held[key] = bytearray((before or b"") + data)
        hashes = {
            PLAIN.received(self.partition): self.received,
            PLAIN.tallies(self.partition): self.tallies,
        }
        for key, fields in write.fields.items():
            if key not in hashes:
                raise ValueError("the fold writes a hash that the offline fold does not read back")
            hashes[key].update(fields)
        for key in write.deleted:
            held.pop(key, None)
        return self._entry(write)

    def _entry(self, write: Write) -> Delta:
        log, entry = PLAIN.deltas(self.partition), None
        for stream_entry in write.entries:
            if stream_entry.key == log:
                entry = facts.decode(stream_entry.fields[facts.FIELD])
            else:
                self.outbox.append(stream_entry)
        if entry is None:
            raise ValueError("a batch without an entry of the delta log: entries would not chain")
        return entry
