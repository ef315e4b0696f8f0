"""What is stored about one user, one item, one slate."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any, NamedTuple

from infra.apps.inspect import arms as inspect_arms
from schemas.errors import FreshetError
from schemas.times import iso

if TYPE_CHECKING:
    import numpy as np
    import redis
    from numpy.typing import NDArray

    from infra.settings import Settings


class NotHeld(FreshetError):
    """Nothing is stored under the given id; the text says where it was looked for."""


def pseudonym_of(settings: Settings, user_id: str, anonymous: bool = False) -> str:
    from infra.settings import signing_key
    from schemas import identity

    if re.fullmatch(r"[0-9a-f]{32}", user_id) and not anonymous:
        return user_id
    make = identity.anonymous if anonymous else identity.pseudonym
    return make(*signing_key(settings), identity.check_id(user_id, "user_id"))


def user_held(settings: Settings, person: str, now: int) -> dict[str, Any]:
    """Everything that Redis holds about a person, with the categories that a read uses: that of an action, or
    its item's present one where the item came later. `now`: ms; `known` is False where there is no row."""
    from infra.store import generation, redis_client
    from models.features.affinity import affinity
    from models.features.registry import read_row
    from models.features.ring import recent
    from models.seen import by_item, of_person, read
    from schemas import identity
    from schemas.actions import ACTIONS
    from schemas.state import fences, links

    partition = identity.partition_of(person.encode(), settings.partitions)
    with redis_client.connect(settings) as client:
        keyspace = generation.live_keys(client, settings)
        names = (keyspace.row, keyspace.seen, keyspace.preferences, keyspace.link)
        found = client.mget(
            [
                keyspace.fence("people", partition),
                *(name(partition, person) for name in names),
            ]
        )
        at, blob, string, preferences, link = found
        linked = links.decode(link)
        row = read_row(blob)
        seen = by_item(of_person(read(string), row))
        entries = recent(row, 50)
        named = _names(
            client, settings, set(entries["item"].tolist()), set(entries["category"].tolist())
        )
    categories, weights = affinity(row, now, categories_of=named.categories_of)
    missing = entries["category"] == 0
    entries["category"][missing] = named.categories_of(entries["item"][missing])
    return {
        "pseudonym": person,
        "partition": partition,
        "position": _position(partition, fences.decode(at).offset if at else 0),
        "known": blob is not None,
        "counts": {ACTIONS[c].name: int(n) for c, n in enumerate(row["counts"]) if n},
        "duplicates": int(row["duplicates"]),
        "first": iso(int(row["first"])),
        "newest": iso(int(row["newest"])),
        "session_start": iso(int(row["session_start"])),
        "seen": int((seen.bits != 0).sum()),
        "hidden": int(seen.hidden.sum()),
        "linked_to": linked.to or None,
        "links": {
            "first": linked.first or None,
            "pending": linked.pending,
            "by": linked.by or None,
        },
        "preferences": preferences.decode() if preferences else None,
        "recent": [
            {
                "at": iso(int(it["time"]) * 1000 + int(it["ms"])),
                "action": ACTIONS[it["action"]].name,
                **named.titles.get(int(it["item"]), _unknown(int(it["item"]))),
                "category": named.categories.get(int(it["category"]), ""),
            }
            for it in entries
        ],
        "affinity": [
            {"category": named.categories[int(c)], "weight": round(float(w), 6)}
            for w, c in sorted(zip(weights, categories, strict=True), reverse=True)
            if int(c) in named.categories  # a read leaves out what no item has any more
        ],
    }


def item_held(settings: Settings, item_id: str, now: int) -> dict[str, Any]:
    """Catalogue record, popularity, arms and neighbours of an item. `now`: ms.

    Errors: `NotHeld` where neither catalogue nor tables have the item.
    """
    import numpy as np

    from infra.store import generation, redis_client
    from models.aggregates.popularity import HALF_LIVES
    from schemas import identity, items
    from schemas.state import tables

    item_id = identity.check_id(item_id, "item_id")
    field = identity.item_hash(item_id).to_bytes(8, "little")
    partition = identity.partition_of(item_id.encode(), settings.partitions)
    with redis_client.connect(settings) as client:
        keyspace = generation.live_keys(client, settings)
        held = keyspace.tables()
        record = client.hget(keyspace.items(partition), item_id)
        meta, sums, near = (
            client.get(held.meta),
            client.hget(held.popularity, field),
            client.hget(held.neighbours, field),
        )
        neighbours = tables.neighbours(near) if near else np.empty(0, tables.NEIGHBOUR)
        titles = _names(client, settings, set(neighbours["item"].tolist())).titles
        arms = inspect_arms.arms_held(client, keyspace, item_id)
    if record is None and sums is None and near is None and not arms:
        raise NotHeld("neither the catalogue nor the tables hold this item")
    landmarks = tables.META_DECODER.decode(meta).landmarks if meta else []
    decayed = {}
    for at, (window, half_life) in enumerate(HALF_LIVES.items()):
        if sums and landmarks:
            age = (now / 1000 - landmarks[at]) / half_life
            decayed[window] = float(tables.popularity(sums)[at] * np.exp2(-age))
    return {
        "item": items.document(items.decode_item(record)) if record else None,
        "popularity": decayed,
        "arms": arms,
        "neighbours": [
            {**titles.get(int(it["item"]), _unknown(int(it["item"]))), "score": float(it["score"])}
            for it in neighbours
        ],
    }


def slate_held(settings: Settings, slate_id: str) -> dict[str, Any]:
    """The slate, as the topic `slates` has it. Errors: `NotHeld` where the topic has no such slate."""
    from infra.kafka.records import records

    for record in records(settings, "slates", from_beginning=True, until_end=True):
        if record["key"] == slate_id and isinstance(record["value"], dict):
            return dict(record["value"])
    raise NotHeld("the topic slates holds no such slate: it may be too old, or still on its way")


class Named(NamedTuple):
    """What the catalogue says of hashes. By item: `titles` (id and title) and `primary` (the category that it
    has now, "" where none). By category: its name, where an item has it."""

    titles: dict[int, dict[str, str]]
    primary: dict[int, str]
    categories: dict[int, str]

    def categories_of(self, items: NDArray[np.uint64]) -> NDArray[np.uint32]:
        """As `serving.world.catalogue.ItemTable` has it."""
        import numpy as np

        from schemas import identity

        names = [self.primary.get(item, "") for item in items.tolist()]
        return np.array([identity.category_hash(name) if name else 0 for name in names], np.uint32)


def _names(
    client: redis.Redis, settings: Settings, items: set[int], categories: set[int] | None = None
) -> Named:
    """Looks up items and categories by hash: a scan of the catalogue until all are found."""
    from models.release import content
    from schemas import identity
    from schemas.items import decode_item

    named = Named({}, {}, {})
    items, categories = set(items), set(categories or ()) - {0}
    for partition in range(settings.partitions):
        for key, record in client.hscan_iter(settings.keyspace.items(partition), count=2000):
            if not (items or categories):
                return named
            item_id = key.decode()
            number = identity.item_hash(item_id)
            if number not in items and not categories:
                continue
            item = decode_item(record)
            names = content.categories(item)
            if number in items:
                items.discard(number)
                named.titles[number] = {"item_id": item_id, "title": item.title}
                named.primary[number] = names[0] if names else ""
            elif categories.isdisjoint(map(identity.category_hash, names)):
                continue
            for name in names:
                category = identity.category_hash(name)
                categories.discard(category)
                named.categories[category] = name
    return named


def _position(partition: int, offset: int) -> str:
    """The position of the last record before `offset`, "" where there is none."""
    return f"{partition}:{offset - 1}" if offset else ""


def _unknown(number: int) -> dict[str, str]:
    return {"item_id": f"#{number:016x}", "title": "(not in the catalogue)"}
