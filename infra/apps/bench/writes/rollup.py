"""The roll-up's work for an entry of the delta log, by the number of items that its tables hold.

In this process: tables that have listed all items take looks of `ENTRIES_PER_LOOK` stored entries of `EVENTS`
actions without pairs. Publication is not in it: it is by the second, and by the rows that changed.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Final

import numpy as np

from infra.apps.bench.live import Announce
from models.aggregates.tables import Tables
from models.arrays import U64
from schemas.state.facts import Actions, Delta, Listings, encode

ITEMS: Final = (10_000, 1_000_000)
EVENTS: Final = 4
"""Of an entry: what a batch of `people` holds at some hundred events/s."""
ENTRIES_PER_LOOK: Final = 4
LOOKS: Final = 10
"""Of a run."""
_TIME: Final = 1_760_000_000
_VIEW: Final = 0


def measure(
    repeats: int, announce: Announce = lambda line: None, items: tuple[int, ...] = ITEMS
) -> dict[str, list[float]]:
    """µs of CPU an entry, `repeats` runs by number of items."""
    found: dict[str, list[float]] = {}
    for count in items:
        hashes = np.random.default_rng(0).integers(1, 2**63, count).astype(np.uint64)
        tables = listing(hashes)
        made = entries(hashes, first=1)
        _apply(tables, made)  # not measured: the tables grow
        found[str(count)] = [_apply(tables, made) for _ in range(repeats)]
        announce(f"roll-up with {count:,} items: {min(found[str(count)]):,.0f} µs an entry")
    return found


def listing(hashes: U64) -> Tables:
    """Tables of one partition that has listed these items (n,)."""
    tables = Tables(1)
    delta = np.zeros(len(hashes), np.uint32)
    tables.apply(0, Delta(0, 1, listings=Listings(delta, hashes)))
    return tables


def _apply(tables: Tables, made: Iterator[Delta]) -> float:
    """µs of CPU for each entry of `LOOKS`."""
    looks = [[encode(next(made)) for _ in range(ENTRIES_PER_LOOK)] for _ in range(LOOKS)]
    began = time.process_time()
    for entries in looks:
        tables.apply_stored(0, entries)
    _ = tables.popularity, tables.arms  # adds what waits to be added at once
    return (time.process_time() - began) * 1e6 / (LOOKS * ENTRIES_PER_LOOK)


def entries(hashes: U64, first: int) -> Iterator[Delta]:
    """Entries that follow one another from position `first` on."""
    chance, one = np.random.default_rng(1), np.ones(EVENTS, np.uint8)
    while True:
        actions = Actions(
            delta=np.arange(EVENTS, dtype=np.uint32),
            item=hashes[chance.integers(0, len(hashes), EVENTS)],
            time=np.full(EVENTS, _TIME, np.uint32),
            action=one * _VIEW,
            flags=0 * one,
            pairs=0 * one,
            partner=np.empty(0, np.uint64),
            lag=np.empty(0, np.uint8),
        )
        yield Delta(first, first + EVENTS, actions)
        first += EVENTS
