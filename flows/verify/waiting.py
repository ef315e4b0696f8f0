"""Compares what waits for items in the stored base, and its counts, with the log."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final, NamedTuple

import numpy as np

from flows.verify.report import Findings
from flows.verify.stored_tables import WAITING_COUNTS, Stored, growth
from models.aggregates.waiting_day import WaitingDay
from models.aggregates.waiting_pairs import LISTED
from models.arrays import U64
from models.reference.sums import Landmarks
from models.reference.waiting import DayWaiting, PairWaiting, WaitingReference
from schemas.state.tables import WINDOWS

TOLERANCE: Final = 1e-9
UNDERFLOW_TOLERANCE: Final = 1e-290
NOTHING: Final = [0.0] * len(WINDOWS)


class PartitionWaits(NamedTuple):
    """What waits in one partition at one offset: sums by (day, item), counts by name, and the sums of what
    was taken back."""

    partition: int
    rows: dict[tuple[int, int], list[float]]
    counts: dict[str, int]
    taken_back: list[float]

    @classmethod
    def of(cls, partition: int, reference: WaitingReference) -> PartitionWaits:
        return cls(partition, reference.rows(), reference.counts(), reference.taken_back)


def compare(
    findings: Findings, stored: Stored, marks: Landmarks, waits: Sequence[PartitionWaits]
) -> None:
    """Compares the sums that wait, where `stored` is a base, and the counts of all."""
    for name in WAITING_COUNTS:
        expected = sum(it.counts[name] for it in waits)
        findings.compare("waiting", name, stored.counts[name], expected, stored.keys["popularity"])
    if stored.waiting is None:
        return
    factors = growth(stored.marks.items, marks.items)
    for it in waits:
        held, back = _rows(stored, it.partition), it.taken_back or NOTHING
        for day, item in held.keys() | it.rows.keys():
            one, other = held.get((day, item), NOTHING), it.rows.get((day, item), NOTHING)
            for column, window in enumerate(WINDOWS):
                findings.compare(
                    "waiting", window, one[column] * factors[column], other[column],
                    stored.keys["popularity"], place=f"{it.partition} {day} {item}",
                    close=TOLERANCE, tiny=max(UNDERFLOW_TOLERANCE, TOLERANCE * back[column]),
                )  # fmt: skip


def _rows(stored: Stored, partition: int) -> dict[tuple[int, int], list[float]]:
    assert stored.waiting is not None
    popularity, days = stored.waiting.popularity, stored.waiting.days[partition]
    rows = {n: day.sums_of(popularity)[day.counted].tolist() for n, day in days.items()}
    return {
        (n, item): sums
        for n, day in days.items()
        for item, sums in zip(day.ids[day.counted].tolist(), rows[n], strict=True)
    }


def reference_of(held: Stored, partition: int, marks: Landmarks) -> WaitingReference:
    """What waits in these tables of a snapshot, as the slow definition goes on from it; sums against
    `marks`."""
    assert held.waiting is not None
    waiting, hashes = held.waiting, held.waiting.items.hashes
    made = WaitingReference(waiting.limits)
    made.day = waiting.newest[partition]
    made.listed = set(hashes[waiting.listed.all()[:, partition]].tolist())
    factors = growth(held.marks.items, marks.items)
    for number, day in waiting.days[partition].items():
        made.days[number] = mine = DayWaiting()
        mine.ids, mine.counts = set(day.ids.tolist()), list(day.counts)
        rows = (day.sums_of(waiting.popularity)[day.counted] * np.array(factors)).tolist()
        mine.rows = dict(zip(day.ids[day.counted].tolist(), rows, strict=True))
        for pair in _pairs(day, hashes):
            mine.wait(pair, made.listed)
    return made


def _pairs(day: WaitingDay, hashes: U64) -> Iterator[PairWaiting]:
    """Its pairs, by hash. `hashes`: by dense number."""
    held = day.log.whole()
    owner = np.repeat(np.arange(len(held.item)), held.pairs)
    # one list of hashes: those of the day, then those by dense number
    every = np.concatenate([day.ids, hashes])
    item, partner = (
        every[np.where(codes < LISTED, codes, codes - LISTED + len(day.ids))].tolist()
        for codes in (held.item[owner].astype(np.int64), held.partner.astype(np.int64))
    )
    return zip(item, partner, held.time[owner].tolist(), held.lag.tolist(), strict=True)
