"""The placement that a replay asks, how many items, and after how long it shows an item again."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

import msgspec

from serving.world.placements import BUILT_IN_RECIPES

PLACEMENT: Final = "replay"
SLATE_SIZE: Final = 10
REPEAT: Final[Mapping[str, str]] = msgspec.structs.asdict(BUILT_IN_RECIPES[PLACEMENT].repeat)
"""Kind of action -> how long after it an item may come back."""


def sentence(repeat: Mapping[str, str]) -> str:
    """A sentence for people.

    >>> sentence({"view": "1d", "click": "1d", "purchase": "never"})
    'An item comes back after a view: 1d, after a click: 1d, after a purchase: never.'
    """
    after = ", ".join(f"after a {action}: {time}" for action, time in repeat.items())
    return f"An item comes back {after}."
