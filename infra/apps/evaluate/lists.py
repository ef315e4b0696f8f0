"""Judged lists: the score that each arm gives to each item of a list, wherever its candidates end."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Final

import numpy as np

from infra.apps.evaluate.answers import Choice
from infra.apps.evaluate.protocols import delays
from infra.apps.evaluate.protocols.plan import EvaluationPlan
from infra.apps.evaluate.replay import Progress, Replay
from infra.apps.replay.recipe import SLATE_SIZE
from infra.datasets.acts import Acts
from models.arrays import F64
from models.release.release import Release
from schemas.control import Recipe
from schemas.identity import item_hash
from serving.decide.case import Ask, Case, World
from serving.decide.pool import Pool
from serving.decide.rank import rank
from serving.decide.score import score
from serving.decide.sources import retrieve
from serving.world.catalogue import Slots

MEAN_RATING: Final = "mean_rating"
PRIOR_RATINGS: Final = 5.0
"""Ratings at the mean of all that each item has before its own: its mean is shrunken towards it."""


def scores(
    replay: Replay,
    plan: EvaluationPlan,
    release: Release | None,
    recipes: Mapping[str, Recipe],
    progress: Progress,
) -> dict[str, F64]:
    """By arm the score of each act of `plan.judged`, in its order."""
    begins = np.cumsum(plan.size) - plan.size
    found = {name: np.zeros(len(plan.judged)) for name in recipes}
    hashes = [item_hash(plan.acts.item_ids[it]) for it in plan.acts.item[plan.judged].tolist()]
    slots = replay.world.items.locate(np.array(hashes, np.uint64))
    for n, choice in replay.choices(delays.fresh(plan), release, progress):
        own = slice(int(begins[n]), int(begins[n] + plan.size[n]))
        for name, recipe in recipes.items():
            found[name][own] = scored(choice, replace(choice.world, recipe=recipe), slots[own])
    return found


def scored(choice: Choice, world: World, slots: Slots) -> F64:
    """The score of each of `slots`, which are distinct, by the product's own columns and ranker. What no
    source brought has 0 in the columns of sources."""
    case = Case(choice.person, world, Ask(now=choice.now, count=SLATE_SIZE))
    pool = retrieve(case, world.recipe.depth)
    missing = slots[~np.isin(slots, pool.slots)]
    whole = Pool(np.concatenate([pool.slots, missing]), pool.retrieved, pool.numbers)
    place_of = {slot: place for place, slot in enumerate(whole.slots.tolist())}
    numbers = np.array([place_of[slot] for slot in slots.tolist()], np.intp)
    order = np.argsort(numbers)
    ranked = rank(case, whole, score(case, whole, numbers[order]))
    made = np.empty(len(slots))
    made[order] = ranked.scores
    return made


def mean_ratings(history: Acts) -> F64:
    """(items,) the mean rating of each item in `history`, shrunken to the mean of all."""
    rated = ~np.isnan(history.rated)
    items, values = history.item[rated], history.rated[rated].astype(np.float64)
    count = np.bincount(items, minlength=len(history.item_ids))
    total = np.bincount(items, values, minlength=len(history.item_ids))
    middle = float(values.mean()) if len(values) else 0.0
    made: F64 = (total + PRIOR_RATINGS * middle) / (count + PRIOR_RATINGS)
    return made
