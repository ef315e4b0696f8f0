"""A person's current session. Log-ordered.

A `session_id` names a session. An action without an id belongs to the session before it, whatever its
name, unless it comes after a gap of more than 30 minutes. An action older than the newest of its person
belongs to none: it opens, prolongs and ends no session.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.features.columns import Columns, Folded
from models.features.plain import Event
from models.features.ring import IN_SESSION
from schemas.events import Merge

GAP_MS: Final = 30 * 60 * 1000
FIELDS = (
    ("session", "<u8"),
    ("session_start", "<i8"),
    ("session_last", "<i8"),
    ("session_n", "<u4"),
    ("sessions", "<u4"),
)


def update(rows: NDArray[np.void], columns: Columns, folded: Folded) -> None:
    """Also fills `folded.session_rank`."""
    folded.session_rank = np.zeros(len(folded.recent), np.int64)
    acts = folded.recent.where(folded.in_order)
    if not len(acts):
        return
    who, start = acts.who, acts.start[acts.who]
    at = np.arange(len(acts))
    before = np.empty_like(acts.time)
    before[1:] = acts.time[:-1]
    opens = acts.rank == 0
    before[opens] = rows["session_last"][who[opens]]
    gap = acts.time - before > GAP_MS
    ever_first = opens & (rows["sessions"][who] == 0)
    named = acts.session != 0
    # the latest action that sets the session's key: by a name, or after a gap (then 0)
    mark = _latest(named | gap | ever_first)
    mark_before = np.concatenate([[-1], mark[:-1]])
    key = np.where(mark_before >= start, acts.session[mark_before], rows["session"][who])
    breaks = ever_first | np.where(named, acts.session != key, gap)
    begun = _latest(breaks)
    inside = begun >= start
    rank = np.where(inside, at - begun, rows["session_n"][who] + acts.rank)
    folded.session_rank[folded.in_order] = rank

    people, last = acts.present, acts.last
    rows["session"][people] = np.where(
        mark[last] >= start[last], acts.session[mark[last]], rows["session"][people]
    )
    rows["session_start"][people] = np.where(
        inside[last], acts.time[begun[last]], rows["session_start"][people]
    )
    rows["session_last"][people] = acts.time[last]
    rows["session_n"][people] = rank[last] + 1
    rows["sessions"] += np.bincount(who[breaks], minlength=acts.people).astype(np.uint32)


def _latest(marks: NDArray[np.bool_]) -> NDArray[np.int64]:
    """(n,) index of the latest mark at or before each place; -1 where there is none."""
    return np.maximum.accumulate(np.where(marks, np.arange(len(marks)), -1))


def value(row: np.void) -> Any:
    return tuple(int(row[name]) for name, *_ in FIELDS)


def reference(events: Sequence[Event], merges: Sequence[Merge] = (), before: Any = None) -> Any:
    """The value by the slow definition. A merge adds no action to the session; `models.reference.recents`
    found which events are in order."""
    key, begun, last, n, sessions = before or (0, 0, 0, 0, 0)
    for event in (event for event in events if event.flags & IN_SESSION):
        gap = sessions == 0 or event.time - last > GAP_MS
        if sessions == 0 or (event.session != key if event.session else gap):
            begun, n, sessions = event.time, 0, sessions + 1
        if event.session or gap:
            key = event.session
        last, n = event.time, n + 1
    return key, begun, last, n, sessions
