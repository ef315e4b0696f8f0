"""Slates, outcomes and impressions that move between partitions: into a merge, and out of it."""

from __future__ import annotations

from typing import Any

import numpy as np
from msgspec.structs import asdict, astuple
from numpy.typing import NDArray

from models.outcomes import likes, touched
from models.outcomes.impressions import IMPRESSION
from models.outcomes.join import Transfer
from models.outcomes.open_slates import (
    NO_COUNTS,
    Conversion,
    Counts,
    OpenSlate,
    Outcome,
    Reversible,
    Unit,
    Waiting,
)
from schemas.events import (
    Merge,
    MergedConversion,
    MergedImpression,
    MergedOutcome,
    MergedReversible,
    MergedSlate,
    MergedUnit,
)


def has_outcomes(merge: Merge) -> bool:
    """Whether a merge carries slates, outcomes, impressions, purchases, likes, or a link."""
    return bool(
        merge.link
        or merge.outcomes
        or merge.served
        or merge.slates
        or merge.units
        or merge.impressions
        or merge.touched
        or merge.reversibles
        or merge.likes
        or merge.acted
        or merge.reversal
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
        MergedOutcome(waiting.slate, outcome.item, outcome.state, outcome.at, outcome.identity)
        for waiting in moved.waiting
        for outcome in waiting.outcomes
    )
    merge.impressions = tuple(MergedImpression(*row) for row in shown.tolist())
    merge.touched, merge.unit_sets = moved.touched, moved.unit_sets
    merge.reversibles = tuple(map(write_reversible, moved.reversibles))
    merge.likes = moved.likes


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
    units = [
        Unit(unit.experiment, unit.version, unit.variant, _padded(unit.counts))
        for unit in merge.units
    ]
    waiting = [
        Waiting(it.slate, [Outcome(it.item, it.state, it.at, it.identity)])
        for it in merge.outcomes
        if not it.repeated
    ]
    held = tuple(map(read_reversible, merge.reversibles))
    latest = merge.received_at // 1000
    slots, liked = touched.bounded(merge.touched, latest), likes.bounded(merge.likes, latest)
    return Transfer(slates, waiting, units, slots, merge.unit_sets, held, liked)


def repeated(merge: Merge) -> list[tuple[int, Outcome]]:
    """(slate, outcome) of purchases that came before, and name their slate now."""
    return [
        (it.slate, Outcome(it.item, it.state, it.at, it.identity))
        for it in merge.outcomes
        if it.repeated
    ]


def _padded(counts: tuple[int, ...]) -> Counts:
    return (*counts, *NO_COUNTS[len(counts) :])  # type: ignore[return-value]


def write_reversible(held: Reversible) -> MergedReversible:
    slot = held.conversion
    moved = MergedConversion(*astuple(slot)) if slot is not None else None
    return MergedReversible(**{**asdict(held), "conversion": moved})


def read_reversible(merged: MergedReversible) -> Reversible:
    slot = merged.conversion
    held = Conversion(*astuple(slot)) if slot is not None else None
    return Reversible(**{**asdict(merged), "conversion": held})


def impressions(merge: Merge) -> NDArray[np.void]:
    """The merge's impressions (n,), of dtype `models.outcomes.impressions.IMPRESSION`."""
    rows: list[Any] = [(it.item, it.count, it.last) for it in merge.impressions]
    return np.array(rows, IMPRESSION)
