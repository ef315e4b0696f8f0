"""Which rows of a table changed since the last publication."""

from __future__ import annotations

from typing import Final

import numpy as np

from models.arrays import I64

MAX_NAMED: Final = 1 << 20
"""Names are kept as they came, and each once where they are more."""
NONE: Final = np.empty(0, np.int64)


class ChangedRows:
    """Dense numbers of rows. The work is that of the names, not of the table."""

    def __init__(self) -> None:
        self._named: list[I64] = []
        self._count = 0

    def __bool__(self) -> bool:
        return self._count > 0

    def add(self, numbers: I64) -> None:
        """Names rows (n,), some of them perhaps several times."""
        if not len(numbers):
            return
        self._named.append(numbers)
        self._count += len(numbers)
        if self._count > MAX_NAMED and len(self._named) > 1:
            self._named = [self.rows()]
            self._count = len(self._named[0])

    def rows(self) -> I64:
        """The rows, ascending, each once."""
        return np.unique(np.concatenate([NONE, *self._named]))

    def clear(self) -> None:
        self._named, self._count = [], 0
