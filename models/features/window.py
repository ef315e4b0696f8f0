"""Co-visitation: what was visited together with an action. Log-ordered.

The partners of an action are the at most 10 distinct other items among the person's last 16 actions
in the same session. Kept: those 16 items, in the order they arrived, 0 where one tells nothing (an
action of no positive weight, an item that the catalogue did not know).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features.columns import Columns, Folded
from models.features.plain import Event, recents
from models.features.ring import CAP, DAY_MS, reference_before
from models.features.session import GAP_MS
from schemas.actions import WEIGHT

LAG: Final = 16
PARTNERS: Final = 10
FIELDS = (("window", "<u8", (LAG,)),)


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """Also fills `folded.partners`. Comes after session and ring."""
    acts, n = folded.recent, folded.before
    tells = (WEIGHT[acts.action] > 0) & acts.known
    item = np.where(tells, acts.item, 0).astype(np.uint64)
    # one strip a person: the last 16 kept, then the batch's; an action looks back along it
    strip = np.empty(len(acts) + LAG * acts.people, np.uint64)
    base = acts.start + LAG * np.arange(acts.people)
    lags = np.arange(LAG)
    strip[base[:, None] + lags] = np.take_along_axis(
        rows["window"], (n[:, None] + lags) % LAG, axis=1
    )
    place = np.arange(len(acts)) + LAG * (acts.who + 1)
    strip[place] = item
    back = strip[place[:, None] - 1 - lags]
    counts = tells & (folded.repeats < CAP)
    good = (lags < folded.session_rank[:, None]) & (back != item[:, None]) & (back != 0)
    good &= counts[:, None]
    # a partner further back than the longest session of the batch is none
    for lag in range(1, min(LAG, int(folded.session_rank.max(initial=0)) + 1)):
        good[:, lag] &= ~((back[:, lag : lag + 1] == back[:, :lag]) & good[:, :lag]).any(1)
    good &= np.cumsum(good, 1, dtype=np.uint8) <= PARTNERS
    folded.partners = np.where(good, back, 0).astype(np.uint64)
    stays = acts.rank >= acts.count[acts.who] - LAG
    who = acts.who[stays]
    rows["window"][who, (n[who] + acts.rank[stays]) % LAG] = item[stays]


def value(row: np.void) -> Any:
    n = int(row["n"])
    return [int(row["window"][(n - 1 - lag) % LAG]) for lag in range(min(n, LAG))]


def reference(events: Sequence[Event]) -> Any:
    return [e.item if e.weight > 0 and e.known else 0 for e in reversed(recents(events)[-LAG:])]


def reference_partners(events: Sequence[Event]) -> list[list[tuple[int, int]]]:
    """For each recent action its partners and how many actions ago they came, nearest first."""
    acts = recents(events)
    lists = reference_before(events)
    found: list[list[tuple[int, int]]] = []
    key = last = 0
    session: list[int] = []
    for i, (event, held) in enumerate(zip(acts, lists, strict=True)):
        gap = i == 0 or abs(event.time - last) > GAP_MS
        if i == 0 or (event.session != key if event.session else gap):
            session = []
        if event.session or gap:
            key = event.session
        last = event.time
        told = event.item if event.weight > 0 and event.known else 0
        repeats = sum(k[1] == event.item and k[0] // DAY_MS == event.time // DAY_MS for k in held)
        partners: dict[int, int] = {}
        if told and repeats < CAP:
            for lag, other in enumerate(session[: -LAG - 1 : -1], 1):
                if other not in (0, told) and other not in partners and len(partners) < PARTNERS:
                    partners[other] = lag
        found.append(list(partners.items()))
        session.append(told)
    return found
