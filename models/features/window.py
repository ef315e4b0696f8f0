"""Co-visitation: the items visited together with an action. Log-ordered.

The partners of an action are at most 10 distinct other items, of the person's last 16 actions in the same
session. Kept: those 16 items, in the order of their arrival; 0 for an action without positive weight, or
on an item that was not in the catalogue.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features.columns import Columns, Folded
from models.features.plain import Event, recents
from models.features.ring import DAILY_CAP
from schemas.actions import WEIGHT
from schemas.events import Merge
from schemas.state.facts import UNKNOWN

MAX_LAG: Final = 16
MAX_PARTNERS: Final = 10
FIELDS = (("window", "<u8", (MAX_LAG,)),)


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """Also fills `folded.partners`. Comes after session and ring."""
    acts, n = folded.recent, folded.before
    informative = (WEIGHT[acts.action] > 0) & (acts.flags & UNKNOWN == 0)
    item = np.where(informative, acts.item, 0).astype(np.uint64)
    # one strip a person: the 16 kept items, then the batch's; an action looks back along it
    strip = np.empty(len(acts) + MAX_LAG * acts.people, np.uint64)
    base = acts.start + MAX_LAG * np.arange(acts.people)
    lags = np.arange(MAX_LAG)
    strip[base[:, None] + lags] = np.take_along_axis(
        rows["window"], (n[:, None] + lags) % MAX_LAG, axis=1
    )
    place = np.arange(len(acts)) + MAX_LAG * (acts.who + 1)
    strip[place] = item
    back = strip[place[:, None] - 1 - lags]
    counts = informative & (folded.repeats < DAILY_CAP)
    good = (lags < folded.session_rank[:, None]) & (back != item[:, None]) & (back != 0)
    good &= counts[:, None]
    # no partner is further back than the longest session of the batch
    for lag in range(1, min(MAX_LAG, int(folded.session_rank.max(initial=0)) + 1)):
        good[:, lag] &= ~((back[:, lag : lag + 1] == back[:, :lag]) & good[:, :lag]).any(1)
    good &= np.cumsum(good, 1, dtype=np.uint8) <= MAX_PARTNERS
    folded.partners = np.where(good, back, 0).astype(np.uint64)
    stays = acts.rank >= acts.count[acts.who] - MAX_LAG
    who = acts.who[stays]
    rows["window"][who, (n[who] + acts.rank[stays]) % MAX_LAG] = item[stays]


def value(row: np.void) -> Any:
    n = int(row["n"])
    return [int(row["window"][(n - 1 - lag) % MAX_LAG]) for lag in range(min(n, MAX_LAG))]


def reference(events: Sequence[Event], merges: Sequence[Merge] = (), before: Any = None) -> Any:
    """The value by the slow definition. A merged action counts as 0, and as older than all."""
    acts, held = recents(events), before or []
    items = [e.item if e.weight > 0 and e.in_catalogue else 0 for e in reversed(acts[-MAX_LAG:])]
    items = [*items, *held][:MAX_LAG]
    n = len(held) + len(acts) + sum(merge.entered for merge in merges)
    return items + [0] * (min(n, MAX_LAG) - len(items))
