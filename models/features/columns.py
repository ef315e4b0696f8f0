"""A batch of actions as columns, grouped by person: the input of every feature's `update`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask
from models.features.overflow import DAILY_CAP, Overflow
from models.features.ring import ENTRY


class ActionColumns(NamedTuple):
    """n actions in the order (partition, offset), of several people; times in ms."""

    slot: I64
    """Index of the person's row."""
    offset: I64
    item: U64
    category: NDArray[np.uint32]
    time: I64
    received: I64
    action: NDArray[np.uint8]
    """Code, `schemas.actions`."""
    session: U64
    """Hash of the session's id; 0: none."""
    identity: NDArray[np.uint32]
    """The low half of `models.dedupe.action_identity`, at least 1."""
    flags: NDArray[np.uint8]
    """Bits `UNKNOWN` and `IMPORTED` of `schemas.state.facts`."""


@dataclass(frozen=True)
class Columns:
    """n actions of U people, sorted by person, within a person in log order.

    `who[i]` is the row (0..U-1) of action i. Times are ms. `session` 0: no session id. `identity`: the
    low half of `models.dedupe.action_identity`. `flags`: bits `UNKNOWN` and `IMPORTED` of
    `schemas.state.facts`. `late`: more than 7 days before its receipt, so it counts in sums but is not
    recent.
    """

    who: I64
    offset: I64
    item: U64
    category: NDArray[np.uint32]
    time: I64
    action: NDArray[np.uint8]
    session: U64
    identity: NDArray[np.uint32]
    flags: NDArray[np.uint8]
    late: Mask
    people: int
    start: I64 = field(init=False)
    """(U,) index of each person's first action."""
    count: I64 = field(init=False)
    """(U,) number of actions of each person; it may be 0 after `where`."""
    rank: I64 = field(init=False)
    """(n,) index of each action among its person's, from 0."""

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
            identity=self.identity[mask],
            flags=self.flags[mask],
            late=self.late[mask],
            people=self.people,
        )

    @property
    def last(self) -> I64:
        """(k,) index of the last action of each person in `present`, in their order."""
        return (self.start + self.count - 1)[self.count > 0]

    @property
    def present(self) -> I64:
        """(k,) the people that have an action."""
        return np.flatnonzero(self.count)


@dataclass
class Folded:
    """The results of a batch besides the rows, filled in by the features, in their order."""

    entered: Mask
    """(n,) the actions of the kinds that enter the ring."""
    recent: Columns
    """Those actions, m of them, in the same order; the late ones of them stay outside."""
    before: I64
    """(U,) how many actions had entered the ring before this batch."""
    overflow: dict[int, Overflow]
    """By row, of the people who have any; the fold changes it."""
    in_order: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """(m,) whether the action is as new as all before it, so that it belongs to the session."""
    session_rank: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(m,) number of earlier actions in the same session; 0 for what is not in order."""
    met: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """(m,) whether the ring held the item just before the action; not of late ones."""
    repeats: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(m,) earlier actions of the same item and UTC day, in the ring and the overflow."""
    full: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """(m,) whether the overflow of the action's day was full."""
    partners: U64 = field(default_factory=lambda: np.empty((0, 0), np.uint64))
    """(m, lag) items visited before the action; 0 where there is none."""
    reach: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(m,) so many of the lags are within the action's session."""
    evicted_who: I64 = field(default_factory=lambda: np.empty(0, np.int64))
    """(k,) ascending: the row of each entry in `evicted`."""
    evicted: NDArray[np.void] = field(default_factory=lambda: np.empty(0, ENTRY))
    """(k,) what left the ring in this batch, or did not enter it: of each person in the order of the log."""

    disordered: Mask = field(default_factory=lambda: np.empty(0, np.bool_))
    """(U,) the people whose list is folded one action after the other."""

    @property
    def counts(self) -> Mask:
        """(m,) the actions that count in sums over people."""
        return (self.repeats < DAILY_CAP) & ~self.full

    def counts_of(self, at: Any) -> Any:
        """`counts` of the actions `at`."""
        return (self.repeats[at] < DAILY_CAP) & ~self.full[at]
