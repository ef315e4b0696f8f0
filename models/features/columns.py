"""A batch of actions as columns, grouped by person: what every feature's `update` is given."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask


@dataclass(frozen=True)
class Columns:
    """n actions of U people, sorted by person, within a person in log order.

    `who[i]` is the row (0..U-1) of action i. Times are ms. `session` 0: none given. `late`: more
    than 7 days behind its receipt, so it counts in sums but not in what is recent.
    """

    who: I64
    offset: I64
    item: U64
    category: NDArray[np.uint32]
    time: I64
    action: NDArray[np.uint8]
    session: U64
    in_catalogue: Mask
    late: Mask
    people: int
    start: I64 = field(init=False)
    """(U,) index of each person's first action."""
    count: I64 = field(init=False)
    """(U,) actions of each person; 0 where a selection left none."""
    rank: I64 = field(init=False)
    """(n,) place of each action among its person's, from 0."""

    def __post_init__(self) -> None:
        count = np.bincount(self.who, minlength=self.people)
        start = np.cumsum(count) - count
        object.__setattr__(self, "count", count)
        object.__setattr__(self, "start", start)
        object.__setattr__(self, "rank", np.arange(len(self.who)) - start[self.who])

    def __len__(self) -> int:
        return len(self.who)

    def where(self, mask: Mask) -> Columns:
        """The actions under `mask`, of the same people."""
        if mask.all():
            return self
        return Columns(
            who=self.who[mask],
            offset=self.offset[mask],
            item=self.item[mask],
            category=self.category[mask],
            time=self.time[mask],
            action=self.action[mask],
            session=self.session[mask],
            in_catalogue=self.in_catalogue[mask],
            late=self.late[mask],
            people=self.people,
        )

    @property
    def last(self) -> I64:
        """(k,) index of the last action of each person that has one (`present` in order)."""
        return (self.start + self.count - 1)[self.count > 0]

    @property
    def present(self) -> I64:
        """(k,) the people that have an action."""
        return np.flatnonzero(self.count)


@dataclass
class Folded:
    """What a batch leaves besides the rows: filled in by the features, in their order."""

    entered: Mask
    """(n,) the actions that enter what is recent,"""
    recent: Columns
    """and these by themselves, in the same order."""
    before: I64
    """(U,) how many had entered it before this batch."""
    session_rank: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(n of recent,) actions of the same session before this one."""
    met: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """(n of recent,) its item stood in the person's list just before."""
    repeats: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(n of recent,) entries of the same item and UTC day in the list just before."""
    partners: U64 = field(default_factory=lambda: np.empty((0, 0), np.uint64))
    """(n of recent, lag) items visited with this one; 0 where there is none."""
