"""The counting of a release, chosen in the replay of its log (`models.training.counting`)."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Final

import msgspec
import numpy as np

from infra.apps.replay.scenes import HeldOutChoice, TrainingReplay
from models.aggregates.tables import Tables
from models.arrays import I64
from models.release import interest
from models.training.counting import VALUES, ListSums, Stretch, choose_counting
from schemas.state.counting import BUILT_IN, Counting
from schemas.state.tables import Gap
from serving.decide.person import Person

MAX_STRETCHES: Final = 12
"""Times at which sums of pairs are read: choices between two of them have those of the earlier one."""


def choose(
    replay: TrainingReplay, targets: Sequence[HeldOutChoice]
) -> tuple[Counting, dict[str, float]]:
    """The counting under which co-visitation finds most of `targets`, and the NDCG of the built-in one and of
    this one; its mixes of popularity are the built-in ones."""
    stretches = [_stretch(*part) for part in replay.stretches(targets, MAX_STRETCHES)]
    return choose_counting([each for each in stretches if len(each.target)], BUILT_IN)


def _stretch(targets: Sequence[HeldOutChoice], people: Sequence[Person], sums: Tables) -> Stretch:
    items = [interest.items(person.row) for person in people]
    sizes = np.array([len(each) for each in items], np.int64)
    entries = sums.items.find(np.concatenate([np.empty(0, np.uint64), *items]))
    seen = [person.seen["item"].astype(np.uint64) for person in people]
    hidden = sums.items.find(np.concatenate([np.empty(0, np.uint64), *seen]))
    choice = np.repeat(np.arange(len(people)), sizes)
    age = np.arange(len(entries)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    known = entries >= 0
    listed, lists = np.unique(entries[known], return_inverse=True)
    of_hidden = np.repeat(np.arange(len(people)), [len(each) for each in seen])
    # an item without sums has no number: one that no list holds
    target = sums.items.find(np.array([it.item for it in targets], np.uint64))
    return Stretch(
        _sums(sums, listed),
        np.where(target >= 0, target, len(sums.items)),
        np.unique([it.person for it in targets], return_inverse=True)[1],
        choice[known],
        lists,
        age[known],
        of_hidden[hidden >= 0],
        hidden[hidden >= 0],
    )


def _sums(sums: Tables, items: I64) -> dict[tuple[float, Gap], ListSums]:
    found: dict[tuple[float, Gap], ListSums] = {}
    for power, gap in product(VALUES["lag_power"], VALUES["gap"]):
        # both orders of a pair count, so that it is there whichever its list is
        counting = msgspec.structs.replace(BUILT_IN, lag_power=power, gap=gap, backward=1.0)
        pairs = sums.pairs.of(items, counting.pairs)
        found[power, gap] = ListSums(pairs.keys, *pairs.sums(np.arange(len(pairs.keys))))
    return found
