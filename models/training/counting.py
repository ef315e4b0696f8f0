"""The counting of a release, chosen on history.

Each choice of the history is looked for in the lists of its person's interest, as a list would be published
under each counting. One setting after the other takes the value with the highest NDCG, twice around, from the
built-in ones on. A value replaces another only where it wins by more than a standard error of the paired
difference, people being the units: the one-standard-error rule (Breiman, Friedman, Olshen, Stone 1984,
"Classification and Regression Trees", section 3.4.3), so that chance moves no setting.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import combinations
from typing import Any, Final, NamedTuple, TypeVar

import msgspec
import numpy as np

from models.arrays import F64, I64, U64
from models.evaluation.choices import Scored, compared, expected
from schemas.state.counting import BUILT_IN, LAG_POWERS, Counting, Mix
from schemas.state.tables import WINDOWS, Gap

LIST_LENGTH: Final = 50
"""Partners in a list, as they are published (`models.aggregates.covisit.NEIGHBOURS_PER_ITEM`)."""
MAX_RANK_COUNTED: Final = 100
"""Ranks that count: what a ranker sees."""
VALUES: Final[Mapping[str, tuple[Any, ...]]] = {
    "gap": ("session", "any"),
    "lag_power": LAG_POWERS,
    "backward": (0.0, 0.25, 0.5, 1.0),
    "fade": (0.5, 0.6, 0.75, 0.85),
}
"""The values of each setting that are tried."""
ROUNDS: Final = 2
"""Times around all settings."""
STANDARD_ERRORS: Final = 1.0
"""A value must win by so many."""
STANDARD_ERRORS_OF_MIXES: Final = 2.0
"""A mix must win by more: of fifteen one is the best by chance."""
MIXES: Final[tuple[Mix, ...]] = tuple(
    tuple(float(n in chosen) for n in range(len(WINDOWS)))
    for size in range(1, len(WINDOWS) + 1)
    for chosen in combinations(range(len(WINDOWS)), size)
)
"""Each window of popularity alone, and every even mix of several."""
_SHIFT: Final = np.uint64(32)
_LOW: Final = np.uint64(0xFFFF_FFFF)
Option = TypeVar("Option")


class ListSums(NamedTuple):
    """Sums of m pairs, those of one list after those of the other: `keys` (m,) list << 32 | item, ascending;
    `forward` and `backward` (m,), as `models.aggregates` gives them of the items whose lists they are."""

    keys: U64
    forward: F64
    backward: F64


class Stretch(NamedTuple):
    """n choices, and the sums of pairs at one time before them, by power of the lag and gap.

    `target` (n,) the item chosen; `person` (n,). The entries of their interests: `entry_choice` (e,),
    ascending; `entry_list` (e,) a list of `sums`; `entry_age` (e,) 0 for the newest of a choice.
    `hidden_choice`, `hidden_item` (h,): items that are not shown to the person of a choice.
    """

    sums: Mapping[tuple[float, Gap], ListSums]
    target: I64
    person: I64
    entry_choice: I64
    entry_list: I64
    entry_age: I64
    hidden_choice: I64
    hidden_item: I64


class _Shares(NamedTuple):
    """Lists as published: `partner` and `share` (k,), those of list n from `start[n]` to `start[n + 1]`."""

    partner: I64
    share: F64
    start: I64


def choose_counting(
    stretches: Sequence[Stretch], start: Counting = BUILT_IN
) -> tuple[Counting, dict[str, float]]:
    """The counting under which co-visitation finds the choices best, and the NDCG of `start` and of the one
    chosen. `start` stays where there is no choice.

    The mixes of popularity are those of `start` (`choose_mix`).
    """
    search = _Search(stretches)
    chosen = start
    for _ in range(ROUNDS):
        for name, values in VALUES.items():
            tried = {
                value: search.gains(msgspec.structs.replace(chosen, **{name: value}))
                for value in dict.fromkeys((getattr(chosen, name), *values))
            }
            best = winner(tried, search.person, getattr(chosen, name))
            chosen = msgspec.structs.replace(chosen, **{name: best})
    return chosen, {
        name: round(float(search.gains(counting).mean()), 5) if len(search.person) else 0.0
        for name, counting in (("start", start), ("chosen", chosen))
    }


def choose_mix(gains_by_mix: Mapping[Mix, F64], person: I64, default: Mix) -> Mix:
    """The mix with the highest mean gain, by the rule above; `gains_by_mix[mix]` and `person` (n,)."""
    return winner(gains_by_mix, person, default, STANDARD_ERRORS_OF_MIXES)


def winner(
    gains_of: Mapping[Option, F64], person: I64, default: Option, errors: float = STANDARD_ERRORS
) -> Option:
    """The option with the highest mean of (n,) gains; `default` where that wins by `errors` standard errors
    or less.

    >>> even = np.arange(8) % 2.0
    >>> winner({"a": even, "b": even + np.arange(8) / 10}, np.arange(8), "a")
    'b'
    >>> winner({"a": even, "b": 1.01 - even}, np.arange(8), "a")
    'a'
    """
    if not len(person):
        return default
    best = max(gains_of, key=lambda option: float(gains_of[option].mean()))
    better, error = paired_difference(gains_of[best], gains_of[default], person)
    return best if better > errors * error and better > 0 else default


def paired_difference(one: F64, other: F64, person: I64) -> tuple[float, float]:
    """The mean of ``one - other`` (n,) and its standard error, people being the units: infinite for one
    person. It is that of a ratio of sums over people (Cochran 1977, "Sampling Techniques", section 9A.1)."""
    _, which = np.unique(person, return_inverse=True)
    people = int(which.max()) + 1
    sums = np.bincount(which, one - other, people)
    sizes = np.bincount(which, minlength=people)
    mean = float(sums.sum() / sizes.sum())
    if people < 2:
        return mean, float("inf")
    residual = sums - mean * sizes
    variance = people / (people - 1) * float((residual**2).sum()) / float(sizes.sum()) ** 2
    return mean, variance**0.5


def scored(stretch: Stretch, counting: Counting) -> Scored:
    """How co-visitation under `counting` scores each target; not at all where it is in no list."""
    return _scored(stretch, _published(stretch, counting), counting.fade)


class _Search:
    """The gains of countings, each found once, and the lists that several fades share."""

    def __init__(self, stretches: Sequence[Stretch]) -> None:
        self._stretches = stretches
        self.person = np.concatenate([np.empty(0, np.int64), *(it.person for it in stretches)])
        self._lists: dict[tuple[Any, ...], list[_Shares]] = {}
        self._gains: dict[Counting, F64] = {}

    def gains(self, counting: Counting) -> F64:
        if counting not in self._gains:
            key = (counting.lag_power, counting.backward, counting.gap)
            if key not in self._lists:
                self._lists[key] = [_published(it, counting) for it in self._stretches]
            found = [
                expected("ndcg", _scored(stretch, lists, counting.fade), MAX_RANK_COUNTED)
                for stretch, lists in zip(self._stretches, self._lists[key], strict=True)
            ]
            self._gains[counting] = np.concatenate([np.empty(0), *found])
        return self._gains[counting]


def _published(stretch: Stretch, counting: Counting) -> _Shares:
    """The best `LIST_LENGTH` partners of each owner, and the share of each in the sum of these."""
    found = stretch.sums[counting.lag_power, counting.gap]
    sums = found.forward + counting.backward * found.backward
    lists = int(stretch.entry_list.max(initial=-1)) + 1
    of = (found.keys >> _SHIFT).astype(np.int64)
    order = np.lexsort((found.keys, -sums, of))
    order = order[sums[order] > 0]
    count = np.bincount(of[order], minlength=lists)
    order = order[np.arange(len(order)) - np.repeat(np.cumsum(count) - count, count) < LIST_LENGTH]
    of, kept = of[order], sums[order]
    total = np.bincount(of, kept, lists)
    start = np.concatenate([[0], np.cumsum(np.minimum(count, LIST_LENGTH))])
    return _Shares((found.keys[order] & _LOW).astype(np.int64), kept / total[of], start)


def _scored(stretch: Stretch, lists: _Shares, fade: float) -> Scored:
    choices = len(stretch.target)
    weight = fade ** stretch.entry_age.astype(np.float64)
    weight /= np.bincount(stretch.entry_choice, weight, choices)[stretch.entry_choice]
    first = lists.start[stretch.entry_list]
    count = lists.start[stretch.entry_list + 1] - first
    rows = np.repeat(first - np.cumsum(count) + count, count) + np.arange(count.sum())
    keys = _keys(np.repeat(stretch.entry_choice, count), lists.partner[rows])
    keys, which = np.unique(keys, return_inverse=True)
    totals = np.bincount(which, np.repeat(weight, count) * lists.share[rows], len(keys))
    shown = ~np.isin(keys, _keys(stretch.hidden_choice, stretch.hidden_item))
    keys, totals = keys[shown], totals[shown]
    wanted = _keys(np.arange(choices), stretch.target)
    if not len(keys):
        return Scored(np.full(choices, -1), np.zeros(choices, np.int64))
    at = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
    found, choice = keys[at] == wanted, (keys >> _SHIFT).astype(np.int64)
    return compared(totals, choice, totals[at], found)


def _keys(upper: I64, lower: I64) -> U64:
    keys: U64 = upper.astype(np.uint64) << _SHIFT | lower.astype(np.uint64)
    return keys
