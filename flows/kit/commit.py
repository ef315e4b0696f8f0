"""State and offset commit in one transaction, which takes out the partitions whose fence another moved.

MULTI goes with WATCH: the second round trip is refused as a whole where the first one was.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from itertools import chain
from typing import Any, Final

import msgspec
import redis

from flows.kit.packed_write import PackedWrites
from infra.store import pipeline, redis_client
from infra.store.pipeline import Pipeline, packed
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.state import fences
from schemas.state.write import Write

WRITES_PER_TRANSACTION: Final = 16
"""Redis answers nobody else while a transaction runs."""
Failed = dict[int, FreshetError]
"""What kept a partition's write from being committed, by partition."""


class Fenced(FreshetError):
    """Another worker committed to this partition: drop the caches and start again from the fence."""


class WritesLost(Fenced):
    """The fence is before what this worker committed: Redis lost its last writes. The log has them."""


class Torn(FreshetError):
    """A command failed inside EXEC, which does not roll back: the partition must be rebuilt."""

    remedy = "the flow drops the partition's keys and folds its log again where it starts next"


class StoreFull(FreshetError):
    """Redis is at maxmemory: it refused the batch as a whole."""


class UnreadableFence(FreshetError):
    """The stored fence cannot be read."""

    remedy = "drop the state and rebuild it from this log (freshet rebuild)"


def commit(client: Client, write: Write) -> None:
    """Performs a write and moves its fence, both or neither.

    Errors: `Fenced` (`WritesLost`), `Torn`, `StoreFull`, `UnreadableFence`. After a `redis.RedisError` the
    write may or may not have been applied; the fence then shows which.
    """
    for error in commit_all(client, [write]).values():
        raise error


def commit_all(client: Client, writes: Sequence[Write]) -> Failed:
    """Performs the writes of several partitions, one of each: a transaction for `WRITES_PER_TRANSACTION` of
    them, on a cluster one for each. A write that fails is applied in no part (but see `Torn`) and the others
    are committed.

    Returns the errors that `commit` would raise, by partition. Errors: Redis's, as in `commit`: where EXEC's
    answer is lost, nobody learns that a command in it failed until one fails again on that key.
    """
    failed: Failed = {}
    if redis_client.is_cluster(client):
        for write in writes:
            failed |= _committed_on_cluster(client, write)
        return failed
    for at in range(0, len(writes), WRITES_PER_TRANSACTION):
        failed |= _committed(client, writes[at : at + WRITES_PER_TRANSACTION])
    return failed


def _committed(server: Client, writes: Sequence[Write]) -> Failed:
    with pipeline.opened(server) as pipe:
        return _Transaction(pipe, list(writes)).run()


def _committed_on_cluster(client: Client, write: Write) -> Failed:
    try:
        return _committed(redis_client.server_of(client, _fence_key(write)), [write])
    except redis.exceptions.ClusterDownError:  # it was refused: the slot may have another owner now
        redis_client.look_up_slots(client)
        return _committed(redis_client.server_of(client, _fence_key(write)), [write])


class _Transaction:
    """`writes` are those still to be committed; `failed` has the others that were not."""

    def __init__(self, pipe: Pipeline, writes: list[Write]) -> None:
        self._pipe, self._writes = pipe, writes
        self._failed: Failed = {}

    def run(self) -> Failed:
        moved_from: list[bytes | None] = []
        while self._writes:
            held = self._begin()
            out = _refused(self._writes, held, moved_from)
            if out:
                self._pipe.ask(b"DISCARD")
                self._take_out(out)
                moved_from = []
            elif self._execute():
                break
            else:
                moved_from = held
        return self._failed

    def _take_out(self, out: Failed) -> None:
        self._failed |= out
        self._writes = [write for write in self._writes if write.partition not in out]

    def _begin(self) -> list[bytes | None]:
        """Watches the fences and opens the transaction. Returns the fences as they are stored."""
        keys = [_fence_key(write) for write in self._writes]
        begin = packed(b"WATCH", *keys) + packed(b"MGET", *keys) + packed(b"MULTI")
        replies = self._pipe.begin(begin, 3)
        _raise_first(replies)
        held: list[bytes | None] = replies[1]
        return held

    def _execute(self) -> bool:
        """Sends the writes. False where a fence moved meanwhile: then nothing was applied."""
        now = time.time_ns() // 1_000_000
        for write in self._writes:
            if write.fence.offset != write.first:
                write.fence.committed_at = now
            else:  # it holds no record, only moved keys, which other caches must not miss
                write.fence.committed_at += 1
        sent = PackedWrites(self._writes)
        self._pipe.send(chain(sent, (_EXEC,)))
        *queued, applied = self._pipe.replies(sum(sent.counts) + 1)
        if applied is None:
            return False
        if isinstance(applied, redis.ResponseError):
            self._aborted([*queued, applied])
        else:
            self._check(applied, sent.counts)
        return True

    def _aborted(self, replies: list[Any]) -> None:
        """Nothing was applied. A Redis that is full refuses what needs memory: each is tried alone."""
        error = next(it for it in replies if isinstance(it, redis.ResponseError))
        if not isinstance(error, redis.exceptions.OutOfMemoryError) and "OOM" not in str(error):
            raise redis_client.moved_as_away(error)
        if len(self._writes) == 1:
            (write,) = self._writes
            self._failed[write.partition] = _store_full(write)
            return
        for write in self._writes:
            self._failed |= _Transaction(self._pipe, [write]).run()

    def _check(self, applied: list[Any], counts: Sequence[int]) -> None:
        """Finds the partitions of which a command failed, and marks them."""
        if not any(isinstance(it, redis.ResponseError) for it in applied):
            return
        at = 0
        for write, count in zip(self._writes, counts, strict=True):
            own, at = applied[at : at + count], at + count
            error = next((it for it in own if isinstance(it, redis.ResponseError)), None)
            if error is None:
                continue
            mark = write.keyspace.torn(write.flow, write.partition)
            _raise_first([self._pipe.ask(b"SET", mark, b"%d" % write.first)])
            torn = Torn(
                f"{_where(write)}: a command failed inside the transaction that starts at {write.first}"
                f" ({str(error)[:80]})"
            )
            torn.__cause__ = error
            self._failed[write.partition] = torn


_EXEC: Final = packed(b"EXEC")


def _refused(
    writes: Sequence[Write], held: Sequence[bytes | None], moved_from: Sequence[bytes | None]
) -> Failed:
    """The writes that do not follow what is stored. `moved_from`: the fences of an attempt before, of which
    one moved or more; where none differs, it moved and came back, and which one it was is not known."""
    out = {}
    for write, stored in zip(writes, held, strict=True):
        if error := _mismatch(write, stored):
            out[write.partition] = error
    if moved_from:
        moved = [now != before for now, before in zip(held, moved_from, strict=True)]
        for write, it in zip(writes, moved, strict=True):
            if it or not any(moved):
                out.setdefault(write.partition, Fenced(f"{_where(write)}: the fence moved"))
    return out


def _mismatch(write: Write, held: bytes | None) -> FreshetError | None:
    try:
        fence = fences.decode(held) if held is not None else None
    except msgspec.MsgspecError:
        return UnreadableFence(
            f"{_where(write)}: {_fence_key(write).decode()} in Redis is no fence"
        )
    offset = fence.offset if fence is not None else 0
    if offset != write.first:
        kind = Fenced if offset > write.first else WritesLost
        return kind(
            f"{_where(write)}: the batch starts at {write.first}, the fence stands at {offset}"
        )
    if fence is not None and fence.version == fences.HELD:
        return Fenced(f"{_where(write)} is being rebuilt")
    if fence is not None and write.after is not None and fence != write.after:
        return Fenced(
            f"{_where(write)}: another process wrote it, the fence at {offset} is not ours"
        )
    return None


def _store_full(write: Write) -> StoreFull:
    return StoreFull(
        f"Redis is full (maxmemory) and refused a batch of {_where(write)} at offset {write.first}; nothing"
        " of it was applied",
        remedy="give Redis more memory (CONFIG SET maxmemory), and the flow continues from that offset",
    )


def _raise_first(replies: Sequence[Any]) -> None:
    for it in replies:
        if isinstance(it, redis.ResponseError):
            raise redis_client.moved_as_away(it)


def _fence_key(write: Write) -> bytes:
    return write.keyspace.fence(write.flow, write.partition)


def _where(write: Write) -> str:
    return f"{write.flow} partition {write.partition}"
