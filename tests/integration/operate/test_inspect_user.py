"""`freshet inspect user` shows the categories that a read uses."""

from __future__ import annotations

from typing import Any

import msgspec
import numpy as np
import pytest

from infra.apps.inspect.held import pseudonym_of, user_held
from infra.settings import Settings
from infra.store import redis_client
from models.features.affinity import affinity
from models.features.registry import ROW, pack_rows
from schemas.actions import CODE
from schemas.identity import category_hash, partition_of
from schemas.items import Item
from schemas.keys import PLAIN
from tests.support.worlds import NOW, person, world

BEFORE = {"later": "", "moved": "horror", "stayed": "crime", "left": "western"}
"""Categories when the person acted: `later` was not put yet."""
ACTS = [(name, CODE["like"]) for name in BEFORE]


@pytest.mark.on_cluster
def test_the_categories_are_those_of_a_read(settings: Settings) -> None:
    who = person(ACTS, categories=BEFORE)
    items = [
        Item(item_id="later", categories=("drama", "war")),
        Item(item_id="moved", category="comedy"),
        Item(item_id="stayed", category="crime"),
        Item(item_id="left", category="comedy"),
        Item(item_id="other", category="romance", categories=("romance", "horror")),
    ]
    name = pseudonym_of(settings, "ann")
    rows = np.zeros(1, ROW)
    rows[0] = who.row
    with redis_client.connect(settings) as client:
        client.set(
            PLAIN.row(partition_of(name.encode(), settings.partitions), name), pack_rows(rows)[0]
        )

        def held() -> Any:
            for item in items:
                place = partition_of(item.item_id.encode(), settings.partitions)
                client.hset(PLAIN.items(place), item.item_id, msgspec.json.encode(item))
            return user_held(settings, name, NOW)

        for present in ("drama", "thriller"):
            items[0] = Item(item_id="later", category=present)
            found, table = held(), world(items).items
            hashes, weights = affinity(who.row, NOW, categories_of=table.categories_of)
            read = dict(zip(hashes.tolist(), weights.tolist(), strict=True))
            # a read has no use for `western`, which no item has any more
            assert read.keys() == {*map(category_hash, ("western", "horror", "crime", present))}
            shown = {category_hash(it["category"]): it["weight"] for it in found["affinity"]}
            del read[category_hash("western")]
            assert shown == pytest.approx(read, abs=1e-6)
            categories = {it["item_id"]: it["category"] for it in found["recent"]}
            assert categories == {**BEFORE, "later": present, "left": ""}
