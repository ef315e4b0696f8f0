"""Slates, outcomes and impressions on their way from one partition to another: out of a record, into one."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.outcomes.impressions import IMPRESSION
from models.outcomes.join import Transfer
from models.outcomes.open_slates import OpenSlate, Outcome, Unit, Waiting
from schemas.events import Merge, MergedImpression, MergedOutcome, MergedSlate, MergedUnit


def concerns(merge: Merge) -> bool:
    """Whether a merge says anything of slates or links."""
    return bool(
        merge.link
        or merge.outcomes
        or merge.served
        or merge.slates
        or merge.units
        or merge.impressions
    )


def put(merge: Merge, left: Transfer, shown: NDArray[np.void]) -> None:
    """What an anonymous id left, and was shown, into the record that takes it along."""
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
        for slate in left.slates
    )
    merge.units = tuple(
        MergedUnit(unit.experiment, unit.version, unit.variant, unit.counts) for unit in left.units
    )
    merge.outcomes = tuple(
        MergedOutcome(waiting.slate, outcome.item, outcome.state, outcome.at)
        for waiting in left.waiting
        for outcome in waiting.outcomes
    )
    merge.impressions = tuple(MergedImpression(*row) for row in shown.tolist())


def taken(merge: Merge) -> Transfer:
    """The opposite: what a record says was left."""
    slates = [
        OpenSlate(
            told.id,
            told.at,
            told.placement,
            np.array(told.items, "<u8").tobytes(),
            bytearray(told.states),
            told.explored,
            told.units,
        )
        for told in merge.slates
    ]
    units = [Unit(told.experiment, told.version, told.variant, told.counts) for told in merge.units]
    waiting = [
        Waiting(told.slate, [Outcome(told.item, told.state, told.at)]) for told in merge.outcomes
    ]
    return Transfer(slates, waiting, units)


def impressions(merge: Merge) -> NDArray[np.void]:
    """`models.outcomes.impressions.IMPRESSION` rows."""
    rows: list[Any] = [(told.item, told.count, told.last) for told in merge.impressions]
    return np.array(rows, IMPRESSION)
