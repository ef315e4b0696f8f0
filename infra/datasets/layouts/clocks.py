"""Times for sets without a clock."""

from __future__ import annotations

from typing import Final

import numpy as np
from numpy.typing import NDArray

from schemas.times import DAY_MS

START_MS: Final = 1_577_836_800_000
"""2020-01-01 UTC: what has no time begins here."""
YEAR_MS: Final = 365 * DAY_MS
LAST_AFTER_MS: Final = 7 * DAY_MS
"""From the end of the year to everyone's last act."""
BASKET_MS: Final = 1_244_000
"""Between the beginnings of two baskets: that of the shop that the shared ones are of."""
LINE_MS: Final = 1_000
"""Between two lines of a basket."""


def sequences(person: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) ms of n acts in the order of their file: a person's k-th of n, from 0, stands at (k + .5) / n of
    one year; the last one a week after the year, for all people alike.

    >>> (sequences(np.array([0, 1, 0])) - START_MS) / YEAR_MS
    array([0.25      , 1.01917808, 1.01917808])
    """
    count = np.bincount(person, minlength=1)[person]
    at = order_within(person)
    times = START_MS + np.rint((at + 0.5) / np.maximum(count, 1) * YEAR_MS).astype(np.int64)
    times[at == count - 1] = START_MS + YEAR_MS + LAST_AFTER_MS
    return times


def baskets(basket: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,) ms of n lines in the order of their file: basket b, from 0, begins b times `BASKET_MS` after the
    start, a line follows each second.

    >>> (baskets(np.array([0, 0, 1])) - START_MS).tolist()
    [0, 1000, 1244000]
    """
    return START_MS + BASKET_MS * basket + LINE_MS * order_within(basket)


def order_within(group: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n,): how many of its group come before each.

    >>> order_within(np.array([5, 3, 5, 5])).tolist()
    [0, 0, 1, 2]
    """
    order = np.argsort(group, kind="stable")
    found = np.empty(len(group), np.int64)
    _, first, count = np.unique(group[order], return_index=True, return_counts=True)
    found[order] = np.arange(len(group)) - np.repeat(first, count)
    return found
