"""The popularity that people without an interest see, chosen by what such people chose first."""

from __future__ import annotations

import numpy as np

from infra.apps.train.log import Interactions, TimeSplit
from models.arrays import F64, I64, U64
from models.evaluation.ranking import MAX_RANK, Ranks
from models.training.counting import MIXES, choose_mix
from schemas.state.counting import Mix, only
from schemas.state.tables import WINDOWS
from serving.decide.case import World


class PopularLists:
    """What each mix of popularity would show at some times: the first `MAX_RANK` items of each."""

    def __init__(self) -> None:
        self._times: list[int] = []
        self._shown: list[dict[Mix, U64]] = []
        self._version = ""

    def add(self, world: World, now: int) -> None:
        """`now` (ms) of a scene; a version of the tables counts once."""
        tables = world.tables
        if self._shown and tables.version == self._version:
            return
        self._version = tables.version
        self._times.append(now)
        slots = np.flatnonzero(world.items.in_catalogue).astype(np.int32)
        shares = np.array([tables.share(slots, only(window)) for window in WINDOWS])
        self._shown.append(
            {mix: world.items.hash[slots[_best(np.array(mix) @ shares)]] for mix in MIXES}
        )

    def ranks(self, time: I64, item: U64) -> dict[Mix, Ranks]:
        """By mix, (n,) the rank of `item` (n,) in the lists at or before `time` (n,) ms; 0: not shown."""
        at = np.searchsorted(np.array(self._times), time, "right") - 1
        found = {}
        for mix in MIXES:
            shown = np.zeros((len(self._shown), MAX_RANK), np.uint64)
            for row, tops in zip(shown, self._shown, strict=True):
                row[: len(tops[mix])] = tops[mix]
            hits = shown[at] == item[:, None]
            found[mix] = np.where(hits.any(1) & (at >= 0), hits.argmax(1) + 1, 0)
        return found


def _best(share: F64) -> I64:
    """Indices of the `MAX_RANK` highest, the highest first."""
    best = (
        np.argpartition(-share, MAX_RANK)[:MAX_RANK]
        if len(share) > MAX_RANK
        else np.arange(len(share))
    )
    found: I64 = best[np.argsort(-share[best], kind="stable")]
    return found


def first_choices(acts: Interactions, planned: TimeSplit) -> I64:
    """Indices of the first actions of people, between the two cuts of `planned`."""
    between = (acts.time // 1000 >= planned.learnt) & (acts.time < planned.judged)
    return np.flatnonzero(between & ~acts.earlier)


def choose(lists: PopularLists, acts: Interactions, at: I64, default: Mix) -> tuple[Mix, float]:
    """The mix by which strangers find most of what they chose, and its hit rate."""
    hits: dict[Mix, F64] = {
        mix: (ranks > 0).astype(np.float64)
        for mix, ranks in lists.ranks(acts.time[at], acts.item[at]).items()
    }
    chosen = choose_mix(hits, acts.person[at], default)
    return chosen, float(hits[chosen].mean()) if len(at) else 0.0
