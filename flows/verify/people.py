"""A partition's people: read from Redis together with the fence, and compared with the log up to it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice
from typing import Final, NamedTuple

import msgspec
import redis

from flows.people.fold import READABLE, VERSION
from flows.verify import person_records, strangers
from flows.verify.person_records import PERSON_RECORDS
from flows.verify.report import Findings
from flows.verify.walk import Walk
from infra.lake import cold_objects
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.keys import Keyspace
from schemas.state import fences
from schemas.state.fences import Fence

PEOPLE_PER_TRANSACTION: Final = 200
"""Redis answers such a transaction in a few milliseconds, and serves others in between."""
TRANSACTIONS_READ_AHEAD: Final = 20
"""So many replies are held at once, so that one read of the log serves all of them."""


class Read(NamedTuple):
    """The stored records of these people at `fence`. `blobs`: `PERSON_RECORDS` of each person in order."""

    people: Sequence[str]
    fence: Fence
    blobs: list[bytes | None]
    received: dict[bytes, bytes] | Exception
    tallies: dict[bytes, bytes] | Exception


class BadFence(ValueError):
    """A partition's fence cannot be read, or belongs to another log; the text says why."""


class PeopleCheck:
    """Checks the people of the partition of `walk`, in the generation of `keyspace`."""

    def __init__(
        self, client: Client, walk: Walk, keyspace: Keyspace, findings: Findings, settings: Settings
    ) -> None:
        self._settings = settings
        self._redis, self._walk, self._findings = client, walk, findings
        self._keyspace = keyspace
        self._fence = keyspace.fence("people", walk.partition)
        self._hashes = (keyspace.received(walk.partition), keyspace.tallies(walk.partition))

    def check(self, *, whole: bool) -> int:
        """Compares the people that the walk keeps, and with `whole` the names of all keys. Returns the number
        of people. Errors: those of Redis, the log and the lake."""
        try:
            self._check_fence()
            there = list(self._names()) if whole else []
            checked = self._check_people()
            if self._settings.strangers:
                self._check_strangers()
            if whole:
                self._check_ids()
                self._check_names(there)
            return checked
        except BadFence as error:
            self._findings.wrong("fence", "value", str(error), "a fence of this log", self._fence)
            return 0

    def _check_fence(self) -> None:
        fence = self._first_fence()
        findings, key, walk = self._findings, self._fence, self._walk
        torn = self._redis.exists(self._keyspace.torn("people", walk.partition))
        findings.compare("fence", "torn", bool(torn), False, key)
        findings.compare("fence", "partitions", fence.partitions, self._settings.partitions, key)
        if fence.version not in READABLE:
            findings.wrong("fence", "version", fence.version, VERSION, key)
        walk.advance_to(fence.offset)
        if walk.next == fence.offset:  # else the walk is ahead, up to the tables' positions
            findings.compare("fence", "newest", fence.newest, walk.newest, key)

    def _first_fence(self) -> Fence:
        """The fence at the start. Errors: `BadFence`, also where there is state and no fence."""
        held = self._redis.get(self._fence)
        if held is None and self._holds_something():
            held = self._redis.get(self._fence)  # it came with the fence, a moment ago
            if held is None:
                raise BadFence("nothing, while there is state")
        return self._read_fence(held)

    def _holds_something(self) -> bool:
        """Whether there is state of a commit: each batch writes facts, a rebuild writes people."""
        deltas = self._keyspace.deltas(self._walk.partition)
        return bool(self._redis.exists(deltas)) or next(self._names(), None) is not None

    def _read_fence(self, held: bytes | None) -> Fence:
        """Decodes a fence. None is a partition whose flow has not committed: its fence is at the start."""
        if held is None and self._walk.first > 0:
            raise BadFence("nothing, while the log's beginning is gone")
        if held is None:
            return Fence("", self._settings.partitions, self._walk.next, 0, VERSION)
        try:
            fence = fences.decode(held)
        except msgspec.MsgspecError:
            raise BadFence("does not decode") from None
        if fence.offset < self._walk.start:
            raise BadFence("is before the first record of the log")
        if fence.offset < self._walk.first:
            raise BadFence("is before the snapshot that is compared with")
        if fence.offset > self._walk.end and fence.offset > self._walk.refresh_end():
            raise BadFence("is beyond the end of the log")
        return fence

    # -- people ---------------------------------------------------------------------------

    def _check_people(self) -> int:
        checked, people = 0, iter(list(self._walk.reference.checked))
        while chunk := list(islice(people, PEOPLE_PER_TRANSACTION * TRANSACTIONS_READ_AHEAD)):
            starts, size = range(0, len(chunk), PEOPLE_PER_TRANSACTION), PEOPLE_PER_TRANSACTION
            reads = [self._read(chunk[at : at + size]) for at in starts]
            for read in reads:
                self._walk.advance_to(read.fence.offset)
                checked += self._compare(read)
        return checked

    def _check_strangers(self) -> None:
        """Compares who is a stranger, and what is kept of those whose records were read."""
        held, stored = strangers.read(self._redis, self._keyspace, self._walk.partition)
        self._walk.advance_to(self._read_fence(held).offset)
        strangers.compare(
            self._findings,
            stored,
            self._walk.reference.strangers,
            self._keyspace.strangers(self._walk.partition),
        )

    def _keys(self, people: Sequence[str]) -> list[bytes]:
        p, keyspace = self._walk.partition, self._keyspace
        return [record.key(keyspace, p, name) for name in people for record in PERSON_RECORDS]

    def _tombstones(self, people: Sequence[str]) -> list[bytes]:
        return [self._keyspace.tombstone(self._walk.partition, name) for name in people]

    def _read(self, people: Sequence[str]) -> Read:
        """Reads people and fence in one transaction. Errors: `BadFence`, Redis's."""
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._fence)
            for key in self._hashes:
                pipe.hgetall(key)
            pipe.execute_command("MGET", *self._keys(people))
            pipe.execute_command("MGET", *self._tombstones(people))
            held, *hashes, blobs, cold = pipe.execute(raise_on_error=False)
        for reply in (held, blobs):
            if isinstance(reply, Exception):
                raise BadFence("has the wrong type") if reply is held else reply
        self._add_cold(people, cold, blobs)
        hashes = [it if isinstance(it, Exception) else redis_client.fields(it) for it in hashes]
        return Read(people, self._read_fence(held), blobs, *hashes)

    def _add_cold(
        self, people: Sequence[str], cold: Sequence[bytes | None], blobs: list[bytes | None]
    ) -> None:
        """Adds the lake's records of the people who have tombstones."""
        of = {name: place.decode() for name, place in zip(people, cold, strict=True) if place}
        for place in set(of.values()):
            those = [name for name, its in of.items() if its == place]
            try:
                records = cold_objects.get(self._settings, place, those)
            except cold_objects.ColdTorn as error:
                self._findings.wrong("cold", "object", str(error), "their records", place.encode())
                continue
            for name in those:
                first = people.index(name) * len(PERSON_RECORDS)
                for at, record in enumerate(PERSON_RECORDS, first):
                    blobs[at] = blobs[at] or records[name].get(record.kind)

    def _compare(self, read: Read) -> int:
        keys = self._keys(read.people)
        self._check_types([key for key, blob in zip(keys, read.blobs, strict=True) if blob is None])
        held = iter(zip(keys, read.blobs, strict=True))
        checked = 0
        for name in read.people:
            person = self._walk.reference.people[name]
            kept = person.kept is not None  # a new person may have replaced them in the sample
            checked += kept
            for record, (key, blob) in zip(
                PERSON_RECORDS, islice(held, len(PERSON_RECORDS)), strict=True
            ):
                if kept:
                    person_records.compare(self._findings, record, key, blob, person)
        reference = self._walk.reference
        numbers = {str(source): f"{o}-{n}" for source, (o, n) in reference.received.items()}
        self._check_hash("received", "source", self._hashes[0], read.received, numbers)
        if self._walk.whole:
            totals = {reason: str(total) for reason, total in reference.tallies.items()}
            self._check_hash("not counted", "reason", self._hashes[1], read.tallies, totals)
        return checked

    def _check_types(self, missing: Sequence[bytes]) -> None:
        """MGET returns None for a key of another type: reports such keys."""
        with self._redis.pipeline(transaction=False) as pipe:
            for key in missing:
                pipe.type(key)
            for key, kind in zip(missing, pipe.execute(), strict=True):
                if kind not in (b"none", b"string"):
                    self._findings.wrong("key", "type", kind.decode(), "string", key)

    def _check_hash(
        self,
        what: str,
        of: str,
        key: bytes,
        read: dict[bytes, bytes] | Exception,
        expected: dict[str, str],
    ) -> None:
        """Compares the fields of a hash; `of` names what a field stands for."""
        if isinstance(read, redis.ResponseError):
            self._findings.wrong("key", "type", "another type", "hash", key)
            return
        if isinstance(read, Exception):
            raise read
        stored = {
            field.decode(errors="replace"): value.decode(errors="replace")
            for field, value in read.items()
        }
        for field in sorted(stored.keys() | expected.keys()):
            one, other = stored.get(field), expected.get(field)
            if one == other:
                self._findings.fields += 1
            else:
                self._findings.wrong(what, f"{of} {field}", one, other, key)

    # -- a whole partition ----------------------------------------------------------------

    def _names(self) -> Iterator[bytes]:
        """The stored keys of people."""
        p, keyspace = self._walk.partition, self._keyspace
        starts = tuple(record.key(keyspace, p, "") for record in PERSON_RECORDS)
        for key in self._redis.scan_iter(match=keyspace.people_pattern(b"*", p), count=5000):
            if key.startswith(starts):
                yield key

    def _check_names(self, there: Sequence[bytes]) -> None:
        """Reports keys of people without such a record in the log (`_compare` reports missing keys)."""
        self._walk.advance_to(self._read_fence(self._redis.get(self._fence)).offset)
        p, keyspace, people = self._walk.partition, self._keyspace, self._walk.reference.people
        expected = {
            record.key(keyspace, p, name)
            for name, person in people.items()
            for record in PERSON_RECORDS
            if record.there(person)
        }
        self._findings.fields += len(there)
        for key in set(there) - expected:
            self._findings.wrong("key", "value", "is there", None, key)

    def _check_ids(self) -> None:
        """Compares the stored ids of de-duplication, bucket by bucket."""
        p, keyspace, ids = self._walk.partition, self._keyspace, self._walk.reference.ids
        buckets = list(range(ids.oldest, ids.oldest + 8))  # future buckets included
        with self._redis.pipeline(transaction=True) as pipe:
            pipe.get(self._fence)
            pipe.execute_command("MGET", *(keyspace.dedupe(p, bucket) for bucket in buckets))
            held, blobs = pipe.execute()
        self._walk.advance_to(self._read_fence(held).offset)
        expected = ids.held()
        for bucket, blob in zip(buckets, blobs, strict=True):
            if bucket < ids.oldest:
                continue
            stored = [blob[at : at + 8] for at in range(0, len(blob or b""), 8)] if blob else []
            self._findings.compare(
                "ids", f"bucket {bucket}", sorted(int.from_bytes(it, "little") for it in stored),
                sorted(expected.get(bucket, ())), keyspace.dedupe(p, bucket),
            )  # fmt: skip
