"""What a trainer may learn from: a log's acts as columns, the choices in them, and the cuts in time.

Columns in, rows out; nothing here reads a log. Times split globally, by the choices (not by the acts), so
that nobody who acts much moves a cut. What is not used is counted, by reason.
"""

from __future__ import annotations

from collections import Counter
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask
from models.evaluation.ranking import Lists
from models.features.overflow import DAILY_CAP, MAX_PER_DAY, OVER_DAILY_CAP
from schemas.actions import WEIGHT
from schemas.errors import FreshetError
from schemas.times import DAY_MS

CHOICE_WEIGHT: Final = 2.0
"""The least weight of an action that is a choice (a click, a like); a view may be a mistake."""
SHARES: Final = ((0.6, 0.8), (0.5, 0.8))
"""Shares of the choices, by time: vectors learn before the first, the ranker between the two; what is after
the second judges. The second pair is for logs where the first leaves too few. A fifth judges: with a tenth
MovieLens small has 67 people to judge by, and no release that is 1.05 x as good can be told apart."""
MIN_CHOICES: Final = (200, 100)
"""The least numbers of choices to learn from and to judge by."""
MAX_CHOICES_OF_PERSON: Final = 500
"""Drawn by seed from all of a person's, before any cut: who acts without end moves no cut."""
MAX_JUDGED_OF_PERSON: Final = 20
"""Drawn by seed likewise, of those that judge: choices of one person are no independent evidence."""
ACTS_SORTED: Final = 1_000_000
"""About so many at once."""
_SEED: Final = 20_26

NOT_IN_CATALOGUE: Final = "not_in_catalogue"
"""Reason: the edge did not know the item."""
NOT_POSITIVE: Final = "not_positive"
QUARANTINED: Final = "quarantined"
BOT: Final = "bot"
"""Reason: the person acted more than `MAX_PER_DAY` times in one UTC day."""
IN_EXPERIMENT: Final = "in_experiment"
"""Reason: an experiment took part in the slate that showed the item, so its variant may have chosen it."""
REPEATED: Final = "repeated"
"""Reason: the person had acted on the item before."""
FIRST_ACT: Final = "first_act"
"""Reason: the person had done nothing before."""
NOT_CLEAR: Final = "not_a_choice"
OVER_PERSON: Final = "over_choices_of_person"
OVER_JUDGED: Final = "over_judged_of_person"
NOT_DRAWN: Final = "not_drawn"
"""Reason: more choices than were asked for."""
NOT_FINITE: Final = "not_finite"
"""Reason: a row of the list holds NaN or an infinity."""
ONE_CLASS: Final = "one_class"
"""Reason: nothing but targets in the list, or no target."""


class TooLittle(FreshetError):
    """The log holds too little to learn from; the text says what is missing."""


class Acts(NamedTuple):
    """n actions, by (partition, offset). `time`: ms; `person`: a hash; `action`: its code; `in_catalogue`:
    the edge knew the item; `in_experiment`: an experiment took part in the slate that the action names."""

    partition: NDArray[np.uint16]
    offset: I64
    time: I64
    person: U64
    item: U64
    action: NDArray[np.uint8]
    in_catalogue: Mask
    in_experiment: Mask


class Interactions(NamedTuple):
    """m positive actions on items of the catalogue, by (time, partition, offset); each array is (m,).

    `time`: ms; `person`: index in `people`, their hashes; `first`: the person's first action on the item;
    `earlier`: the person had acted before; `clear`: a choice, by its weight. `dropped`: actions that are not
    here, by reason.
    """

    partition: NDArray[np.uint16]
    offset: I64
    time: I64
    item: U64
    person: I64
    first: Mask
    earlier: Mask
    clear: Mask
    people: U64
    dropped: Counter[str]


class Choices(NamedTuple):
    """`learnt` (s): what is before it makes the vectors. `judged` (ms): what is at or after it judges.
    `train`, `judge`: indices of interactions, ascending; `dropped`: those that are in neither, by reason."""

    learnt: int
    judged: int
    train: I64
    judge: I64
    dropped: Counter[str]


NO_CHOICES: Final = Choices(0, 0, np.empty(0, np.int64), np.empty(0, np.int64), Counter())


def interactions(acts: Acts, quarantined: U64 | None = None) -> Interactions:
    """The actions to learn from. `quarantined`: hashes of people who are not to be learnt from.

    Whether an action is a person's first is asked of all their positive ones, those that are dropped too: a
    state has them. Actions after the third of a person on an item and UTC day are dropped, as sums drop them.
    """
    positive, dropped = (WEIGHT > 0)[acts.action], Counter[str]()
    _count(dropped, NOT_IN_CATALOGUE, ~acts.in_catalogue)
    _count(dropped, NOT_POSITIVE, acts.in_catalogue & ~positive)
    order = np.argsort(acts.time, kind="stable")
    order = order[(acts.in_catalogue & positive)[order]]
    people = np.unique(acts.person[order])
    person = np.searchsorted(people, acts.person[order])
    time, item = acts.time[order], acts.item[order]
    first, over_cap = _of_pairs(person, item, time, len(people))
    reasons = {
        QUARANTINED: np.isin(people, np.empty(0) if quarantined is None else quarantined)[person],
        BOT: _bots(person, time, len(people))[person],
        IN_EXPERIMENT: acts.in_experiment[order],
        OVER_DAILY_CAP: over_cap,
    }
    kept = np.ones(len(order), np.bool_)
    for reason, mask in reasons.items():
        _count(dropped, reason, kept & mask)
        kept &= ~mask
    earlier = np.ones(len(order), np.bool_)
    opening = np.zeros(len(people), np.int64)
    opening[person[::-1]] = np.arange(len(order))[
        ::-1
    ]  # of equal indices the last assignment holds
    earlier[opening] = False
    # one after the other, so that few columns are there twice
    order = order[kept]
    time = time[kept]
    item = item[kept]
    person = person[kept]
    return Interactions(
        acts.partition[order],
        acts.offset[order],
        time,
        item,
        person,
        first[kept],
        earlier[kept],
        (WEIGHT >= CHOICE_WEIGHT)[acts.action[order]],
        people,
        dropped,
    )


def choose(acts: Interactions, train: int, judge: int) -> Choices:
    """The choices to learn from, at most `train`, and to judge by, at most `judge`, drawn with a fixed seed:
    people's first actions on an item, by those who had acted before; clear choices where there are enough of
    them. Errors: `TooLittle`."""
    if not len(acts.time):
        raise TooLittle(
            "the log holds nothing that a person did with an item of the catalogue"
            f"{_of_dropped(acts.dropped)}: import events first"
        )
    found = NO_CHOICES
    for clear in (True, False):
        for shares in SHARES:
            found = _cut(acts, clear, shares)
            if len(found.train) >= MIN_CHOICES[0] and len(found.judge) >= MIN_CHOICES[1]:
                return _drawn(found, train, judge)
    raise TooLittle(
        f"the log is too small to learn from: it holds {len(acts.time):,} interactions"
        f"{_of_dropped(acts.dropped)}, and after the first {SHARES[-1][0]:.0%} of their choices"
        f" {len(found.train):,} to learn from (it takes {MIN_CHOICES[0]}) and {len(found.judge):,} to judge"
        f" by (it takes {MIN_CHOICES[1]}, at most {MAX_JUDGED_OF_PERSON} of a person): import more history"
    )


def sound(lists: Lists, dropped: Counter[str]) -> Lists:
    """The lists that a ranker can learn from: all numbers finite, a target, and something else. Counts the
    others in `dropped`."""
    of_list = np.repeat(np.arange(len(lists.size)), lists.size)
    count = len(lists.size)
    finite = np.bincount(of_list[~np.isfinite(lists.rows).all(axis=1)], minlength=count) == 0
    targets = np.bincount(of_list[lists.target], minlength=count)
    two = (targets > 0) & (targets < lists.size)
    _count(dropped, NOT_FINITE, ~finite)
    _count(dropped, ONE_CLASS, finite & ~two)
    kept = finite & two
    rows = kept[of_list]
    new = None if lists.new is None else lists.new[kept]
    return Lists(lists.rows[rows], lists.target[rows], lists.size[kept], new)


def _cut(acts: Interactions, clear: bool, shares: tuple[float, float]) -> Choices:
    """All choices after the cuts at `shares`."""
    chance, dropped = np.random.default_rng(_SEED), Counter[str]()
    eligible = np.ones(len(acts.time), np.bool_)
    wanted = {REPEATED: acts.first, FIRST_ACT: acts.earlier}
    for reason, mask in (wanted | ({NOT_CLEAR: acts.clear} if clear else {})).items():
        _count(dropped, reason, eligible & ~mask)
        eligible &= mask
    at = np.flatnonzero(eligible)
    if not len(at):
        return NO_CHOICES
    kept = _of_each(acts.person, at, MAX_CHOICES_OF_PERSON, chance)
    dropped[OVER_PERSON] += len(at) - len(kept)
    learnt, judged = (int(acts.time[kept[int(share * len(kept))]]) for share in shares)
    late = kept[acts.time[kept] >= judged]
    early = kept[(acts.time[kept] // 1000 >= learnt // 1000) & (acts.time[kept] < judged)]
    some = _of_each(acts.person, late, MAX_JUDGED_OF_PERSON, chance)
    dropped[OVER_JUDGED] += len(late) - len(some)
    return Choices(learnt // 1000, judged, early, some, +dropped)


def _drawn(found: Choices, train: int, judge: int) -> Choices:
    """At most `train` and `judge` of the choices."""
    chance = np.random.default_rng(_SEED)
    drawn = [
        np.sort(chance.choice(at, most, replace=False)) if len(at) > most else at
        for at, most in ((found.train, train), (found.judge, judge))
    ]
    fewer = len(found.train) + len(found.judge) - sum(map(len, drawn))
    dropped = found.dropped + Counter({NOT_DRAWN: fewer})
    return found._replace(train=drawn[0], judge=drawn[1], dropped=dropped)


def _of_each(person: I64, at: I64, most: int, chance: np.random.Generator) -> I64:
    """At most `most` of each person's among `at`, ascending."""
    shuffled = chance.permutation(at)
    order = np.argsort(person[shuffled], kind="stable")
    whose = person[shuffled][order]
    rank = np.arange(len(whose)) - np.searchsorted(whose, whose)
    return np.sort(shuffled[order[rank < most]])


def _of_pairs(person: I64, item: U64, time: I64, people: int) -> tuple[Mask, Mask]:
    """Of acts by time (n,): the person's first on the item, and those beyond the daily cap."""
    first, over = np.zeros(len(time), np.bool_), np.zeros(len(time), np.bool_)
    # some people at a time: sorting all at once takes more memory than the acts do
    some = max(1, people * ACTS_SORTED // max(len(time), 1))
    for start in range(0, people, some):
        at = np.flatnonzero((person >= start) & (person < start + some))
        at = at[np.lexsort((item[at], person[at]))]  # stable: within a pair they stay by time
        new = np.ones(len(at), np.bool_)
        for column in (person[at], item[at]):
            new[1:] &= column[1:] == column[:-1]
        new[1:] = ~new[1:]
        first[at[new]] = True
        day = time[at] // DAY_MS
        new[1:] |= day[1:] != day[:-1]
        begun = np.maximum.accumulate(np.where(new, np.arange(len(at)), 0))
        over[at] = np.arange(len(at)) - begun >= DAILY_CAP
    return first, over


def _bots(person: I64, time: I64, people: int) -> Mask:
    """(people,) who acted more than `MAX_PER_DAY` times in one UTC day."""
    found = np.bincount(person, minlength=people) > MAX_PER_DAY
    for each in np.flatnonzero(found).tolist():
        days = np.unique(time[person == each] // DAY_MS, return_counts=True)[1]
        found[each] = days.max() > MAX_PER_DAY
    return found


def _count(dropped: Counter[str], reason: str, mask: Mask) -> None:
    if count := int(np.count_nonzero(mask)):
        dropped[reason] += count


def _of_dropped(dropped: Counter[str]) -> str:
    """What was dropped, for a sentence.

    >>> _of_dropped(Counter({"bot": 20_000, "not_positive": 3}))
    ' (dropped: bot 20,000, not_positive 3)'
    """
    named = ", ".join(f"{reason} {count:,}" for reason, count in dropped.most_common())
    return f" (dropped: {named})" if named else ""
