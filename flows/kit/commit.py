"""State and offset commit in one transaction, which fails where another worker moved the fence."""

from __future__ import annotations

import time
from itertools import chain
from typing import Any, Final

import redis

from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.state import fences
from schemas.state.write import MAX_WHOLE_BYTES, Write

# One command for all appends: 600 APPENDs cost the client twenty times their work in Redis. Short
# strings are set whole: APPEND doubles what it allocates, and most people's sets are short.
_APPEND_ALL: Final = """
for i, key in ipairs(KEYS) do
  if redis.call('STRLEN', key) < MAX_WHOLE_BYTES then
    redis.call('SET', key, (redis.call('GET', key) or '') .. ARGV[i])
  else
    redis.call('APPEND', key, ARGV[i])
  end
end
""".replace("MAX_WHOLE_BYTES", str(MAX_WHOLE_BYTES))


class Fenced(FreshetError):
    """Another worker committed to this partition: drop the caches and start again from the fence."""


class WritesLost(Fenced):
    """The fence is before what this worker committed: Redis lost its last writes. The log has them."""


class Torn(FreshetError):
    """A command failed inside EXEC, which does not roll back: the partition must be rebuilt."""

    remedy = "the flow drops the partition's keys and folds its log again where it starts next"


class StoreFull(FreshetError):
    """Redis is at maxmemory: it refused the batch as a whole."""


def commit(client: Client, write: Write) -> None:
    """Performs a write and moves its fence, both or neither.

    Errors: `Fenced` (`WritesLost`), `Torn`, `StoreFull`. After a `redis.RedisError` the write may or may
    not have been applied; the fence then shows which.
    """
    key = write.keyspace.fence(write.flow, write.partition)
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(key)
        held = pipe.get(key)
        _check_fence(write, held)
        pipe.multi()
        _queue(pipe, write)
        if write.fence.offset != write.first:  # else the write holds no record, only moved keys
            write.fence.committed_at = time.time_ns() // 1_000_000
        pipe.set(key, fences.encode(write.fence))
        try:
            pipe.execute()
        except redis.WatchError as error:
            if redis_client.is_away(error):
                raise
            raise Fenced(f"{write.flow} partition {write.partition}: the fence moved") from None
        except redis.ResponseError as error:
            _check_applied(write, error)
            client.set(write.keyspace.torn(write.flow, write.partition), b"%d" % write.first)
            raise Torn(
                f"{write.flow} partition {write.partition}: a command failed inside the transaction"
                f" that starts at {write.first} ({str(error)[:80]})"
            ) from error


def _check_applied(write: Write, error: redis.ResponseError) -> None:
    """Raises where the transaction was refused before it ran: then nothing was applied.

    redis-py raises the error of the first queued command in place of EXEC's own error.
    """
    aborted = redis.exceptions.ExecAbortError
    if not isinstance(error, aborted) and not isinstance(error.__context__, aborted):
        return
    if isinstance(error, redis.exceptions.OutOfMemoryError) or "OOM" in str(error):
        raise StoreFull(
            f"Redis is full (maxmemory) and refused a batch of {write.flow} partition"
            f" {write.partition} at offset {write.first}; nothing of it was applied",
            remedy="give Redis more memory (CONFIG SET maxmemory), and the flow continues from that offset",
        ) from None
    raise error


def _check_fence(write: Write, held: bytes | None) -> None:
    fence = fences.decode(held) if held is not None else None
    offset = fence.offset if fence is not None else 0
    if offset != write.first:
        kind = Fenced if offset > write.first else WritesLost
        raise kind(
            f"{write.flow} partition {write.partition}: the batch starts at {write.first},"
            f" the fence stands at {offset}"
        )
    if fence is not None and fence.version == fences.HELD:
        raise Fenced(f"{write.flow} partition {write.partition} is being rebuilt")


def _queue(pipe: Any, write: Write) -> None:
    if write.values:
        # MSET by name: a cluster's pipeline has no method for it, since keys may lie in several slots
        pipe.execute_command("MSET", *chain.from_iterable(write.values.items()))
    if write.appends:
        pipe.execute_command(
            "EVAL", _APPEND_ALL, len(write.appends), *chain(write.appends, write.appends.values())
        )
    for key, mapping in write.fields.items():
        pipe.hset(key, mapping=mapping)
    for key, names in write.removed.items():
        pipe.hdel(key, *names)
    for entry in write.entries:
        pipe.xadd(entry.key, entry.fields, id=entry.id, maxlen=entry.keep, approximate=True)
    if write.deleted:
        pipe.delete(*write.deleted)
