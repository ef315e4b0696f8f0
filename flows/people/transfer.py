"""Slates, outcomes and impressions that move between partitions: into a merge, and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.outcomes.impressions import IMPRESSION
from models.outcomes.join import Transfer
from models.outcomes.open_slates import OpenSlate, Outcome, Unit, Waiting
from schemas.events import Merge, MergedImpression, MergedOutcome, MergedSlate, MergedUnit


def has_outcomes(merge: Merge) -> bool:
    """Whether a merge carries slates, outcomes, impressions or a link."""
    return bool(
        merge.link
        or merge.outcomes
        or merge.served
        or merge.slates
        or merge.units
        or merge.impressions
    )


def write_transfer(merge: Merge, moved: Transfer, shown: NDArray[np.void]) -> None:
    """Copies the slates and impressions (`shown`) of an anonymous id into the merge."""
    merge.slates = tuple(
        MergedSlate(
            slate.id,
            slate.at,
            slate.placement,
            tuple(np.frombuffer(slate.items, "<u8").tolist()),
            tuple(slate.states),
            slate.explored,
            slate.units,
        )
        for slate in moved.slates
    )
    merge.units = tuple(
        MergedUnit(unit.experiment, unit.version, unit.variant, unit.counts) for unit in moved.units
    )
    merge.outcomes = tuple(
        MergedOutcome(waiting.slate, outcome.item, outcome.state, outcome.at)
        for waiting in moved.waiting
        for outcome in waiting.outcomes
    )
    merge.impressions = tuple(MergedImpression(*row) for row in shown.tolist())


def read_transfer(merge: Merge) -> Transfer:
    """The opposite of `write_transfer`: the slates, outcomes and units that a merge carries."""
    slates = [
        OpenSlate(
            slate.id,
            slate.at,
            slate.placement,
            np.array(slate.items, "<u8").tobytes(),
            bytearray(slate.states),
            slate.explored,
            slate.units,
        )
        for slate in merge.slates
    ]
    units = [Unit(unit.experiment, unit.version, unit.variant, unit.counts) for unit in merge.units]
    waiting = [Waiting(it.slate, [Outcome(it.item, it.state, it.at)]) for it in merge.outcomes]
    return Transfer(slates, waiting, units)


def impressions(merge: Merge) -> NDArray[np.void]:
    """The merge's impressions (n,), of dtype `models.outcomes.impressions.IMPRESSION`."""
    rows: list[Any] = [(it.item, it.count, it.last) for it in merge.impressions]
    return np.array(rows, IMPRESSION)
