"""The catalogue as arrays, and item vectors learnt from interactions."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.offline.history import Log
from infra.apps.train.log import Interactions
from models.aggregates.covisit import nearness
from models.release import content
from models.release.release import rows_of
from models.training import vectors
from models.training.vectors import CoVisits, Learnt, Visits
from schemas.identity import item_hash
from schemas.state.facts import LAG, SAME_SESSION, Actions

MAX_VISITS: Final = 1_000
"""The latest visits of a person that count: older ones add no information."""


class Items:
    """The catalogue of n items as rows: `hashes` (n,) ascend, `about` (n, DIM) are content vectors."""

    def __init__(self, log: Log) -> None:
        held = sorted((item_hash(item.item_id), item) for item in log.items)
        self.hashes = np.array([number for number, _ in held], np.uint64)
        self.about = np.array([content.vector(item) for _, item in held], np.float32)

    def learn(self, acts: Interactions, facts: Iterable[Actions], second: int) -> Learnt:
        """The vectors learnt from interactions and facts before `second`; `facts` come some at a time."""
        before = np.flatnonzero(acts.time // 1000 < second)
        visits = self._latest(acts.person[before], acts.item[before])
        found = [self._co_visits(some) for some in facts]
        none = CoVisits(np.empty(0, np.int64), np.empty(0, np.int64), np.empty(0))
        pairs = CoVisits(*map(np.concatenate, zip(none, *found, strict=True)))
        return vectors.learn(self.about, visits, pairs)

    def _co_visits(self, facts: Actions) -> CoVisits:
        """The pairs within a session."""
        ones = np.repeat(facts.item, facts.pairs)
        one, other = rows_of(self.hashes, ones), rows_of(self.hashes, facts.partner)
        there = (one >= 0) & (other >= 0) & (facts.lag & SAME_SESSION != 0)
        return CoVisits(one[there], other[there], nearness(facts.lag[there] & LAG))

    def _latest(self, person: NDArray[np.int64], item: NDArray[np.uint64]) -> Visits:
        rows = rows_of(self.hashes, item)
        order = np.argsort(person[::-1], kind="stable")  # by person, the latest first
        _, start = np.unique(person[::-1][order], return_index=True)
        rank = np.arange(len(order)) - np.repeat(start, np.diff([*start, len(order)]))
        kept = (len(person) - 1 - order)[rank < MAX_VISITS]
        kept = kept[rows[kept] >= 0]
        return Visits(person[kept], rows[kept])
