"""Slices: the choices of some people or items, by which a mean may hide a loss."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import numpy as np

from infra.apps.evaluate.ground import Ground
from models.arrays import Mask

NEW_ITEM_ACTS: Final = 5
"""With fewer acts in the history an item is new."""
POWER_SHARE: Final = 0.1
"""Share of the choices: those of the people who did most in the history are power users'."""
LARGEST_CATEGORIES: Final = 5


def slices(ground: Ground) -> dict[str, Mask]:
    """By name (G,): the choices in it. A slice that holds no choice, or all, is left out."""
    return {name: inside for name, inside in _slices(ground) if 0 < inside.sum() < len(inside)}


def _slices(ground: Ground) -> Iterator[tuple[str, Mask]]:
    new = ground.activity == 0
    yield "new_people", new
    yield "old_people", ~new
    young = ground.acts[ground.chosen] < NEW_ITEM_ACTS
    yield "new_items", young
    yield "old_items", ~young
    least = np.quantile(ground.activity, 1 - POWER_SHARE)
    yield "power_users", (ground.activity >= least) & ~new
    category = ground.category[ground.chosen]
    has_one = ground.category >= 0
    sizes = np.bincount(ground.category[has_one], ground.acts[has_one])
    for number in np.argsort(-sizes, kind="stable")[:LARGEST_CATEGORIES].tolist():
        yield f"category {ground.names[number]}", category == number
