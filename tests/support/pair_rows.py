"""The sums of pairs in tables, as plain values."""

from __future__ import annotations

from models.aggregates.pair_sums import parts
from models.aggregates.tables import Tables
from models.reference.sums import Sums
from schemas.state.counting import LAG_POWERS

PairRows = dict[tuple[int, int, bool, int], float]
"""By hash of the earlier and of the later item, whether within one session, and index of the lag power: the
sums, without those that are 0."""


def pair_rows(made: Tables) -> PairRows:
    hashes, found = made.items.hashes, PairRows()
    for within, table in ((True, made.pairs.session), (False, made.pairs.beyond)):
        keys, sums = table.settle()
        first, second = (hashes[half].tolist() for half in parts(keys))
        for power, column in enumerate(sums.tolist()):
            rows = zip(first, second, column, strict=True)
            found |= {(a, b, within, power): sum_ for a, b, sum_ in rows if sum_}
    return found


def plain_rows(sums: Sums) -> PairRows:
    """The same of the slow definition."""
    powers = len(LAG_POWERS)
    return {
        (first, second, column < powers, column % powers): sum_
        for first, theirs in sums.pairs.items()
        for second, columns in theirs.items()
        for column, sum_ in enumerate(columns)
        if sum_
    }
