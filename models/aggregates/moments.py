"""Moments of experiments: over the people of each variant, sums of their counts and of the products.

`models.experiments.ratio` makes every ratio and its variance of them. Integers, added as
f(after) - f(before): exact, whatever the order or the batches.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from schemas.identity import category_hash
from schemas.state.facts import Moments as Facts
from schemas.state.tables import MOMENTS, MOMENTS_KEY

MomentRows = NDArray[np.void]
"""Rows of `schemas.state.tables.MOMENTS`."""


def moments_key(experiment_id: str, version: int) -> bytes:
    """`MOMENTS_KEY` of a version of an experiment."""
    return _key(category_hash(experiment_id), version)


def moments(value: bytes | None) -> MomentRows:
    """An experiment as published; None is one without people."""
    return np.frombuffer(value or b"", MOMENTS)


class Moments:
    """Every version of every experiment that ever had a person in it."""

    def __init__(self) -> None:
        self._of: dict[tuple[int, int, int], int] = {}
        self._rows: MomentRows = np.zeros(0, MOMENTS)
        self._dirty: set[tuple[int, int]] = set()

    def __len__(self) -> int:
        """Variants, of all versions of all experiments."""
        return len(self._of)

    @property
    def changed(self) -> bool:
        return bool(self._dirty)

    def add(self, facts: Facts) -> None:
        """f(after) - f(before) of each fact, with f(c) = (1, c, c c^T), and f(0) = 0."""
        columns = (facts.experiment, facts.version, facts.variant)
        named = list(zip(*(column.tolist() for column in columns), strict=True))
        of = self._of
        number = np.array([of.setdefault(name, len(of)) for name in named], np.intp)
        self._fit()
        before, after = facts.before.astype(np.int64), facts.after.astype(np.int64)
        units = after.any(axis=1).astype(np.int64) - before.any(axis=1)
        np.add.at(self._rows["units"], number, units)
        np.add.at(self._rows["sums"], number, after - before)
        np.add.at(self._rows["squares"], number, _products(after) - _products(before))
        self._dirty.update({(experiment, version) for experiment, version, _ in named})

    def of(self, experiment_id: str, version: int) -> MomentRows:
        """The rows of its variants, ascending by their hash."""
        return self._variants(category_hash(experiment_id), version)

    def versions(self, experiment_id: str) -> frozenset[int]:
        """The versions that ever had a person in them."""
        wanted = category_hash(experiment_id)
        return frozenset(version for experiment, version, _ in self._of if experiment == wanted)

    def publish(self, *, whole: bool) -> dict[bytes, bytes]:
        """`MOMENTS_KEY` -> rows of the experiments changed since the last publication, or of all."""
        every = {(experiment, version) for experiment, version, _ in self._of}
        published = sorted(every if whole else self._dirty)
        self._dirty.clear()
        return {_key(*name): self._variants(*name).tobytes() for name in published}

    def dump(self) -> dict[str, NDArray[Any]]:
        names = np.array([name[:2] for name in self._of], MOMENTS_KEY)
        return {"keys": names, "rows": self._rows[: len(self)]}

    @classmethod
    def load(cls, held: Mapping[str, NDArray[Any]]) -> Moments:
        moments = cls()
        moments._rows = held["rows"]
        variants = moments._rows["variant"].tolist()
        for (experiment, version), variant in zip(held["keys"].tolist(), variants, strict=True):
            moments._of[experiment, version, variant] = len(moments._of)
        return moments

    def _variants(self, experiment: int, version: int) -> MomentRows:
        mine = {v: n for (e, ver, v), n in self._of.items() if (e, ver) == (experiment, version)}
        return self._rows[[mine[variant] for variant in sorted(mine)]]

    def _fit(self) -> None:
        missing = len(self._of) - len(self._rows)
        if missing > 0:
            new = np.zeros(missing, MOMENTS)
            new["variant"] = [variant for _, _, variant in list(self._of)[-missing:]]
            self._rows = np.concatenate([self._rows, new])


def _products(counts: NDArray[np.int64]) -> NDArray[np.int64]:
    """(n, 6) -> (n, 6, 6): c c^T of each."""
    products: NDArray[np.int64] = counts[:, :, None] * counts[:, None, :]
    return products


def _key(experiment: int, version: int) -> bytes:
    return np.array([(experiment, version)], MOMENTS_KEY).tobytes()
