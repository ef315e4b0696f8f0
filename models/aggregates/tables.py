"""All sums over people, as one value: facts go in, published views come out."""

from __future__ import annotations

import io
from collections.abc import Mapping
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from models.aggregates.arms import Arms
from models.aggregates.covisit import Pairs, nearness
from models.aggregates.moments import Moments
from models.aggregates.money import Money
from models.aggregates.popularity import Popularity
from schemas.errors import FreshetError
from schemas.state import facts, tables
from schemas.state.facts import Delta
from schemas.version import Upgrades, upgrade

VERSION: Final = 3
"""Version of the stored form."""
UPGRADES: Final[Upgrades[Mapping[str, NDArray[Any]]]] = {}
"""Columns of a dump of the version before -> those of this one (`schemas.version`). Version 2 has no
upgrade: its facts had neither money nor conversions without a slate, which only folding the log gives."""
MAX_PENDING_ARM_FACTS: Final = 1 << 17
"""Facts of arms wait, to be added together: so an arm with many of them is updated once."""


class Hole(FreshetError):
    """A batch of facts is missing from the delta log: the tables must be rebuilt."""


class DenseNumbers:
    """Dense numbers of hashes, in the order of their first appearance: internal to one set of tables."""

    def __init__(self, hashes: NDArray[np.uint64] | None = None) -> None:
        self.hashes = np.empty(0, np.uint64) if hashes is None else hashes
        order = np.argsort(self.hashes)
        self._sorted, self._numbers = self.hashes[order], order.astype(np.int64)

    def __len__(self) -> int:
        return len(self.hashes)

    def of(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the number of each hash; new hashes get the next ones."""
        at = self._places(hashes)
        new = self._sorted[at] != hashes if len(self) else np.ones(len(hashes), np.bool_)
        if new.any():
            self._number(hashes[new])
            at = self._places(hashes)
        return self._numbers[at]

    def _places(self, hashes: NDArray[np.uint64]) -> NDArray[np.int64]:
        """(n,) the index at which each hash is among the sorted ones, if it is one of them."""
        return np.minimum(np.searchsorted(self._sorted, hashes), max(0, len(self) - 1))

    def _number(self, hashes: NDArray[np.uint64]) -> None:
        new, first = np.unique(hashes, return_index=True)
        numbers = np.empty(len(new), np.int64)
        seen = np.argsort(first)
        numbers[seen] = np.arange(len(self), len(self) + len(new))
        at = np.searchsorted(self._sorted, new)
        self._sorted = np.insert(self._sorted, at, new)
        self._numbers = np.insert(self._numbers, at, numbers)
        self.hashes = np.concatenate([self.hashes, new[seen]])


class Tables:
    """Popularity by item and category, pairs, arms, experiments and money, as of a vector of positions."""

    def __init__(self, partitions: int) -> None:
        self.positions = [0] * partitions
        self.items, self.categories = DenseNumbers(), DenseNumbers()
        self.popularity, self.by_category = Popularity(), Popularity()
        self.pairs = Pairs()
        self._arms, self._moments = Arms(), Moments()
        self.money = Money()
        self._waiting: tuple[list[facts.Arms], list[facts.Moments]] = ([], [])
        self._facts = 0  # of arms, that wait
        self._dirty_items: set[int] = set()
        self._dirty_categories: set[int] = set()
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
        if len(entry.actions.item):
            self._add(entry.actions)
        # these sums do not depend on the order: all that wait are added together
        if len(entry.arms.item):
            self._waiting[0].append(entry.arms)
            self._facts += len(entry.arms.item)
        self.money.add(entry.money)
        if len(entry.moments.variant):
            self._waiting[1].append(entry.moments)
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

    def _settle(self) -> None:
        """Adds the facts that wait."""
        arms, moments = self._waiting
        self._waiting, self._facts = ([], []), 0
        if arms:
            self._arms.add(facts.Arms(*map(np.concatenate, zip(*arms, strict=True))))
        if moments:
            self._moments.add(facts.Moments(*map(np.concatenate, zip(*moments, strict=True))))

    def _add(self, actions: facts.Actions) -> None:
        actions = facts.where(actions, actions.flags & facts.UNKNOWN == 0)
        if not len(actions.item):
            return
        item = self.items.of(actions.item)
        partner = self.items.of(actions.partner)
        category = self.categories.of(actions.category.astype(np.uint64))
        self._rescaled |= self.popularity.add(item, actions, len(self.items))
        self._rescaled |= self.by_category.add(category, actions, len(self.categories))
        weight = nearness(actions.lag)
        time = np.repeat(actions.time.astype(np.float64), actions.pairs)
        changed = self.pairs.add(np.repeat(item, actions.pairs), partner, weight, time)
        self._dirty_items.update(np.unique(item).tolist(), changed.tolist())
        self._dirty_categories.update(np.unique(category).tolist())

    def meta(self, version: int) -> tables.Meta:
        marks = [*self.popularity.landmarks, *self.by_category.landmarks]
        return tables.Meta(
            version=version,
            positions=list(self.positions),
            landmarks=[mark.at for mark in marks],
            money=self.money.publish(),
        )

    def publish(self, version: int) -> tables.Published:
        """The rows changed since the last publication; all popularity after a landmark moved."""
        whole = self._whole
        if whole:
            self._dirty_items = set(range(len(self.items)))
        rescaled = whole or self._rescaled
        self._whole = self._rescaled = False
        items, hashes = sorted(self._dirty_items), self.items.hashes
        lists = self.pairs.neighbours(np.array(items, np.int64), hashes)
        # pairs have a landmark of their own: a move of one of popularity changes no list of them
        popular = range(len(self.items)) if rescaled else items
        categories = range(len(self.categories)) if rescaled else sorted(self._dirty_categories)
        published = tables.Published(
            meta=self.meta(version),
            neighbours={int(hashes[n]): its for n, its in zip(items, lists, strict=True)},
            popularity={int(hashes[n]): self.popularity.sums[n].tobytes() for n in popular},
            categories={
                int(self.categories.hashes[n]): self.by_category.sums[n].tobytes()
                for n in categories
            },
            arms=self.arms.publish(whole=whole),
            experiments=self.moments.publish(whole=whole),
        )
        self._dirty_items.clear()
        self._dirty_categories.clear()
        return published

    @property
    def changed(self) -> bool:
        dirty = self._dirty_items or self._dirty_categories
        return bool(dirty) or self.arms.changed or self.moments.changed or self.money.changed

    def dump(self) -> bytes:
        """The whole value, as `load` takes it."""
        self.pairs.settle()
        file = io.BytesIO()
        np.savez(
            file,
            version=np.array([VERSION]),
            positions=np.array(self.positions, np.int64),
            items=self.items.hashes,
            categories=self.categories.hashes,
            popularity=self.popularity.sums[: len(self.items)],
            by_category=self.by_category.sums[: len(self.categories)],
            landmarks=np.array(
                [
                    mark.at
                    for mark in (
                        *self.popularity.landmarks,
                        *self.by_category.landmarks,
                        self.pairs.landmark,
                    )
                ]
            ),
            pair_keys=self.pairs.keys,
            pair_sums=self.pairs.sums,
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
            made.items = DenseNumbers(held["items"])
            made.categories = DenseNumbers(held["categories"])
            made.popularity.sums, made.by_category.sums = held["popularity"], held["by_category"]
            made.pairs.keys, made.pairs.sums = held["pair_keys"], held["pair_sums"]
            marks = [
                *made.popularity.landmarks,
                *made.by_category.landmarks,
                made.pairs.landmark,
            ]
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
