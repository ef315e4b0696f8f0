"""All sums over people, as one value: facts go in, published views come out."""

from __future__ import annotations

import io
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.arms import Arms
from models.aggregates.changed_rows import ChangedRows
from models.aggregates.covisit import Pairs
from models.aggregates.due_lists import DueLists
from models.aggregates.moments import Moments
from models.aggregates.money import Money
from models.aggregates.numbers import DenseNumbers
from models.aggregates.popularity import Popularity
from models.aggregates.waiting import LIMITS, Counted, Limits, WaitingFacts
from models.aggregates.waiting_form import dump_waiting, load_waiting
from models.arrays import F64, I64
from schemas.errors import FreshetError
from schemas.state import facts, tables
from schemas.state.counting import BUILT_IN, Counting
from schemas.state.facts import Delta
from schemas.version import Upgrades, upgrade

VERSION: Final = 6
"""Version of the stored form."""
UPGRADES: Final[Upgrades[Mapping[str, NDArray[Any]]]] = {}
"""Columns of a dump of the version before -> those of this one (`schemas.version`). Version 4 has
no upgrade, as its sums of pairs do not say which action came first, and version 5 was in no release."""
MAX_PENDING_ARM_FACTS: Final = 1 << 17
"""Facts of arms wait, to be added together: so an arm with many of them is updated once."""
POPULARITY_BYTES: Final = tables.POPULARITY.itemsize * len(tables.WINDOWS)


class Hole(FreshetError):
    """A batch of facts is missing from the delta log: the tables must be rebuilt."""


class Tables:
    """Popularity, pairs, arms, experiments and money, as of a vector of positions. Rows of items are only of
    those that a partition has listed; `waiting` has the others. `limits`: of what waits."""

    def __init__(self, partitions: int, limits: Limits = LIMITS) -> None:
        self.positions = [0] * partitions
        self.catalogue_positions = [(0, 0)] * partitions
        """By partition: the last entry read of the catalogue's stream of changes."""
        self.items, self.popularity, self.pairs = DenseNumbers(), Popularity(), Pairs()
        self.waiting = WaitingFacts(self.items, self.popularity, partitions, limits)
        self._arms, self._moments = Arms(), Moments()
        self.money = Money()
        self._unsettled: tuple[list[facts.Arms], list[facts.Moments]] = ([], [])
        self._facts = 0  # of arms, that wait
        self._changed_sums, self._changed_lists = ChangedRows(), ChangedRows()
        self._due = DueLists()
        self._whole = True  # a first publication
        self._rescaled = False

    def apply(self, partition: int, entry: Delta) -> None:
        """Adds an entry's facts at or after this partition's position. Errors: `Hole`."""
        position = self.positions[partition]
        if entry.first > position:
            raise Hole(
                f"partition {partition}: the tables end at {position}, the next entry of the delta"
                f" log starts at {entry.first}"
            )
        if entry.next <= position:
            return
        self.positions[partition] = entry.next
        entry = facts.since(entry, position)
        if len(entry.actions.item) or len(entry.days.day) or len(entry.listings.item):
            self._add(partition, entry)
        # these sums do not depend on the order: all that wait are added together
        if len(entry.arms.item):
            self._unsettled[0].append(entry.arms)
            self._facts += len(entry.arms.item)
        self.money.add(entry.money)
        if len(entry.moments.variant):
            self._unsettled[1].append(entry.moments)
        if self._facts >= MAX_PENDING_ARM_FACTS:
            self._settle()

    @property
    def arms(self) -> Arms:
        self._settle()
        return self._arms

    @property
    def moments(self) -> Moments:
        self._settle()
        return self._moments

    def apply_stored(self, partition: int, values: Sequence[bytes]) -> None:
        """As `apply` of each of these entries as stored, with the same bytes of a publication, and the time
        of one: what lies between two moves of a landmark is added at once. Errors: `Hole`, ValueError."""
        at = 0
        while at < len(values):
            found = facts.decode_run(values[at:])
            if found is None:
                self.apply(partition, facts.decode(values[at]))
                at += 1
                continue
            alike = self._alike(partition, *found)
            if alike == len(values) - at:
                self.apply(partition, found[0])
            elif alike:
                self.apply_stored(partition, values[at : at + alike])
            else:
                self.apply(partition, facts.decode(values[at]))
                alike = 1
            at += alike

    def _alike(self, partition: int, run: Delta, nexts: I64) -> int:
        """How many of the entries at the start of a run move no landmark. `nexts` (n,): `next` of each."""
        position = self.positions[partition]
        time = facts.since(run, position).actions.time if run.first < position else run.actions.time
        if not len(time) or not self.popularity.moves(float(time.max())):
            return len(nexts)
        moves = np.flatnonzero(self.popularity.moves(run.actions.time.astype(np.float64)))
        later = run.first + run.actions.delta[moves].astype(np.int64) >= position
        first = run.first + int(run.actions.delta[moves[later][0]])
        return int(np.searchsorted(nexts, first, side="right"))

    def _settle(self) -> None:
        """Adds the facts that wait."""
        arms, moments = self._unsettled
        self._unsettled, self._facts = ([], []), 0
        if arms:
            self._arms.add(facts.Arms(*map(np.concatenate, zip(*arms, strict=True))))
        if moments:
            self._moments.add(facts.Moments(*map(np.concatenate, zip(*moments, strict=True))))

    def _add(self, partition: int, entry: Delta) -> None:
        actions = entry.actions
        newest = float(actions.time.max(initial=0))
        if (factors := self.popularity.move(newest)) is not None:
            self._rescaled = True
            self.waiting.rescale(factors)
        terms = self.popularity.terms(actions)
        for counted in self.waiting.take(partition, entry):
            self._count(counted, terms)

    def _count(self, counted: Counted, terms: F64) -> None:
        pairs, number, added = counted.pairs, counted.item, terms[counted.facts]
        if len(counted.rows):
            order = np.argsort(
                np.concatenate([2 * counted.facts, 2 * counted.after + 1]), kind="stable"
            )
            number = np.concatenate([number, counted.rows])[order]
            added = np.concatenate([added, counted.sums])[order]
        self.popularity.add(number, added, len(self.items))
        within = pairs.lag & facts.SAME_SESSION != 0
        lag = pairs.lag & np.uint8(facts.LAG)
        changed = self.pairs.add(pairs.partner, pairs.item, lag, within, pairs.time)
        self._changed_sums.add(number)
        self._changed_lists.add(changed)

    def meta(self, version: int) -> tables.Meta:
        return tables.Meta(
            version=version,
            positions=list(self.positions),
            landmarks=[mark.at for mark in self.popularity.landmarks],
            waiting_items=self.waiting.ids,
            waiting_pairs=self.waiting.pairs,
            unknown_over_limit=self.waiting.over_limit[0],
            pairs_over_limit=self.waiting.over_limit[1],
            money=self.money.publish(),
            countings=list(self._due.countings),
            lists_waiting=len(self._due),
        )

    def publish(self, version: int, counting: Counting = BUILT_IN) -> tables.Published:
        """The rows changed since the last publication; all popularity after a landmark moved. `counting`: of
        the lists of neighbours; where it is another one than before, those that did not change follow, some
        with each version, and `lists_waiting` says how many are left."""
        whole, hashes = self._whole, self.items.hashes
        rescaled = whole or self._rescaled
        self._whole = self._rescaled = False
        changed = np.arange(len(self.items)) if whole else self._changed_lists.rows()
        self._due.switch(counting.pairs, len(self.items))
        listed = self._due.take(changed, whole=whole)
        lists = self.pairs.neighbours(listed, hashes, counting.pairs)
        # pairs have a landmark of their own: a move of one of popularity changes no list of them
        popular = np.arange(len(self.items)) if rescaled else self._changed_sums.rows()
        rows = tables.split(self.popularity.sums[popular].tobytes(), POPULARITY_BYTES)
        published = tables.Published(
            meta=self.meta(version),
            neighbours=dict(zip(hashes[listed].tolist(), lists, strict=True)),
            popularity=dict(zip(hashes[popular].tolist(), rows, strict=True)),
            arms=self.arms.publish(whole=whole),
            experiments=self.moments.publish(whole=whole),
        )
        self._changed_sums.clear()
        self._changed_lists.clear()
        return published

    @property
    def changed(self) -> bool:
        rows = bool(self._changed_sums) or bool(self._changed_lists)
        return rows or self.arms.changed or self.moments.changed or self.money.changed

    def dump(self) -> bytes:
        """The whole value, as `load` takes it."""
        file = io.BytesIO()
        np.savez(
            file,
            version=np.array([VERSION]),
            positions=np.array(self.positions, np.int64),
            catalogue_positions=np.array(self.catalogue_positions, np.int64),
            items=self.items.hashes,
            popularity=self.popularity.sums[: len(self.items)],
            landmarks=np.array(
                [mark.at for mark in (*self.popularity.landmarks, self.pairs.landmark)]
            ),
            **_named("pairs_", self.pairs.dump()),
            **_named("waiting_", dump_waiting(self.waiting)),
            **_named("arms_", self.arms.dump()),
            **_named("moments_", self.moments.dump()),
            **_named("money_", self.money.dump()),
        )
        return file.getvalue()

    @classmethod
    def load(cls, data: bytes) -> Tables:
        """The tables in a `dump`. Errors: ValueError for bytes of another version, or broken ones."""
        with np.load(io.BytesIO(data), allow_pickle=False) as held:
            version = int(held["version"][0])
            held = upgrade("a dump of the tables", version, VERSION, UPGRADES, held)
            made = cls(len(held["positions"]))
            made.positions = held["positions"].tolist()
            made.catalogue_positions = [tuple(it) for it in held["catalogue_positions"].tolist()]
            made.items = DenseNumbers(held["items"])
            made.popularity.sums = held["popularity"]
            made.pairs = Pairs.load(_section(held, "pairs_"))
            made.waiting = load_waiting(made.items, made.popularity, _section(held, "waiting_"))
            marks = [*made.popularity.landmarks, made.pairs.landmark]
            for mark, at in zip(marks, held["landmarks"].tolist(), strict=True):
                mark.at = at
            made._arms = Arms.load(_section(held, "arms_"))
            made._moments = Moments.load(_section(held, "moments_"))
            made.money = Money.load(_section(held, "money_"))
        return made


def _named(section: str, held: Mapping[str, NDArray[Any]]) -> dict[str, Any]:
    return {section + name: column for name, column in held.items()}


def _section(held: Mapping[str, Any], section: str) -> dict[str, NDArray[Any]]:
    return {key.removeprefix(section): held[key] for key in held if key.startswith(section)}
