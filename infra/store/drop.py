"""Deleting what Redis holds of an installation: all of it, or one generation of what is made of `events`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from infra.store.redis_client import Client
from schemas.keys import Keyspace

KEYS_PER_DELETE: Final = 500
Dropped = Callable[[int], None]
"""Is given how many keys were deleted, slice by slice."""


def drop_keys(
    client: Client,
    keyspace: Keyspace,
    generation: int | None = None,
    dropped: Dropped = lambda names: None,
) -> int:
    """Deletes the keys of this namespace and of no other: of `generation`, or (None) every one. Answers how
    many. Call it for what no process uses any more. Errors: Redis's own."""
    count, slice_ = 0, list[bytes]()
    for name in client.scan_iter(match=keyspace.installation_pattern(), count=1000):
        if generation is None:
            mine = keyspace.parse(name) is not None
        else:
            mine = keyspace.generation_of(name) == generation
        if mine:
            slice_.append(name)
        if len(slice_) >= KEYS_PER_DELETE:
            count += _unlink(client, slice_, dropped)
            slice_ = []
    return count + _unlink(client, slice_, dropped)


def _unlink(client: Client, names: list[bytes], dropped: Dropped) -> int:
    with client.pipeline(transaction=False) as pipe:  # one at a time: a cluster has many slots
        for name in names:
            pipe.unlink(name)
        pipe.execute()
    dropped(len(names))
    return len(names)
