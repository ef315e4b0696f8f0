"""`control`: the few things that govern the rest, as a log with compare-and-set.

One partition. A change names the version it expects to replace; the fold takes the first that
fits and refuses the others, so the log itself is the compare-and-set.
"""

from __future__ import annotations

from typing import Final, Literal

import msgspec

from schemas.alphabet import Millis

Subject = Literal["placement", "experiment", "release", "policy"]


class Change(msgspec.Struct, kw_only=True, omit_defaults=True):
    """`body` becomes `subject`/`id`, if its version is still `expected_version` (0: it is new)."""

    subject: Subject
    id: str
    expected_version: int
    body: msgspec.Raw
    received_at: Millis
    actor: str = ""
    reason: str = ""


class Held(msgspec.Struct, kw_only=True):
    """What Redis holds of one subject: the body as JSON text, and the version that wrote it."""

    version: int
    body: str
    offset: int
    actor: str = ""
    reason: str = ""
    received_at: Millis = 0


class Recipe(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """A placement: which sources, with which weights, under which rules. `body` of a placement.

    Weights are per source name, in units of the final score; a source without one is not asked.
    """

    weights: dict[str, float]
    category_cap: float = 0.3
    """Largest share of one primary category among the first 10 (and of `count` below 10)."""
    depth: int = 200
    """Candidates asked of each source."""


DECODER: Final = msgspec.json.Decoder(Change)


def decode(value: bytes) -> Change:
    return DECODER.decode(value)
