"""The log for training, cut in time, and the choices in it that a ranker learns from."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from flows.offline import history
from flows.offline.history import Log
from flows.snapshots.until import BadUntil
from infra.apps.replay.scenes import HeldOutChoice
from schemas.actions import WEIGHT, code_of
from schemas.errors import FreshetError
from schemas.events import Action
from schemas.identity import item_hash

CHOICE_WEIGHT: Final = 2.0
"""The least weight of an action that is a choice (a click, a like); a view may be a mistake."""
VECTORS_UNTIL_SHARE: Final = 0.6
RANKER_UNTIL_SHARE: Final = 0.9
"""Shares of the interactions, by time: vectors learn before the first, the ranker between the two; what is
after the second judges."""
MIN_CHOICES: Final = (200, 100)
"""The least numbers of choices to learn from and to judge by."""
_SEED: Final = 20_26


class TooLittle(FreshetError):
    """The log holds too little to learn from; the text says what is missing."""


class Interactions(NamedTuple):
    """n positive actions on items of the catalogue, by (time, partition, offset); each array is (n,).

    `time`: ms; `person`: index in `people`; `first`: the person's first action on the item; `clear`: a
    choice, by its weight.
    """

    partition: NDArray[np.int64]
    offset: NDArray[np.int64]
    time: NDArray[np.int64]
    item: NDArray[np.uint64]
    person: NDArray[np.int64]
    first: NDArray[np.bool_]
    clear: NDArray[np.bool_]
    people: list[str]


class TimeSplit(NamedTuple):
    """`learnt` (s): facts before it make the vectors. Both lists of targets are later, in order of time."""

    learnt: int
    train: list[HeldOutChoice]
    judge: list[HeldOutChoice]


def cut(log: Log, until: str) -> Log:
    """The log before `until`: a time (RFC 3339) or the next offset of each partition, ``10.0.7.2``.

    Errors: `BadUntil`.
    """
    if not until:
        return log
    offsets = until.split(".")
    if len(offsets) == len(log.events) and all(
        text.isascii() and text.isdigit() for text in offsets
    ):
        end_offsets = [int(text) for text in offsets]
        events = [
            [record for record in records if record[0] < end]
            for records, end in zip(log.events, end_offsets, strict=True)
        ]
        return log._replace(events=events)
    try:
        at = datetime.fromisoformat(until)
    except ValueError:
        at = None
    if at is None or at.tzinfo is None:
        raise BadUntil(
            f"--until takes a time like 2026-11-23T10:00:00Z, or {len(log.events)} offsets with dots"
            " between them"
        )
    end = int(at.timestamp() * 1000)
    return log._replace(
        events=[[r for r in records if _time(r) < end] for records in log.events],
    )


def _time(record: history.Record) -> int:
    event = record[2]
    return event.occurred_at if isinstance(event, Action) else record[1]


def interactions(log: Log) -> Interactions:
    numbers: dict[str, int] = {}
    hashes: dict[str, int] = {}
    rows = []
    for p, records in enumerate(log.events):
        for offset, _, event in records:
            if not isinstance(event, Action) or not event.known:
                continue
            weight = WEIGHT[code_of(event.action, event.negative)]
            if weight <= 0:
                continue
            item = hashes.get(event.item_id)
            if item is None:
                item = hashes[event.item_id] = item_hash(event.item_id)
            person = numbers.setdefault(event.person, len(numbers))
            rows.append((event.occurred_at, p, offset, person, item, weight >= CHOICE_WEIGHT))
    rows.sort()
    columns: list[Any] = list(zip(*rows, strict=True)) if rows else [()] * 6
    at, partition, place, person_numbers = (np.array(it, np.int64) for it in columns[:4])
    items = np.array(columns[4], np.uint64)
    pairs = (
        np.stack([person_numbers.astype(np.uint64), items]) if rows else np.empty((2, 0), np.uint64)
    )
    first = np.zeros(len(rows), np.bool_)
    first[np.unique(pairs, axis=1, return_index=True)[1]] = True
    clear = np.array(columns[5], np.bool_)
    return Interactions(partition, place, at, items, person_numbers, first, clear, list(numbers))


def split_by_time(acts: Interactions, train: int, judge: int) -> TimeSplit:
    """At most so many targets of each kind, drawn with a fixed seed: people's first actions on an item,
    choices where there are enough of them, by people who did something before. Errors: `TooLittle`."""
    if not len(acts.time):
        raise TooLittle(
            "the log holds nothing that a person did with an item of the catalogue: import events first"
        )
    learnt = int(acts.time[int(VECTORS_UNTIL_SHARE * len(acts.time))]) // 1000
    judged = int(acts.time[int(RANKER_UNTIL_SHARE * len(acts.time))])
    has_history = np.ones(len(acts.time), np.bool_)
    has_history[np.unique(acts.person, return_index=True)[1]] = False
    later = acts.time // 1000 >= learnt
    for eligible in (
        acts.first & has_history & acts.clear & later,
        acts.first & has_history & later,
    ):
        early = np.flatnonzero(eligible & (acts.time < judged))
        late = np.flatnonzero(eligible & (acts.time >= judged))
        if len(early) >= MIN_CHOICES[0] and len(late) >= MIN_CHOICES[1]:
            chance = np.random.default_rng(_SEED)
            return TimeSplit(
                learnt,
                _targets(acts, _sample(early, train, chance)),
                _targets(acts, _sample(late, judge, chance)),
            )
    raise TooLittle(
        f"the log is too small to learn from: it holds {len(acts.time):,} interactions, and after the first"
        f" {VECTORS_UNTIL_SHARE:.0%} of them {len(early):,} first choices to learn from (it takes"
        f" {MIN_CHOICES[0]}) and {len(late):,} to judge by (it takes {MIN_CHOICES[1]}): import more history"
    )


def _sample(among: NDArray[np.int64], most: int, chance: np.random.Generator) -> NDArray[np.int64]:
    drawn = chance.choice(among, most, replace=False) if len(among) > most else among
    return np.sort(drawn)


def _targets(acts: Interactions, at: Sequence[int] | NDArray[np.int64]) -> list[HeldOutChoice]:
    return [
        HeldOutChoice(
            int(acts.partition[n]),
            int(acts.offset[n]),
            acts.people[acts.person[n]],
            int(acts.item[n]),
            int(acts.time[n]),
        )
        for n in at
    ]
