"""What figures need beside the answers: people, the catalogue, and the history's counts."""

from __future__ import annotations

from typing import Final, NamedTuple

import numpy as np

from infra.apps.evaluate.answers import Answers
from infra.apps.evaluate.protocols.plan import EvaluationPlan, with_history
from models.arrays import I64
from schemas.identity import item_hash
from serving.decide.case import World

MAX_HISTORY: Final = 200
"""Acts of a person, the latest, by which the calibration of a slate is judged."""


class Ground(NamedTuple):
    """G choices and I items; an item's index is its slot - 1, -1 is none. `person` (G,); `chosen` (G,) items.

    Of items, each (I,): `category` and `owner`, -1 for none; `acts` and `people`: how many acts and people
    the history has on each. `audience`: people in the history; `activity` (G,): acts of each choice's person
    there. `before`, `item` (H,): what each choice's person acted on before it, by the number of the choice.
    `names`: of the categories, by number.
    """

    person: I64
    chosen: I64
    category: I64
    owner: I64
    acts: I64
    people: I64
    audience: int
    activity: I64
    before: I64
    item: I64
    names: list[str]


def ground(plan: EvaluationPlan, world: World) -> Ground:
    acts, history, items = plan.acts, plan.history, world.items
    hashes = np.array([item_hash(it) for it in acts.item_ids], np.uint64)
    index = items.locate(hashes).astype(np.int64) - 1
    number = items.size - 1
    pairs = np.unique(history.person * len(acts.item_ids) + history.item) % len(acts.item_ids)
    before, own = _histories(plan)
    return Ground(
        person=acts.person[plan.targets],
        chosen=index[acts.item[plan.targets]],
        category=items.category[1 : number + 1].astype(np.int64) - 1,
        owner=items.owner[1 : number + 1].astype(np.int64) - 1,
        acts=np.bincount(index[history.item], minlength=number),
        people=np.bincount(index[pairs], minlength=number),
        audience=len(np.unique(history.person)),
        activity=np.bincount(history.person, minlength=len(acts.people))[acts.person[plan.targets]],
        before=before,
        item=index[acts.item[own]],
        names=items.categories.texts[1:],
    )


def slates(answers: Answers) -> I64:
    """(G, 10) indices of the items shown, -1 for an empty place."""
    return answers.slates - 1


def _histories(plan: EvaluationPlan) -> tuple[I64, I64]:
    """(H,) numbers of choices, and places of the latest acts of each one's person before it."""
    histories = [own[-MAX_HISTORY:] for _, own in with_history(plan)]
    sizes = np.array([len(own) for own in histories], np.int64)
    return np.repeat(np.arange(len(sizes)), sizes), np.concatenate(histories)
