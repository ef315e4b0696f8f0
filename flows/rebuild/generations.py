"""Generations of what is made of `events`: claimed, swapped, dropped."""

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
STALE_MS: Final = 5_000
"""A serving worker that did not say what it reads for so long is gone."""
_RELEASE: Final = "if redis.call('GET', KEYS[1]) == ARGV[1] then redis.call('DEL', KEYS[1]) end"


class Busy(FreshetError):
    """Another rebuild is at work."""

    remedy = "run this again once that is over"


class NotSwapped(FreshetError):
    """The pointer was not moved, or not everybody follows it; the text says what holds now."""


@contextmanager
def rebuild_lock(settings: Settings) -> Iterator[None]:
    """Holds the right to rebuild while entered. Errors: `Busy`."""
    me, released = secrets.token_hex(8), threading.Event()
    client, held = redis_client.connect(settings), settings.keyspace.rebuilding()
    if not client.set(held, me, nx=True, ex=LOCK_SECONDS):
        client.close()
        raise Busy("a rebuild is at work, or was killed less than half a minute ago")

    def hold() -> None:
        while not released.wait(LOCK_SECONDS / 3):
            try:
                client.expire(held, LOCK_SECONDS)
            except redis.RedisError:
                continue  # the rebuild itself will say so

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
    """Generation -> "live", "kept" (may be swapped back to) or "filling" (of a rebuild that goes on,
    or was killed)."""
    held: dict[bytes, bytes] = client.hgetall(keyspace.generations())
    found = {int(name): role.decode() for name, role in held.items()}
    return found | {generation.live(client, keyspace): "live"}


def claim(client: Client, keyspace: Keyspace) -> int:
    """A generation to fill: a number that none has."""
    new = max(roles(client, keyspace)) + 1
    client.hset(keyspace.generations(), str(new), "filling")
    return new


def swap(client: Client, keyspace: Keyspace, old: int, new: int) -> None:
    """Makes `new` live, keeps `old`. Errors: `NotSwapped` where another one is live by now."""
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
            raise NotSwapped("somebody else swapped at this moment: nothing was swapped") from None


def await_serving(client: Client, keyspace: Keyspace, new: int, seconds: float) -> None:
    """Returns once every serving worker that is there reads generation `new`. Errors: `NotSwapped`."""
    until = time.monotonic() + seconds
    while behind := _behind(client, keyspace, new):
        if time.monotonic() > until:
            raise NotSwapped(
                f"generation {new} is live, but {behind} serving workers do not read it after"
                f" {seconds:g} s: the one before is kept (freshet rebuild --back, or --drop it later)"
            )
        time.sleep(0.1)


def _behind(client: Client, keyspace: Keyspace, new: int) -> int:
    """How many serving workers read another generation. Those that are gone are forgotten."""
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

    Errors: ValueError for the live one; `LakeError`, then it is there to be dropped again.
    """
    keyspace = settings.keyspace
    if generation.live(client, keyspace) == old:
        raise ValueError(f"generation {old} is live: it is not dropped")
    count = drop_keys(client, keyspace, old, on_dropped)
    cold_objects.drop(settings, old)
    client.hdel(keyspace.generations(), str(old))
    return count
