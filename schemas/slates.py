"""`slates`: every decision, whole: its request, its answer, and the versions behind it."""

from __future__ import annotations

from typing import Final

import msgspec

from schemas.alphabet import Millis, Pseudonym
from schemas.events import SURE, Assigned
from schemas.headers import Schema

SCHEMA: Final = Schema("slate", 1)


class SlateItem(msgspec.Struct, kw_only=True, omit_defaults=True):
    item_id: str
    rank: int
    score: float
    category: str = ""
    sources: tuple[str, ...] = ()
    reason: str = ""
    because: tuple[str, ...] = ()
    explore: bool = False
    """Exploration drew it."""
    probability: float = SURE
    """Propensity: of this item in this slot, given the items above."""
    group: str = ""
    swapped: bool = False
    """A rule put it in place of the greedy choice: the fresh rule, the draw, or one variant a group."""
    features: tuple[float, ...] = ()
    """The ranker's features, in the order of the release's manifest; empty without a ranker."""


def source(item: SlateItem) -> str:
    """The source that put the item there: exploration where it drew it, else the first that brought it."""
    return "explore" if item.explore else next(iter(item.sources), "")


class Slate(msgspec.Struct, kw_only=True, omit_defaults=True):
    """One answer of the read API. Keyed by `slate_id` (a ULID)."""

    slate_id: str
    served_at: Millis
    placement: str
    person: Pseudonym | None
    items: tuple[SlateItem, ...]
    fallback: str | None = None
    rules_relaxed: tuple[str, ...] = ()
    position: str = ""
    """The person's partition and the last offset folded into the state that was read."""
    tables: str = ""
    index: str = ""
    rules: str = ""
    release: str = ""
    now: Millis = 0
    """The time that the decision was made for (the request's `now`)."""
    seed: int = 0
    """The seed of every draw (u64)."""
    experiments: tuple[Assigned, ...] = ()
    took_ms: float = 0.0
    session_id: str = ""
    """The session that the request named."""


DECODER: Final = msgspec.json.Decoder(Slate)


def decode(value: bytes) -> Slate:
    return DECODER.decode(value)
