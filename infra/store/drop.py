"""Deleting an installation's keys from Redis: all of them, or those of one generation."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from infra.store.redis_client import Client
from schemas.keys import Keyspace

KEYS_PER_DELETE: Final = 500
Dropped = Callable[[int], None]
"""Called with the number of keys deleted, batch by batch."""


def drop_keys(
    client: Client,
    keyspace: Keyspace,
    generation: int | None = None,
    dropped: Dropped = lambda names: None,
) -> int:
    """Deletes the keys of this namespace alone: those of `generation`, or (None) all. Answers how many.

    No process may use these keys any more. Errors: Redis's own.
    """
    count, batch = 0, list[bytes]()
    for name in client.scan_iter(match=keyspace.installation_pattern(), count=1000):
        if generation is None:
            mine = keyspace.parse(name) is not None
        else:
            mine = keyspace.generation_of(name) == generation
        if mine:
            batch.append(name)
        if len(batch) >= KEYS_PER_DELETE:
            count += _unlink(client, batch, dropped)
            batch = []
    return count + _unlink(client, batch, dropped)


def _unlink(client: Client, names: list[bytes], dropped: Dropped) -> int:
    with client.pipeline(transaction=False) as pipe:  # a command a key: a cluster has many slots
        for name in names:
            pipe.unlink(name)
        pipe.execute()
    dropped(len(names))
    return len(names)
