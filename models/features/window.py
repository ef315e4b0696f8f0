"""Co-visitation: the items visited before an action.

The partners of an action in order are at most 10 distinct other items with positive weight, of the newest
16 entries of the list that were in order (`IN_SESSION`), however long ago. Those of an older action are found
by time: of the 16 entries before its place. The lag counts these entries, 1 for the nearest. As far as the
session of the action reaches, to an older one up to the first gap between two neighbours that ends a session,
both are of one session.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.arrays import I64, U64, Mask
from models.features import ring
from models.features.columns import Columns, Folded
from models.features.ring import IN_SESSION, RING_SIZE
from schemas.actions import WEIGHT, by_byte

MAX_LAG: Final = 16
MAX_PARTNERS: Final = 10
INFORMATIVE: Final = by_byte(WEIGHT > 0)
"""By code of an action."""


def update(rows: NDArray[np.void], acts: Columns, folded: Folded) -> None:
    """Fills `folded.partners` and `reach` for people whose actions come by time. Comes after session and
    cap."""
    informative = INFORMATIVE[acts.action]
    item = np.where(informative, acts.item, 0).astype(np.uint64)
    # one strip a person: the newest 16 of the ring, then the batch's; an action looks back along it
    strip = np.empty(len(acts) + MAX_LAG * acts.people, np.uint64)
    base = acts.start + MAX_LAG * np.arange(acts.people)
    lags = np.arange(MAX_LAG)
    newest, age = _newest(rows, folded.before)
    strip[base[:, None] + MAX_LAG - 1 - lags] = newest
    place = np.arange(len(acts)) + MAX_LAG * (acts.who + 1)
    strip[place] = item
    # no partner is further back than the longest list of the batch
    width = min(MAX_LAG, int((folded.before[acts.who] + acts.rank).max(initial=0)))
    back = strip[place[:, None] - 1 - lags[:width]]
    back[~(informative & folded.counts)] = 0
    if age is not None:
        # of a list with entries out of order some of the 16 may be so old that the batch drives them out
        of_list = lags[:width] - acts.rank[:, None]
        held_for = RING_SIZE - age[acts.who[:, None], np.maximum(of_list, 0)]
        back[(of_list >= 0) & (acts.rank[:, None] >= held_for)] = 0
    folded.partners = np.zeros((len(acts), MAX_LAG), np.uint64)
    folded.partners[:, :width] = nearest(back, item)
    folded.reach = folded.session_rank.copy()


def _newest(rows: NDArray[np.void], n: I64) -> tuple[U64, I64 | None]:
    """(U, 16) the items of the newest entries that were in order, newest first; 0 for one without positive
    weight, and where there is none. And (U, 16) how many entries are newer than each; None where that is its
    place for all."""
    lags, people = np.arange(MAX_LAG), np.arange(len(rows))
    entries = ring.at(rows, people[:, None], n[:, None] - 1 - lags)
    present = lags < n[:, None]
    items = np.where(present & INFORMATIVE[entries["action"]], entries["item"], 0)
    some = np.flatnonzero((present & (entries["flags"] & IN_SESSION == 0)).any(1))
    if not len(some):
        return items.astype(np.uint64), None
    age = np.arange(RING_SIZE)
    entries = ring.at(rows, some[:, None], n[some, None] - 1 - age)
    chosen = (age < n[some, None]) & (entries["flags"] & IN_SESSION != 0)
    speaking = np.where(INFORMATIVE[entries["action"]], entries["item"], 0)
    ages = np.tile(lags, (len(rows), 1))
    items[some], ages[some] = newest_chosen(speaking, chosen)
    return items.astype(np.uint64), ages


def newest_chosen(items: NDArray[Any], chosen: Mask) -> tuple[U64, I64]:
    """(k, 16) the newest `chosen` of `items` (k, 50; newest first); then 0. And their places in `items`."""
    first = np.argsort(~chosen, axis=1, kind="stable")[:, :MAX_LAG]
    there = np.take_along_axis(chosen, first, 1)
    found: U64 = np.where(there, np.take_along_axis(items, first, 1), 0).astype(np.uint64)
    return found, first


def nearest(back: U64, item: U64) -> U64:
    """(n, lag) of the items `back`, the nearest first, those that are partners of `item` (n,); else 0."""
    found = np.ascontiguousarray(
        back.T
    )  # a lag's items side by side: NumPy compares those much quicker
    good = (found != item) & (found != 0)
    for lag in range(1, len(found)):
        good[lag] &= ~(found[:lag] == found[lag]).any(
            0
        )  # an earlier one of no use is as useless again
    good &= np.cumsum(good, 0, dtype=np.uint8) <= MAX_PARTNERS
    found[~good] = 0
    return found.T
