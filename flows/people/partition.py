"""What the fold keeps of one partition, beside the rows of its people."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Final

import numpy as np

from flows.people.batch import Effects, Hashes, Span
from flows.people.links import Linked
from flows.people.overflow import Overflows
from flows.people.rows import Fetch, PartitionRows, Rows
from flows.people.seen import SeenStrings
from flows.people.slates import Slates
from flows.people.strangers import Strangers
from models.dedupe import Deduper
from models.outcomes.touched import Reach
from schemas.keys import Keyspace
from schemas.state.fences import Fence
from schemas.state.write import Write

FLOW: Final = "people"


class Shared:
    """What all partitions of a fold share: its arguments (`flows.people.fold.PeopleFold`), the rows, and the
    hashes of `items` and of other `names`. `joint`: reads with `fetch` what the slates want, too."""

    def __init__(
        self,
        fetch: Fetch,
        joint: Fetch,
        rows: Rows,
        items: Hashes,
        names: Hashes,
        dedupe_ms: int,
        row_cache: int,
        keyspace: Keyspace,
        reach: Reach,
        max_seen: int,
        strangers: int,
    ) -> None:
        self.fetch, self.joint, self.rows = fetch, joint, rows
        self.items, self.names = items, names
        self.dedupe_ms, self.row_cache, self.keyspace = dedupe_ms, row_cache, keyspace
        self.reach, self.max_seen, self.strangers = reach, max_seen, strangers


class PartitionState:
    """The state of one partition at its `fence`. Errors of the constructor: ValueError where a stored value
    cannot be read."""

    def __init__(self, partition: int, fence: Fence, of: Shared) -> None:
        self.partition, self.fence, self._keyspace = partition, fence, of.keyspace
        self.dedupe = Deduper(of.dedupe_ms, fence.newest)
        self.rows = PartitionRows(of.rows, partition)
        self.overflows = Overflows(partition, of.fetch, self.rows, of.keyspace)
        self.seen = SeenStrings(partition, of.fetch, of.keyspace, of.max_seen)
        self.linked = Linked(partition, of.fetch, self.rows, self.overflows, self.seen, of.keyspace)
        self.strangers = Strangers(partition, of.fetch, of.keyspace, of.strangers)
        self.slates = Slates(
            partition,
            of.joint,
            of.row_cache,
            of.items,
            of.names,
            of.keyspace,
            of.dedupe_ms,
            self.strangers,
            of.reach,
        )
        self._tallies: Counter[str] = Counter()
        self.deltas = of.keyspace.deltas(partition)
        self.vectors = of.keyspace.vector(partition, "")
        """The start of the keys of vectors."""
        buckets = list(self.dedupe.live())
        names = [of.keyspace.dedupe(partition, bucket) for bucket in buckets]
        for bucket, held in zip(buckets, of.fetch(names), strict=True):
            if held:
                self.dedupe.load(bucket, np.frombuffer(held, "<u8"))

    def remember_tallies(self, held: Mapping[bytes, bytes]) -> None:
        """Loads the totals of what was accepted and is not counted: reason -> total."""
        self._tallies.update({reason.decode(): int(total) for reason, total in held.items()})

    def make_room(self) -> None:
        """Empties the caches above their limits. Call it between reads only, when all of it is committed."""
        self.slates.make_room()
        self.linked.make_room()
        self.overflows.make_room()

    def write_of(self, span: Span) -> Write:
        """The write of the span, so far empty."""
        # the newest time that de-duplication has seen, so that a restart does not change its window
        held = self.fence
        newest = max(held.newest, self.dedupe.newest)
        fence = Fence(held.topic_id, held.partitions, span.next, newest, held.version)
        return Write(FLOW, self.partition, span.first, fence, self._keyspace)

    def store_tallies(self, effects: Effects) -> None:
        """Adds the new totals of what the span tallied to its write."""
        if not effects.tallies:
            return
        self._tallies.update(effects.tallies)
        effects.write.fields[self._keyspace.tallies(self.partition)] = {
            reason.encode(): b"%d" % self._tallies[reason] for reason in effects.tallies
        }
        effects.write.counts.update(effects.tallies)

    def store_ids(self, span: Span, write: Write) -> None:
        """Adds the hashes of new event ids to the write, and deletes the buckets that left the window."""
        for bucket, ids in span.ids.items():
            write.append(self._keyspace.dedupe(self.partition, bucket), ids.tobytes())
        write.deleted += [self._keyspace.dedupe(self.partition, bucket) for bucket in span.expired]
