"""Small made-up acts, as a reader of data sets gives them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

import msgspec
import numpy as np

from infra.datasets.acts import Acts
from infra.datasets.generated import generated
from infra.datasets.rows import Notes
from schemas.actions import CODE
from schemas.items import Item

Row = tuple[int, int, int]
"""(person, item, time in s)."""


def made(rows: Sequence[Row], items: int = 0, basket: Sequence[int] = ()) -> Acts:
    """Clicks, each a target, in the order given."""
    person, item, seconds = (np.array(it, np.int64) for it in zip(*rows, strict=True))
    n, ids = len(rows), [f"i{n}" for n in range(max(items, int(item.max()) + 1))]
    return Acts(
        people=[f"p{n}" for n in range(int(person.max()) + 1)],
        item_ids=ids,
        person=person,
        item=item,
        time=seconds * 1000,
        action=np.full(n, CODE["click"], np.int8),
        target=np.ones(n, np.bool_),
        basket=np.array(basket or [-1] * n, np.int64),
        rated=np.full(n, np.nan, np.float32),
        items=[Item(item_id=it) for it in ids],
        layout="made",
        clock=True,
        dropped=Counter(),
        notes=Notes(),
    )


def audience(ratings: int) -> Acts:
    """The first ratings of the generated audience, whose people have tastes: likes are targets."""
    whole = generated()
    taken = whole.ratings[:ratings]
    ids = [it.item_id for it in whole.items]
    places = {it: n for n, it in enumerate(ids)}
    people = sorted({it.user_id for it in taken})
    numbers = {it: n for n, it in enumerate(people)}
    liked = np.array([it.action == "like" for it in taken])
    return Acts(
        people=people,
        item_ids=ids,
        person=np.array([numbers[it.user_id] for it in taken]),
        item=np.array([places[it.item_id] for it in taken]),
        time=np.array([it.at for it in taken]),
        action=np.where(liked, CODE["like"], CODE["view"]).astype(np.int8),
        target=liked,
        basket=np.full(len(taken), -1),
        rated=np.array([it.rating for it in taken], np.float32),
        items=[msgspec.convert(it.body, Item) for it in whole.items],
        layout="generated",
        clock=True,
        dropped=Counter(),
        notes=Notes(),
    )
