"""The log for training: cut at an end, and its choices with the people who made them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np

from flows.offline import records
from flows.offline.history import Log
from flows.offline.records import NO_ACTION, ROW, Records, person_hash, recorded
from flows.snapshots.until import BadUntil
from infra.apps.replay.scenes import HeldOutChoice
from models.arrays import I64, Mask
from models.training import dataset
from models.training.dataset import Acts, Interactions, TooLittle, choose
from schemas.events import Action, Served

__all__ = ["Interactions", "TimeSplit", "TooLittle", "cut", "interactions", "split_by_time"]

UNDECODABLE: Final = "undecodable"
"""Reason: a record that does not decode."""
_NOTHING: Final = np.empty(0, np.bool_)


class TimeSplit(NamedTuple):
    """`learnt` (s): what is before it makes the vectors. Both lists of targets are later, in order of time,
    and parted at `judged` (ms). `dropped`: actions that are in neither, by reason."""

    learnt: int
    judged: int
    train: list[HeldOutChoice]
    judge: list[HeldOutChoice]
    dropped: Counter[str]


def cut(log: Log, until: str) -> Log:
    """The log before `until`: a time (RFC 3339) or the next offset of each partition, ``10.0.7.2``.

    Errors: `BadUntil`.
    """
    if not until:
        return log
    every, offsets = [recorded(each) for each in log.events], until.split(".")
    if len(offsets) == len(every) and all(text.isascii() and text.isdigit() for text in offsets):
        stops = [int(text) for text in offsets]
        return log._replace(
            events=[
                each.where(each.column("offset") < stop)
                for each, stop in zip(every, stops, strict=True)
            ]
        )
    try:
        at = datetime.fromisoformat(until)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadUntil(
            f"--until takes a time like 2026-11-23T10:00:00Z, or {len(every)} offsets with dots"
            " between them"
        )
    end = int(at.timestamp() * 1000)
    return log._replace(events=[each.where(each.column("time") < end) for each in every])


def interactions(log: Log, quarantined: Collection[str] = ()) -> Interactions:
    """What people did with items of the catalogue. `quarantined`: people who are not to be learnt from."""
    every = [recorded(each) for each in log.events]
    people = np.array([person_hash(person) for person in quarantined], np.uint64)
    return dataset.interactions(_acts(every), people)


def split_by_time(log: Log, acts: Interactions, train: int, judge: int) -> TimeSplit:
    """The choices to learn from and to judge by, at most so many of each. Errors: `TooLittle`."""
    chosen = choose(acts, train, judge)
    both = _targets(log, acts, np.concatenate([chosen.train, chosen.judge]))
    parting = len(chosen.train)
    dropped = acts.dropped + chosen.dropped + Counter({UNDECODABLE: log.undecodable})
    return TimeSplit(chosen.learnt, chosen.judged, both[:parting], both[parting:], dropped)


def _acts(every: list[Records]) -> Acts:
    chosen = [each.column("action") != NO_ACTION for each in every]
    slates = _of_experiments(every)
    shown = [_shown_by(each, slates) for each in every]

    def column(name: str) -> Any:
        found = [each.column(name)[mask] for each, mask in zip(every, chosen, strict=True)]
        return np.concatenate([np.empty(0, ROW)[name], *found])

    return Acts(
        np.repeat(np.arange(len(every)), [mask.sum() for mask in chosen]).astype(np.uint16),
        column("offset"),
        column("time"),
        column("person"),
        column("item"),
        column("action"),
        column("flags") & records.IN_CATALOGUE != 0,
        np.concatenate([_NOTHING, *(it[mask] for it, mask in zip(shown, chosen, strict=True))]),
    )


def _of_experiments(every: list[Records]) -> set[str]:
    """The ids of slates in which an experiment took part."""
    return {
        event.slate_id
        for each in every
        for _, _, event in each.where(each.column("flags") & records.IN_EXPERIMENT != 0)
        if isinstance(event, Served)
    }


def _shown_by(of: Records, slates: set[str]) -> Mask:
    """(n,) the records of actions that name one of `slates`."""
    found = np.zeros(len(of), np.bool_)
    if slates:
        found = of.column("flags") & records.OF_SLATE != 0
        events = (event for _, _, event in of.where(found))
        found[found] = [isinstance(it, Action) and it.slate_id in slates for it in events]
    return found


def _targets(log: Log, acts: Interactions, at: I64) -> list[HeldOutChoice]:
    people: dict[tuple[int, int], str] = {}
    for p, each in enumerate(log.events):
        of = recorded(each)
        mine = acts.offset[at[acts.partition[at] == p]]
        chosen = of.where(np.isin(of.column("offset"), mine))
        people |= {(p, offset): event.person for offset, _, event in chosen}
    columns = (acts.partition[at], acts.offset[at], acts.item[at], acts.time[at])
    return [
        HeldOutChoice(p, offset, people[p, offset], item, time)
        for p, offset, item, time in zip(*(column.tolist() for column in columns), strict=True)
    ]
