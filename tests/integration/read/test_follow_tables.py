"""A process that serves takes the rows that an entry names out of the hashes: each version as a whole."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from flows.rollup.tables import Rollup
from infra.settings import Settings
from infra.store import redis_client
from models.aggregates.arms import arm_key
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.state import tables
from serving.state.follow import Gap, StreamEntry, parsed
from serving.state.followers import TablesFollower
from serving.state.generation import Generation
from serving.world.catalogue import ItemTable
from serving.world.tables import Tables
from tests.support.loop import append, entry

pytestmark = pytest.mark.on_cluster


def test_an_entry_behind_which_others_were_published_leads_to_the_last_version(
    redis_url: str,
) -> None:
    with redis_client.connect(Settings(redis_url=redis_url)) as client:
        client.flushall()
        asyncio.run(_follow(client, redis_url))


async def _follow(client: Any, redis_url: str) -> None:
    rollup, keys = Rollup(client, Settings()), PLAIN.tables()

    def publish(n: int, *items: str) -> None:
        append(client, 1, entry(n, [*items], "served"))
        rollup.read()
        assert rollup.publish()

    def entries() -> list[StreamEntry]:
        return parsed(client.xread({keys.changes: 0}))

    def served(item: str) -> int:
        arms, slot = held.arms("home"), held.items.slot(item_hash(item))
        return 0 if arms is None else int(arms.served[slot])

    held = Tables(ItemTable(capacity=8))
    redis = redis_client.connect_async(Settings(redis_url=redis_url))
    follower = TablesFollower(redis, held, Generation(redis, PLAIN))
    publish(0, "a")
    await follower.load()
    publish(1, "a")
    publish(2, "a", "b")
    publish(3, "c")
    _, second, third, fourth = entries()
    named = tables.DECODER.decode(third[1][tables.FIELD]).keys()
    assert [set(keys) for keys in named] == [
        set(),
        set(),
        {arm_key("home", it) for it in "ab"},
        set(),
    ]
    await follower.apply(keys.changes, [second])
    assert (held.meta.version, held.meta.positions) == (4, rollup.tables.positions)
    assert [served(it) for it in "abc"] == [3, 1, 1]
    await follower.apply(keys.changes, [third, fourth])  # applied already
    assert held.meta.version == 4
    publish(4, "b")
    publish(5, "b")
    with pytest.raises(Gap):  # one between is missing
        await follower.apply(keys.changes, entries()[-1:])
    fifth, sixth = entries()[-2:]
    client.xdel(keys.changes, b"6-0")
    with pytest.raises(Gap):  # the rows are of a version that the stream does not reach
        await follower.apply(keys.changes, [fifth])
    client.hdel(keys.arms, arm_key("home", "b"))
    with pytest.raises(Gap):  # a row is gone
        await follower.apply(keys.changes, [fifth, sixth])
    assert (held.meta.version, served("b")) == (4, 1)
    before = tables.ENCODER.encode({"meta": {"version": 5}, "neighbours": {1: b""}})
    with pytest.raises(Gap):  # a roll-up of another version names no rows
        await follower.apply(keys.changes, [((5, 0), {tables.FIELD: before})])
    await follower.load()  # the hashes have them
    assert (held.meta.version, served("a")) == (6, 3)
    await redis.aclose()
