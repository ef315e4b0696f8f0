"""Arms: the outcomes of showing an item at a placement, kept as River's running statistics.

A served slot is a reward of 0, and a click replaces that 0 by its reward. So the mean of an arm's rewards
estimates the reward of serving it once more. Statistics are stored as numbers and made into
`river.stats.Mean` where facts change them. Facts of one arm in one batch are one merge, with the same mean.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from schemas.identity import category_hash, item_hash
from schemas.state.facts import ATTRIBUTION, STATES
from schemas.state.facts import Arms as Facts
from schemas.state.tables import ARM, ARM_KEY, split

SERVED, CLICKED = STATES.index("served"), STATES.index("clicked")
REVERSIBLE: Final = np.isin(np.array(STATES), list(ATTRIBUTION.values()))
"""(states,) a slot may leave this state again."""
EARLY: Final = np.dtype([("n", "<f8"), ("mean", "<f8")])
"""State of the `Mean` of rewards whose slot was clicked before it was served. The fold emits no such
fact, but a table must not go below zero because of one."""
ArmKeys = NDArray[np.void]


class Arm(NamedTuple):
    """One arm, for readers: `schemas.state.tables.ARM` as plain numbers. `n` and `mean` are the state of its
    `Mean` of rewards."""

    served: int = 0
    displayed: int = 0
    clicked: int = 0
    converted: int = 0
    last_click: int = 0
    last_view: int = 0
    explored: int = 0
    n: float = 0.0
    mean: float = 0.0

    @property
    def attribution(self) -> dict[str, int]:
        """Conversions by how they came to their slots.

        >>> Arm(converted=2, last_view=1).attribution
        {'direct': 2, 'last_click': 0, 'last_view': 1}
        """
        return {name: getattr(self, state) for name, state in ATTRIBUTION.items()}

    @property
    def beta(self) -> Any:
        """`river.proba.Beta` of the click rate, from a uniform prior.

        >>> Arm(served=10, clicked=2).beta.mode
        0.2
        """
        from river.proba import Beta  # brings scipy: a reader's second and a half

        return Beta(1 + self.clicked, 1 + max(0, self.served - self.clicked))


def credible(beta: Any, level: float = 0.95) -> tuple[float, float]:
    """The interval of `beta` with half of 1 - `level` on each side, by bisection of River's cdf.

    >>> lo, hi = credible(Arm().beta)  # uniform
    >>> round(lo, 6), round(hi, 6)
    (0.025, 0.975)
    """

    def quantile(p: float) -> float:
        lo, hi = 0.0, 1.0
        for _ in range(50):
            mid = (lo + hi) / 2
            lo, hi = (mid, hi) if beta.cdf(mid) < p else (lo, mid)
        return (lo + hi) / 2

    return quantile((1 - level) / 2), quantile((1 + level) / 2)


def arm_key(placement: str, item_id: str) -> bytes:
    """`ARM_KEY` of the arm (placement, item)."""
    return np.array([(category_hash(placement), item_hash(item_id))], ARM_KEY).tobytes()


def arm(value: bytes | None) -> Arm:
    """An arm as published; None is an arm that was never served.

    >>> arm(None).served
    0
    """
    return Arm(*np.frombuffer(value, ARM, 1)[0].item()) if value else Arm()


class Arms:
    """Every arm. Counts are exact whatever the order of facts, means to 1e-9.

    `ignored` counts the invalid facts, by reason, since this process began.
    """

    def __init__(self) -> None:
        self.ignored: Counter[str] = Counter()
        self._of: dict[bytes, int] = {}
        self._keys, self._rows, self._early = (np.zeros(0, kind) for kind in (ARM_KEY, ARM, EARLY))
        self._dirty: set[int] = set()

    def __len__(self) -> int:
        return len(self._of)

    @property
    def changed(self) -> bool:
        return bool(self._dirty)

    def add(self, facts: Facts) -> None:
        """Adds facts, in any order. It ignores an unknown state, a sign that the state does not have, and a
        reward that is no number in 0 to 1."""
        keep = self._valid(facts)
        if not len(keep):
            return
        which, first = _grouped(facts.placement[keep], facts.item[keep])
        keys = np.empty(len(first), ARM_KEY)
        keys["placement"], keys["item"] = facts.placement[keep][first], facts.item[keep][first]
        state, many = facts.state[keep].astype(np.intp), len(keys)
        counts = np.bincount(
            which * len(STATES) + state, facts.sign[keep], minlength=many * len(STATES)
        )
        counts = counts.reshape(many, len(STATES)).astype(np.int64)
        drawn = (facts.explored[keep] != 0) & (state == SERVED)
        rewards = np.where(state == CLICKED, facts.reward[keep], 0.0)
        numbers = self._numbers(keys)
        self._reward(numbers, counts, np.bincount(which, rewards, many).astype(np.float64))
        for name, count in zip(STATES, counts.T, strict=True):
            self._rows[name][numbers] += count.astype(self._rows[name].dtype)
        self._rows["explored"][numbers] += np.bincount(which, drawn, many).astype(np.uint32)
        self._dirty.update(numbers.tolist())

    def get(self, key: bytes) -> Arm:
        """The arm of an `ARM_KEY`; all 0 for one that was never served."""
        number = self._of.get(key)
        return Arm() if number is None else Arm(*self._rows[number].item())

    def publish(self, *, whole: bool) -> dict[bytes, bytes]:
        """`ARM_KEY` -> `ARM` of the arms changed since the last publication, or of all."""
        numbers = range(len(self)) if whole else sorted(self._dirty)
        at = np.fromiter(numbers, np.intp, len(numbers))
        self._dirty.clear()
        keys, rows = self._keys[at].tobytes(), self._rows[at].tobytes()
        return dict(zip(split(keys, ARM_KEY.itemsize), split(rows, ARM.itemsize), strict=True))

    def dump(self) -> dict[str, NDArray[Any]]:
        held = len(self)
        return {
            "keys": self._keys[:held],
            "rows": self._rows[:held],
            "early": self._early[:held],
        }

    @classmethod
    def load(cls, held: Mapping[str, NDArray[Any]]) -> Arms:
        arms = cls()
        arms._keys, arms._rows, arms._early = held["keys"], held["rows"], held["early"]
        arms._of = {key: n for n, key in enumerate(split(arms._keys.tobytes(), ARM_KEY.itemsize))}
        return arms

    def _valid(self, facts: Facts) -> NDArray[np.intp]:
        finite = np.isfinite(facts.reward)
        fits = (facts.reward >= 0) & (facts.reward <= 1)
        valid_state = facts.state < len(STATES)
        reversible = REVERSIBLE[np.where(valid_state, facts.state, SERVED)]
        wrong_sign = valid_state & ~((facts.sign == 1) | ((facts.sign == -1) & reversible))
        valid_state &= ~wrong_sign
        bad = {
            "unknown_state": facts.state >= len(STATES),
            "wrong_sign": wrong_sign,
            "reward_not_finite": valid_state & ~finite,
            "reward_out_of_range": valid_state & finite & ~fits,
        }
        self.ignored.update({why: int(n) for why, of in bad.items() if (n := of.sum())})
        return np.flatnonzero(valid_state & finite & fits)

    def _numbers(self, keys: ArmKeys) -> NDArray[np.intp]:
        """Dense numbers of distinct keys; new ones get the next."""
        existing = len(self._of)
        named = split(keys.tobytes(), ARM_KEY.itemsize)
        numbers = np.array([self._of.setdefault(key, len(self._of)) for key in named], np.intp)
        if len(self._of) > len(self._rows):
            room = max(len(self._of), 2 * len(self._rows))
            self._keys, self._rows, self._early = (
                np.concatenate([held[:existing], np.zeros(room - existing, held.dtype)])
                for held in (self._keys, self._rows, self._early)
            )
        self._keys[numbers] = keys
        return numbers

    def _reward(
        self, numbers: NDArray[np.intp], counts: NDArray[np.int64], rewards: NDArray[np.float64]
    ) -> None:
        """Updates the means, before the counts. `rewards`: the sum of those of each arm's new clicks."""
        moved = np.flatnonzero(counts[:, SERVED] + counts[:, CLICKED])
        at, rows = numbers[moved], self._rows
        columns: Iterable[list[Any]] = (
            column.tolist()
            for column in (
                rows["n"][at],
                rows["mean"][at],
                self._early["n"][at],
                self._early["mean"][at],
                rows["clicked"][at],
                counts[moved, SERVED],
                counts[moved, CLICKED],
                rewards[moved],
            )
        )
        after = np.array([_rewarded(*arm) for arm in zip(*columns, strict=True)]).reshape(-1, 4)
        rows["n"][at], rows["mean"][at] = after[:, 0], after[:, 1]
        self._early["n"][at], self._early["mean"][at] = after[:, 2], after[:, 3]


def _rewarded(
    n: float,
    mean: float,
    early_n: float,
    early_mean: float,
    before: int,
    served: int,
    clicked: int,
    reward: float,
) -> tuple[float, float, float, float]:
    """State of an arm's rewards, and of its early ones, after `served` more slots and `clicked` more clicks
    with `reward` in all; `before`: the clicks so far."""
    from river.stats import Mean  # a third of a second: only a process that keeps arms pays it

    held, early = Mean._from_state(n, mean), Mean._from_state(early_n, early_mean)
    placed = before - early_n  # clicks in `held`: the rest of it are zeros
    if served:
        held += Mean._from_state(served, 0.0)  # so many update(0.0)
    if clicked:
        early += Mean._from_state(clicked, reward / clicked)
    if placed and (early_n or early.n > held.n - placed):
        # more clicks than slots: the result must not depend on their order, so each counts as the mean
        # of them all
        early += Mean._from_state(placed, held.get() * held.n / placed)
        held, placed = Mean._from_state(held.n, 0.0), 0
    due = min(early.n, held.n - placed)
    if due > 0:
        held -= Mean._from_state(due, 0.0)  # revert(0.0), and then update(reward)
        held += Mean._from_state(due, early.get())
    return held.n, held.get(), early.n - due, early.get()


def _grouped(
    placement: NDArray[np.uint32], item: NDArray[np.uint64]
) -> tuple[NDArray[np.intp], NDArray[np.intp]]:
    """(n,) the arm of each fact, and (arms,) the first fact of each arm; arms by (item, placement)."""
    order = np.lexsort((placement, item))
    new = np.ones(len(order), np.bool_)
    new[1:] = (np.diff(item[order]) != 0) | (np.diff(placement[order]) != 0)
    which = np.empty(len(order), np.intp)
    which[order] = np.cumsum(new) - 1
    return which, order[new]
