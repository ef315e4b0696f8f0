"""Records in the terms of the slow definitions: hashes for ids, and only the fields that they need."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import xxhash

from models.features.plain import Event
from schemas import identity
from schemas.actions import code_of
from schemas.events import Action
from schemas.times import DAY_MS

LATE_MS: Final = 7 * DAY_MS
"""An action that is older at its receipt counts in sums only."""
_CACHED_HASHES: Final = 1 << 18

item = lru_cache(_CACHED_HASHES)(identity.item_hash)
name = lru_cache(_CACHED_HASHES)(identity.category_hash)


@lru_cache(_CACHED_HASHES)
def text(identifier: str) -> int:
    """64-bit hash of a session's or slate's id; "" is 0."""
    return (xxhash.xxh3_64_intdigest(identifier.encode()) or 1) if identifier else 0


def list_identity(e: Action) -> int:
    """32 bits of the action's identity, the same for every person, at least 1."""
    sign = "-" if e.action == "purchase" and e.negative else "+"
    named = "\0".join((e.event_id, e.item_id, e.action, sign))
    return (xxhash.xxh3_64_intdigest(named.encode()) & 0xFFFF_FFFF) or 1


def event(offset: int, e: Action) -> Event:
    return Event(
        offset,
        item(e.item_id),
        name(e.category),
        e.occurred_at,
        code_of(e.action, e.negative),
        text(e.session_id),
        e.known,
        e.received_at - e.occurred_at > LATE_MS,
        list_identity(e),
        imported=e.source is not None and e.source.mode == "import",
        group=identity.group_hash(e.group) if e.group else 0,
    )
