"""Which category of an item is its primary one, where a data set lists several and names none."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence


def primaries(categories: Sequence[Sequence[str]]) -> list[str]:
    """The primary category of each item: of its `categories` the one that the fewest items have, by name
    where several are as rare; "" where it has none.

    Lists such as MovieLens' genres are alphabetical, so the first of them says nothing; the rarest says most
    of what an item is.

    >>> primaries([("Action", "Drama"), ("Drama", "Western"), ("Drama",), ("Action",), ()])
    ['Action', 'Western', 'Drama', 'Action', '']
    """
    count = Counter(name for of in categories for name in set(of))
    return [min(of, key=lambda name: (count[name], name), default="") for of in categories]
