"""Generations of the state that is made of `events`: claimed, swapped, dropped."""

from __future__ import annotations

import secrets
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from infra.lake import cold_objects
from infra.settings import Settings
from infra.store import generation, redis_client
from infra.store.drop import Dropped, drop_keys
from infra.store.redis_client import Client
from schemas.errors import FreshetError
from schemas.keys import Keyspace

LOCK_SECONDS: Final = 30
"""The lock of a rebuild that was killed expires after this."""
STALE_MS: Final = 5_000
"""A serving worker that has not reported its generation for so long is gone."""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Busy(FreshetError):
    """Another rebuild runs."""

    remedy = "run this again once that rebuild has ended"


class NotSwapped(FreshetError):
    """The pointer was not moved, or not every worker follows it; the text says which generation is live."""


@contextmanager
def rebuild_lock(settings: Settings) -> Iterator[None]:
    """Holds the lock of rebuilds while the context is entered. Errors: `Busy`."""
    me, released = secrets.token_hex(8), threading.Event()
    client, held = redis_client.connect(settings), settings.keyspace.rebuilding()
    if not client.set(held, me, nx=True, ex=LOCK_SECONDS):
        client.close()
        raise Busy("another rebuild runs, or was killed less than half a minute ago")

    def hold() -> None:
        while not released.wait(LOCK_SECONDS / 3):
            try:
                client.expire(held, LOCK_SECONDS)
            except redis.RedisError:
                continue  # the rebuild itself will fail

    thread = threading.Thread(target=hold, name="rebuilding", daemon=True)
    thread.start()
    try:
        yield
    finally:
        released.set()
        thread.join()
        client.eval(_RELEASE, 1, held, me)
        client.close()


def roles(client: Client, keyspace: Keyspace) -> dict[int, str]:
    """Generation -> "live", "kept" (may be swapped back to) or "filling" (of a rebuild that runs, or was
    killed)."""
    held: dict[bytes, bytes] = client.hgetall(keyspace.generations())
    found = {int(name): role.decode() for name, role in held.items()}
    return found | {generation.live(client, keyspace): "live"}


def claim(client: Client, keyspace: Keyspace) -> int:
    """Registers a new generation to fill, and returns its number."""
    new = max(roles(client, keyspace)) + 1
    client.hset(keyspace.generations(), str(new), "filling")
    return new


def swap(client: Client, keyspace: Keyspace, old: int, new: int) -> None:
    """Makes `new` live and keeps `old`. Errors: `NotSwapped` where `old` is not live any more."""
    with client.pipeline(transaction=True) as pipe:
        pipe.watch(keyspace.live())
        if (live := int(pipe.get(keyspace.live()) or 0)) != old:
            raise NotSwapped(f"generation {live} is live by now, not {old}: nothing was swapped")
        pipe.multi()
        pipe.set(keyspace.live(), str(new))
        pipe.hdel(keyspace.generations(), str(new))
        pipe.hset(keyspace.generations(), str(old), "kept")
        try:
            pipe.execute()
        except redis.WatchError:
            raise NotSwapped(
                "another process swapped at this moment: nothing was swapped"
            ) from None


def await_serving(client: Client, keyspace: Keyspace, new: int, seconds: float) -> None:
    """Waits at most `seconds` until every serving worker reads generation `new`. Errors: `NotSwapped`."""
    until = time.monotonic() + seconds
    while behind := _behind(client, keyspace, new):
        if time.monotonic() > until:
            raise NotSwapped(
                f"generation {new} is live, but {behind} serving workers do not read it after"
                f" {seconds:g} s: the one before is kept (freshet rebuild --back, or --drop it later)"
            )
        time.sleep(0.1)


def _behind(client: Client, keyspace: Keyspace, new: int) -> int:
    """How many serving workers read another generation. Drops the entries of workers that are gone."""
    now, behind = time.time_ns() // 1_000_000, 0
    followers: dict[bytes, bytes] = client.hgetall(keyspace.followed())
    for worker, follows in followers.items():
        reads, _, at = follows.partition(b" ")
        if now - int(at) > STALE_MS:
            client.hdel(keyspace.followed(), worker)
        elif int(reads) != new:
            behind += 1
    return behind


def drop(
    client: Client, settings: Settings, old: int, on_dropped: Dropped = lambda names: None
) -> int:
    """Deletes all keys of a generation in slices, and its people in the cold tier.

    `on_dropped` gets the number of keys of each slice.

    Errors: ValueError for the live one; `LakeError`, after which it can be dropped again.
    """
    keyspace = settings.keyspace
    if generation.live(client, keyspace) == old:
        raise ValueError(f"generation {old} is live: it is not dropped")
    count = drop_keys(client, keyspace, old, on_dropped)
    cold_objects.drop(settings, old)
    client.hdel(keyspace.generations(), str(old))
    return count
