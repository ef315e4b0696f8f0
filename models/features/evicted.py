"""What leaves the list of recent actions during a batch, or does not enter it."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64
from models.features import ring
from models.features.ring import ENTRY


class Evicted:
    """Collects it in any order."""

    def __init__(self) -> None:
        self._chunks: list[tuple[I64, I64, NDArray[np.void]]] = []

    def add(self, at: I64, who: I64, entries: NDArray[np.void]) -> None:
        """`at` (k,): index of the action that drove each entry out, or did not enter; `who`: its row."""
        if len(at):
            self._chunks.append((at, who, entries))

    def joined(self) -> tuple[I64, NDArray[np.void]]:
        """Rows, ascending, and entries; of each person in the order of the log."""
        if not self._chunks:
            return np.empty(0, np.int64), np.empty(0, ENTRY)
        at = np.concatenate([chunk[0] for chunk in self._chunks])
        who = np.concatenate([chunk[1] for chunk in self._chunks])
        order = np.argsort(at, kind="stable")  # actions are sorted by person
        return who[order], ring.chosen(ring.joined([chunk[2] for chunk in self._chunks]), order)
