"""Which lists of neighbours were published under another counting, and are published anew, in slices."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import I64, Mask
from schemas.state.tables import PairCounting

LISTS_PER_VERSION: Final = 20_000
"""At most so many lists that did not change are published in a version: some 16 MB."""


class DueLists:
    """By dense number: whether a list still is as `countings[1:]` say. `countings[0]`: that of the last
    publication. Until it is published anew, the list of before is there."""

    def __init__(self) -> None:
        self.countings: list[PairCounting] = []
        self._due: Mask = np.empty(0, np.bool_)
        self._at = 0  # no list below is due

    def __len__(self) -> int:
        return int(np.count_nonzero(self._due[self._at :]))

    def switch(self, counting: PairCounting, items: int) -> None:
        """From here on lists are made under `counting`: where it is another one, those of all `items` are
        due."""
        if self.countings[:1] == [counting]:
            return
        self.countings = [counting, *(each for each in self.countings if each != counting)]
        self._due, self._at = np.ones(items, np.bool_), 0

    def take(self, changed: I64, *, whole: bool) -> I64:
        """The lists to publish, ascending: those of `changed`, and the next of those due. `whole`: `changed`
        are all."""
        mine = changed
        if self._at < len(self._due):
            self._due[mine[mine < len(self._due)]] = False
            end = len(self._due) if whole else self._at + LISTS_PER_VERSION
            more = self._at + np.flatnonzero(self._due[self._at : end])
            self._at, mine = end, np.concatenate([mine, more])
        if self._at >= len(self._due):
            self._due, self._at, self.countings = self._due[:0], 0, self.countings[:1]
        return np.sort(mine)
