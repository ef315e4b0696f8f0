"""Acts as they are read, and all of them as columns."""

from __future__ import annotations

from collections import Counter
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.datasets.layouts import clocks, numbering
from infra.datasets.layouts.numbering import NO_ID
from infra.datasets.layouts.numbers import NO_TIME, out_of_range
from infra.datasets.rows import Fault, Notes, NotReadable
from schemas.actions import CODE, WEIGHT
from schemas.times import EARLIEST

CHOICE_WEIGHT: Final = 2.0
"""The least weight of an action that is a choice (a click, a like), as for training."""
LIKE_SHARE: Final = 0.8
"""Of the greatest rating of the set: from here on a rating is a like."""


class ActColumns(NamedTuple):
    """n acts in the order of their file; each array is (n,). `person`, `item`, `basket`: places, `NO_ID`:
    none; `time`: ms, `NO_TIME`: none; `rated`: NaN: no rating."""

    person: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.int64]
    action: NDArray[np.int8]
    basket: NDArray[np.int64]
    rated: NDArray[np.float32]

    def chosen(self, rows: NDArray[np.bool_] | NDArray[np.int64]) -> ActColumns:
        columns: list[Any] = [column[rows] for column in self]
        return ActColumns(*columns)


class Gathered:
    """The acts of one set. `has_time`, `has_rating`: each act has one, or it is dropped."""

    def __init__(self, notes: Notes, *, has_time: bool = False, has_rating: bool = False) -> None:
        self.notes, self.has_time, self.has_rating = notes, has_time, has_rating
        self.people, self.items = numbering.of_people(), numbering.of_items()
        self.baskets = numbering.of_texts()
        self.dropped: Counter[str] = Counter()
        self._first: dict[str, int] = {}
        """The first line of each reason."""
        self._read: list[ActColumns] = []

    def add(
        self, acts: ActColumns, lines: NDArray[np.int64], given: dict[str, NDArray[np.bool_]]
    ) -> None:
        """Adds acts of some lines, without those that lack something. `given`: other reasons, which come
        first; an act is dropped for the first that holds."""
        reasons = {**given, "no_person": acts.person == NO_ID, "no_item": acts.item == NO_ID}
        if self.has_time:
            reasons["no_time"] = acts.time == NO_TIME
            reasons["time_out_of_range"] = out_of_range(acts.time)
        if self.has_rating:
            reasons["no_rating"] = np.isnan(acts.rated)
        taken = np.ones(len(acts.time), np.bool_)
        for reason, rows in reasons.items():
            if (rows & taken).any():
                self._drop(reason, lines[rows & taken])
                taken &= ~rows
        self._read.append(acts if taken.all() else acts.chosen(taken))

    def refuse(self, faults: list[Fault]) -> None:
        """Counts lines that could not be read."""
        for line, field, code in faults:
            self._drop(code if field == "line" else f"{field}_{code}", np.array([line]))

    def all(self) -> ActColumns:
        """Every act that was taken. Errors: `NotReadable` where there is none, with the most frequent
        reason."""
        if sum(len(it.time) for it in self._read):
            columns: list[Any] = [np.concatenate(it) for it in zip(*self._read, strict=True)]
            return ActColumns(*columns)
        if not self.dropped:
            raise NotReadable("holds no act", remedy="check that it was written")
        reason, count = self.dropped.most_common(1)[0]
        raise NotReadable(
            f"holds no act that can be read: {count:,} lines have {reason.replace('_', ' ')}, the first is"
            f" line {self._first[reason]:,}",
            remedy=_REMEDIES.get(reason, "write each act in a line as the first one is"),
        )

    def _drop(self, reason: str, lines: NDArray[np.int64]) -> None:
        first = self._first.setdefault(reason, int(lines[0]))
        self.dropped[reason] += len(lines)
        text = f"acts were dropped, {reason.replace('_', ' ')}; the first is of line {first:,}"
        self.notes.add(reason, text, len(lines))


_REMEDIES: Final = {
    "no_time": "write times as ISO 8601, or as seconds or milliseconds since 1970",
    "time_out_of_range": "write times of 1970 to 2100",
    "no_rating": "write ratings as numbers",
    "not_utf8": "write the file in UTF-8",
    "not_in_catalogue": "import the items, too, before the events",
}


def by_ratings(acts: ActColumns, notes: Notes) -> tuple[ActColumns, NDArray[np.bool_]]:
    """A rating of at least `LIKE_SHARE` of the set's greatest is a like and a target, another one a view and
    none. Errors: `NotReadable` where the greatest is not above 0."""
    top = float(acts.rated.max())
    if not top > 0:
        raise NotReadable(
            f"holds no choice: its greatest rating, or label, is {top:g}",
            remedy="choose a set whose likes are rated above 0",
        )
    liked = acts.rated >= np.float32(LIKE_SHARE * top)
    if liked.all():
        text = "no rating lies below four fifths of the greatest: all are likes"
        notes.add("all_likes", text, len(liked))
    action = np.where(liked, CODE["like"], CODE["view"]).astype(np.int8)
    return acts._replace(action=action), liked


def by_actions(acts: ActColumns, notes: Notes) -> NDArray[np.bool_]:
    """(n,): the choices: acts of at least `CHOICE_WEIGHT`; where no act is, those that speak for their item.

    Errors: `NotReadable` where there are none of these, either."""
    weight = WEIGHT[acts.action]
    if (weight >= CHOICE_WEIGHT).any():
        return weight >= CHOICE_WEIGHT
    if (weight > 0).any():
        text = "no act is a clear choice, as a click is: every view was taken for one"
        notes.add("views_are_choices", text, int((weight > 0).sum()))
        return weight > 0
    raise NotReadable(
        "holds no choice: none of its actions speaks for an item",
        remedy="choose a set with clicks, likes, purchases or views",
    )


def by_events(acts: ActColumns, notes: Notes) -> NDArray[np.bool_]:
    """(n,): as `by_actions`, and ratings of at least `LIKE_SHARE` of the greatest. Errors: as
    `by_actions`."""
    rated = ~np.isnan(acts.rated)
    if rated.any() and (top := float(acts.rated[rated].max())) > 0:
        high = acts.rated >= np.float32(LIKE_SHARE * top)  # a NaN is not
        return high | (WEIGHT[acts.action] >= CHOICE_WEIGHT)
    return by_actions(acts, notes)


def of_baskets(acts: ActColumns) -> NDArray[np.bool_]:
    """(n,): lines whose item their basket did not hold before."""
    pairs = np.stack([acts.basket, acts.item])
    target = np.zeros(len(acts.time), np.bool_)
    target[np.unique(pairs, axis=1, return_index=True)[1]] = True
    return target


def laid_out(acts: ActColumns) -> ActColumns:
    """With times, by the order of the file: of baskets where it has some, else of people's sequences."""
    has_baskets = len(acts.basket) > 0 and acts.basket[0] != NO_ID
    times = clocks.baskets(acts.basket) if has_baskets else clocks.sequences(acts.person)
    return acts._replace(time=times)


def since_1990(acts: ActColumns, notes: Notes) -> ActColumns:
    """With times that a product can have: where all lie before 1990, they count from the set's own beginning,
    which is put at `clocks.START_MS`."""
    if acts.time.max() >= EARLIEST:
        return acts
    notes.add("times_moved", "times before 1990 count from a beginning, which was put at 2020")
    return acts._replace(time=acts.time + clocks.START_MS)


def distinct(acts: ActColumns, of: Gathered) -> NDArray[np.bool_]:
    """(n,): without acts that equal an earlier one but in a basket, which are counted as dropped."""
    columns = (acts.rated.view(np.int32), acts.action, acts.item, acts.person, acts.time)
    order = np.lexsort(columns)
    again = np.zeros(len(order), np.bool_)
    again[order[1:]] = np.all([it[order[1:]] == it[order[:-1]] for it in columns], axis=0)
    again &= acts.basket == NO_ID
    if again.any():
        of.dropped["duplicate"] += int(again.sum())
        text = "acts that equal another one in person, item, time and kind were dropped"
        of.notes.add("duplicate", text, int(again.sum()))
    return ~again
