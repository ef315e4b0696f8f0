"""The order in which the records of a read change rows: actions many at once, all else one by one."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64
from models.records import ACTION, KIND
from schemas.events import Link, Listed, Merge, Preferences, Unlink

MERGE: Final = KIND[Merge]
PREFERENCES: Final = KIND[Preferences]
LISTED: Final = KIND[Listed]
MOVES: Final = np.zeros(256, np.bool_)
"""By kind: links, their ends and merges move what a row holds."""
MOVES[[KIND[Link], KIND[Unlink], KIND[Merge]]] = True


def layers(kind: NDArray[np.uint8], slot: I64) -> list[I64]:
    """The rows of the records that change people's rows, in lists to fold one after the other: actions, then
    links, unlinks and merges, and so on. Each person's records keep their order. People do not depend on each
    other, so the number of lists is the most that one person alternates, not the number that the log does.

    `kind` (n,); `slot` (n,): of the person's row, -1: the record is left out.
    """
    moves = MOVES[kind] & (slot >= 0)
    acts = (kind == ACTION) & (slot >= 0)
    if not moves.any():
        return [np.flatnonzero(acts)] if acts.any() else []
    mixed = np.isin(slot, slot[moves])
    cut: list[list[int]] = [np.flatnonzero(acts & ~mixed).tolist()]
    reached: dict[int, int] = {}
    at_rows = np.flatnonzero(mixed & (acts | moves))
    for row, whose, parity in zip(
        at_rows.tolist(), slot[at_rows].tolist(), moves[at_rows].tolist(), strict=True
    ):
        at = reached.get(whose, 0)
        at += at % 2 != parity  # actions lie in even ones
        reached[whose] = at
        while len(cut) <= at:
            cut.append([])
        cut[at].append(row)
    return [np.array(sorted(layer), np.int64) for layer in cut if layer]
