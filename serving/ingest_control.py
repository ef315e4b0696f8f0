"""From the bytes of a placement to the change that `control` keeps. Pure: no clock, no socket."""

from __future__ import annotations

import math
from typing import Annotated, Final

import msgspec

from schemas.alphabet import Millis
from schemas.control import Change, Recipe
from schemas.reject import Rejected
from serving.body import decode
from serving.ingest import Record
from serving.score import COLUMNS
from serving.sources import SOURCES

SCORED: Final = frozenset(thing.name for thing in (*SOURCES, *COLUMNS))
"""What a recipe may give a weight: each source, and each column of the score."""
DEEPEST: Final = 10_000
_ENCODE: Final = msgspec.json.Encoder().encode


class PlacementIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`expected_version`: of what this replaces, 0 where the placement is new; else it has no effect."""

    recipe: Recipe
    expected_version: Annotated[int, msgspec.Meta(ge=0, le=2**53)]
    actor: Annotated[str, msgspec.Meta(max_length=256)] = ""
    reason: Annotated[str, msgspec.Meta(max_length=1000)] = ""


_DECODER: Final = msgspec.json.Decoder(PlacementIn)


def placement(body: bytes, identifier: str, now: Millis) -> Record:
    """Errors: `Problem`, `Rejected`."""
    given = decode(body, _DECODER)
    _check(given.recipe)
    change = Change(
        subject="placement",
        id=identifier,
        expected_version=given.expected_version,
        body=msgspec.Raw(_ENCODE(given.recipe)),
        received_at=now,
        actor=given.actor,
        reason=given.reason,
    )
    # one partition: the order of `control` is what compares and sets
    return Record(f"placement:{identifier}".encode(), 0, _ENCODE(change))


def _check(recipe: Recipe) -> None:
    if recipe.weights is not None and not recipe.weights:
        raise Rejected("recipe.weights", "empty")
    for name, weight in (recipe.weights or {}).items():
        if name not in SCORED:
            raise Rejected("recipe.weights", "unknown_source")
        if not (math.isfinite(weight) and abs(weight) <= 1e6):
            raise Rejected(f"recipe.weights.{name}", "out_of_range")
    if not 0 < recipe.category_cap <= 1:
        raise Rejected("recipe.category_cap", "out_of_range")
    if not 1 <= recipe.depth <= DEEPEST:
        raise Rejected("recipe.depth", "out_of_range")
