"""Reads people from the store: the only request that a read makes to it.

The reads of one event-loop iteration travel as one MGET. The fence of each person's partition is among
their keys, so a state and the offset up to which it is folded are of the same moment.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Sequence
from functools import partial
from itertools import chain
from typing import Any, Final, NamedTuple

from redis.asyncio import Redis
from redis.exceptions import ResponseError

from infra import logs
from infra.store import gcra, redis_client
from infra.store.gcra import Charge
from infra.store.lookups import Lookups
from infra.store.pipeline import packed
from models.outcomes.strangers import bucket_of, find
from schemas.access.limits import Exceeded
from schemas.alphabet import Position, Pseudonym
from schemas.keys import Keyspace
from serving.decide.person import Blobs, Person, StoreDown, Unreadable, decode
from serving.state.fences import FenceWatch, Waited
from serving.state.generation import Generation
from serving.state.log_end import LogEnd
from serving.state.spending import Spending, Spendings

log = logs.paced("freshet.serving.requests")

STORE_TIMEOUT_SECONDS: Final = 2.0
"""How long a read waits for a store that does not answer."""
STORE_REST_SECONDS: Final = 0.25
"""How long no read is sent to a store that failed."""
ReadCallback = Callable[[Blobs | StoreDown | Exceeded], None]
"""Called once with what the store has of a person, a value per key of `stored_keys`, or with why it did not
answer, or with the limit that the read exceeds."""
_PendingRead = tuple[list[bytes], ReadCallback, Spending | None]
UnreadableCallback = Callable[[Pseudonym, int, Unreadable], None]
"""Called with a person, their partition, and what of their state cannot be read."""


class TimedRead(NamedTuple):
    """`waited_ms`: between the first read and the last. `stale`: the state does not include the position that
    was asked for."""

    person: Person
    waited_ms: int
    stale: bool


class PersonReader:
    """Reads people from the store: one for the process, and its event loop. `on_unreadable` is called for
    each person whose state cannot be read. `spendings`: limits go on by them while the store is away."""

    def __init__(
        self,
        redis: Redis,
        generation: Generation,
        log_end: LogEnd,
        on_unreadable: UnreadableCallback = lambda *_: None,
        spendings: Spendings | None = None,
    ) -> None:
        self._redis, self._generation, self._on_unreadable = redis, generation, on_unreadable
        self._spendings = spendings
        self._script = packed(b"SCRIPT", b"LOAD", gcra.SCRIPT)
        self._lookups = (
            None if redis_client.is_cluster(redis) else Lookups(redis, STORE_TIMEOUT_SECONDS)
        )
        self._fences = FenceWatch(self._mget, lambda: generation.keyspace, log_end)
        self._pending: list[_PendingRead] = []
        self._tasks: set[asyncio.Task[None]] = set()
        self._down_until = 0.0
        self.waiting = 0
        """Reads that the store has not answered yet."""

    def submit(
        self,
        person: Pseudonym,
        partition: int,
        done: ReadCallback,
        spending: Spending | None = None,
    ) -> None:
        """Reads what the store has of `person`, with the other reads of this iteration of the event loop, and
        takes `spending` of its limits with the same round trip. `done` is called in a later one, and raises
        nothing."""
        if not self._pending:
            asyncio.get_running_loop().call_soon(self._send)
        keys = stored_keys(person, partition, self._generation.keyspace)
        self._pending.append((keys, done, spending))
        self.waiting += 1

    async def read(
        self, person: Pseudonym, partition: int, spending: Spending | None = None
    ) -> Person:
        """The state of `person`. Errors: `StoreDown`, `Unreadable`, `Exceeded`."""
        answer: asyncio.Future[Blobs | StoreDown | Exceeded]
        answer = asyncio.get_running_loop().create_future()

        def done(found: Blobs | StoreDown | Exceeded) -> None:
            if not answer.done():  # else the reader was cancelled
                answer.set_result(found)

        self.submit(person, partition, done, spending)
        return self.decoded(person, partition, await answer)

    def decoded(
        self, person: Pseudonym, partition: int, found: Blobs | StoreDown | Exceeded
    ) -> Person:
        """The state of `person`, as `submit` found it. Errors: `StoreDown`, `Unreadable`, `Exceeded`."""
        if isinstance(found, StoreDown | Exceeded):
            raise found
        try:
            return decode(found)
        except Unreadable as error:
            self._on_unreadable(person, partition, error)
            raise

    async def read_after(
        self,
        person: Pseudonym,
        after: Position,
        max_wait_ms: int,
        spending: Spending | None = None,
    ) -> TimedRead:
        """Reads until the fence is past `after`, at most `max_wait_ms`; not so long where the log has no
        record there. All that is one read of `spending`. Errors: `StoreDown`, `Unreadable`, `Exceeded`."""
        loop = asyncio.get_running_loop()
        start, waited, why = loop.time(), 0.0, Waited.PASSED
        while True:
            state = await self.read(person, after.partition, spending)
            spending = None
            # a look saw the fence of one generation, and this read may be of the next
            fresh = state.fence is not None and state.fence.offset > after.offset
            remaining = max_wait_ms / 1000 - waited
            if fresh or remaining <= 0 or why is Waited.NO_RECORD:
                return TimedRead(state, round(waited * 1000), not fresh)
            why = await self._fences.wait(after, remaining)
            waited = loop.time() - start

    def _send(self) -> None:
        pending, self._pending = self._pending, []
        loop = asyncio.get_running_loop()
        if self._lookups is None:
            task = loop.create_task(self._fetch(pending))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        elif loop.time() < self._down_until:
            self._answer(pending, StoreDown("failed a moment ago"))
        else:
            self._ask(self._lookups, pending)

    def _ask(self, lookups: Lookups, pending: list[_PendingRead], *, load: bool = False) -> None:
        """What the reads take of limits, by one call of the script, and what they read, together. `load`: the
        store has lost the script."""
        values = packed(b"MGET", *_keys(pending))
        groups = _groups(pending)
        if not groups:
            lookups.ask(values, 1, partial(self._looked_up, pending))
            return
        keys, given = gcra.arguments(groups)
        charge = packed(b"EVALSHA", gcra.SHA, b"%d" % len(keys), *keys, *given)
        commands = (self._script if load else b"") + charge + values
        lookups.ask(commands, 2 + load, partial(self._looked_up, pending))

    async def _fetch(self, pending: list[_PendingRead]) -> None:
        """On a cluster: each limit lies on a node of its own, so those of one read are taken one by one."""
        found: list[Any] | StoreDown
        groups = _groups(pending)
        try:
            if groups:
                found = list(
                    await asyncio.gather(self._charged(groups), self._mget(_keys(pending)))
                )
            else:
                found = [await self._mget(_keys(pending))]
        except StoreDown as error:
            found = error
        self._answer(pending, found)

    async def _charged(self, groups: list[Sequence[Charge]]) -> list[int] | Exception:
        """What the script answers, or why it does not."""
        tasks = [gcra.charge_each(self._redis, group) for group in groups]
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                return list(chain.from_iterable(await asyncio.gather(*tasks)))
        except Exception as error:  # a limit keeps no read from its person
            return error

    def _looked_up(self, pending: list[_PendingRead], found: list[Any] | Exception) -> None:
        if isinstance(found, Exception):
            return self._answer(pending, self._down(found))
        if len(found) == 2 and _lacks_script(found[0]) and self._lookups is not None:
            return self._ask(self._lookups, pending, load=True)
        values = found[-1]
        return self._answer(
            pending, self._down(values) if isinstance(values, Exception) else found[-2:]
        )

    def _answer(self, pending: list[_PendingRead], found: list[Any] | StoreDown) -> None:
        """`found`: what the script answered, where it was asked, and the values."""
        if isinstance(found, StoreDown):
            for _, done, spending in pending:
                self._finish(done, self._alone(spending) or StoreDown(str(found)))
            return
        # a store that is full, or may not write, still has the values
        counts = len(found) > 1 and not isinstance(found[0], BaseException)
        charged = iter(gcra.charged(found[0], _groups(pending)) if counts else ())
        for n, (keys, done, spending) in enumerate(pending):
            refused = None
            if spending is not None:
                refused = spending.settle(next(charged)) if counts else self._alone(spending)
            values = found[-1][n * len(keys) : (n + 1) * len(keys)]
            self._finish(done, refused or blobs_of(keys, values))

    def _alone(self, spending: Spending | None) -> Exceeded | None:
        """The limit that a read exceeds by the count of this process."""
        if spending is None or self._spendings is None:
            return None
        return self._spendings.alone(spending)

    def _down(self, error: Exception) -> StoreDown:
        """The store rests after any error."""
        self._down_until = asyncio.get_running_loop().time() + STORE_REST_SECONDS
        return StoreDown(type(error).__name__)

    def _finish(self, done: ReadCallback, found: Blobs | StoreDown | Exceeded) -> None:
        self.waiting -= 1
        try:
            done(found)
        except Exception as error:  # a fault in one must not leave the others without an answer
            log.error("a read's callback failed: %s", type(error).__name__)

    async def _mget(self, keys: list[bytes]) -> list[Any]:
        """Errors: `StoreDown`."""
        loop = asyncio.get_running_loop()
        if loop.time() < self._down_until:
            raise StoreDown("failed a moment ago")
        try:
            async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
                return await redis_client.mget_async(self._redis, keys)
        except Exception as error:  # any error: no read may wait for ever
            raise self._down(error) from None


def _lacks_script(reply: Any) -> bool:
    return isinstance(reply, ResponseError) and str(reply).startswith("NOSCRIPT")


def _keys(pending: list[_PendingRead]) -> list[bytes]:
    return [key for keys, _, _ in pending for key in keys]


def _groups(pending: list[_PendingRead]) -> list[Sequence[Charge]]:
    return [spending.charges for _, _, spending in pending if spending is not None]


def stored_keys(person: Pseudonym, partition: int, keyspace: Keyspace) -> list[bytes]:
    """The keys of `STORED_FIELDS`, in its order."""
    return [
        keyspace.row(partition, person),
        keyspace.seen(partition, person),
        keyspace.preferences(partition, person),
        keyspace.fence("people", partition),
        keyspace.impressions(partition, person),
        keyspace.vector(partition, person),
        keyspace.link(partition, person),
        keyspace.tombstone(partition, person),
        keyspace.strangers_bucket(partition, bucket_of(person)),
    ]


def blobs_of(keys: list[bytes], found: list[bytes | None]) -> Blobs:
    """The values of a person, found under their `stored_keys`. The last key has many strangers: of these it
    is theirs, or all where that cannot be read, which `decode` refuses."""
    if bucket := found[-1]:
        try:
            entry = find(bucket, Keyspace.person_of(keys[0]))
        except ValueError:
            return [*found[:-1], bucket]
        return [*found[:-1], entry]
    return found
