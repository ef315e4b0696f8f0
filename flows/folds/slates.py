"""The part of the fold that joins what people were shown with what they did (`models.outcomes`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from flows.folds.batch import Hashes
from flows.kit.rows import Fetch
from models import account as accounts
from models import impressions, outcomes
from models.account import Account, Outcome
from models.outcomes import STATE, Assignment, Effect, Shown
from schemas import event as events
from schemas import facts, keys
from schemas.event import Action, Served
from schemas.facts import STATES
from schemas.write import Write

MOST_PEOPLE: Final = 10_000
"""Of whom open slates and impressions are kept in memory, some 10 kB each."""
_CLICKED: Final = STATES.index("clicked")
_MOST_VERSION: Final = 0xFFFF
_xxh = xxhash.xxh3_64_intdigest

Told = list[tuple[int, Served | Action]]
"""(offset, what was served or what may have come of it), in log order."""


def told(records: Sequence[tuple[int, int, events.Event]]) -> Told:
    """The records that concern a slate."""
    return [
        (offset, event)
        for offset, _, event in records
        if (type(event) is Action and event.slate_id and event.action in STATE)
        or type(event) is Served
    ]


class Slates:
    """Open slates and impressions of the people of one partition: a write-through cache.

    `fetch` reads stored values by key; `items` and `names` hash ids.
    """

    def __init__(
        self,
        partition: int,
        fetch: Fetch,
        limit: int,
        items: Hashes,
        names: Hashes,
        generation: int = 0,
    ) -> None:
        self._partition, self._fetch, self._generation = partition, fetch, generation
        self._limit = min(limit, MOST_PEOPLE)
        self._items, self._names = items, names
        self._accounts: dict[str, Account] = {}
        self._shown: dict[str, NDArray[np.void]] = {}

    def make_room(self) -> None:
        """Forget everything once the bound is passed. Only between batches: all is committed then."""
        if len(self._accounts) > self._limit:
            self._accounts.clear()
            self._shown.clear()

    def join(self, records: Told, write: Write) -> tuple[facts.Arms, facts.Moments]:
        """Folds them in, puts what changed into `write`, and answers the facts."""
        if not records:
            return facts.NO_ARMS, facts.NO_MOMENTS
        self._load(records)
        gathered = _Gathered(write)
        for offset, event in records:
            gathered.add(offset, self._effect(self._accounts[event.person], event))
        self._store(records, write)
        return gathered.facts()

    def _load(self, records: Told) -> None:
        """What is not here yet of these people, in one call."""
        people = dict.fromkeys(event.person for _, event in records)
        shown = dict.fromkeys(event.person for _, event in records if type(event) is Served)
        new = [person for person in people if person not in self._accounts]
        unseen = [person for person in shown if person not in self._shown]
        if not new and not unseen:
            return
        p, g = self._partition, self._generation
        held = self._fetch(
            [keys.open_slates(p, person, g) for person in new]
            + [keys.impressions(p, person, g) for person in unseen]
        )
        self._accounts.update(zip(new, map(accounts.decode, held), strict=False))
        self._shown.update(zip(unseen, map(impressions.read, held[len(new) :]), strict=True))

    def _effect(self, account: Account, event: Served | Action) -> Effect:
        if isinstance(event, Served):
            return self._serve(account, event)
        outcome = Outcome(self._items[event.item_id], STATE[event.action], event.received_at)
        return outcomes.act(account, _xxh(event.slate_id.encode()), outcome)

    def _serve(self, account: Account, served: Served) -> Effect:
        shown = self._hashed(served)
        effect = outcomes.serve(account, shown)
        if effect.arms:
            items = np.array(list(dict.fromkeys(shown.items)), np.uint64)
            held = self._shown[served.person]
            self._shown[served.person] = impressions.update(held, items, shown.at // 1000)
        return effect

    def _hashed(self, served: Served) -> Shown:
        items, names = self._items, self._names
        return Shown(
            id=_xxh(served.slate_id.encode()),
            at=served.received_at,
            placement=names[served.placement],
            items=[items[item] for item in served.items],
            explored=served.explored,
            assigned=[
                Assignment(names[each.experiment], each.version, names[each.variant])
                for each in served.experiments
                if 0 <= each.version <= _MOST_VERSION
            ],
        )

    def _store(self, records: Told, write: Write) -> None:
        p, g, values = self._partition, self._generation, write.values
        for person in dict.fromkeys(event.person for _, event in records):
            values[keys.open_slates(p, person, g)] = accounts.encode(self._accounts[person])
        for person in dict.fromkeys(event.person for _, event in records if type(event) is Served):
            values[keys.impressions(p, person, g)] = self._shown[person].tobytes()


class _Gathered:
    """The facts of one batch so far, row by row."""

    def __init__(self, write: Write) -> None:
        self._first, self._counts = write.first, write.counts
        self._arms: list[tuple[Any, ...]] = []
        self._moments: list[tuple[Any, ...]] = []

    def add(self, offset: int, effect: Effect) -> None:
        delta, placement = offset - self._first, effect.placement
        self._arms += [
            (delta, placement, arm.item, arm.state, arm.explored, arm.state == _CLICKED)
            for arm in effect.arms
        ]
        self._moments += [(delta, *moved) for moved in effect.moved]
        for word, n in effect.counts.items():
            self._counts[word] = self._counts.get(word, 0) + n

    def facts(self) -> tuple[facts.Arms, facts.Moments]:
        return (
            facts.Arms(*_columns(self._arms, facts.NO_ARMS)),
            facts.Moments(*_columns(self._moments, facts.NO_MOMENTS)),
        )


def _columns(rows: list[tuple[Any, ...]], none: Sequence[NDArray[Any]]) -> list[NDArray[Any]]:
    """The rows by column, of the types that `none` has."""
    columns = zip(*rows, strict=True) if rows else none
    return [np.array(column, held.dtype) for column, held in zip(columns, none, strict=True)]
