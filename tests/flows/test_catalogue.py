"""The fold of `items`: what a patch of no item does, and that serving holds what the fold stored."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
import pytest

from flows import catalogue
from flows.catalogue import PATCH_OF_UNKNOWN_ITEM, Catalogue
from flows.kit.commit import Fenced
from infra.log_reader import Batch
from infra.settings import Settings
from infra.store import redis_client
from schemas import items
from schemas.items import DeleteItem, Item, ItemChange, PatchItem, PutItem
from schemas.keys import PLAIN
from serving.state.followers import BYTES_PER_YIELD, CatalogueFollower
from serving.world.catalogue import ItemTable
from serving.world.index import ContentIndex

pytestmark = pytest.mark.on_cluster


def patch(item_id: str, *, creates: bool = False, **fields: Any) -> PatchItem:
    raws = {name: msgspec.Raw(json.dumps(value).encode()) for name, value in fields.items()}
    return PatchItem(item_id=item_id, fields=raws, received_at=1, creates=creates)


def put(item_id: str, **fields: Any) -> PutItem:
    return PutItem(item=Item(item_id=item_id, **fields), received_at=1)


def delete(item_id: str) -> DeleteItem:
    return DeleteItem(item_id=item_id, received_at=1)


@contextmanager
def fold(settings: Settings) -> Iterator[Catalogue]:
    worker = Catalogue(settings)
    try:
        yield worker
    finally:
        worker.close()


def apply(worker: Catalogue, changes: Sequence[ItemChange]) -> Any:
    """Commits the next batch of partition 0."""
    first = worker.fences[0].offset
    values: list[bytes | None] = [msgspec.json.encode(change) for change in changes]
    offsets = list(range(first, first + len(values)))
    batch = Batch(0, first, first + len(values), offsets, [1] * len(values), values)
    write = worker.apply(catalogue.decode(batch)[0])
    worker.commit([write])
    return write


def stored(worker: Catalogue) -> dict[str, Item]:
    held: Any = worker.redis.hgetall(PLAIN.items(0))
    return {name.decode(): items.decode_item(value) for name, value in held.items()}


def tallied(worker: Catalogue) -> dict[bytes, bytes]:
    found: Any = worker.redis.hgetall(PLAIN.item_tallies(0))
    return dict(found)


def test_a_patch_of_no_item_is_dropped_and_counted(settings: Settings) -> None:
    with fold(settings) as worker:
        write = apply(
            worker,
            [
                patch("late", title="x"),  # never put
                put("tent", title="Tent"),
                patch("tent", text="green"),  # put in this batch
                delete("tent"),
                patch("tent", title="back"),
                patch("made", creates=True, title="Made"),
            ],
        )
        assert write.counts == {PATCH_OF_UNKNOWN_ITEM: 2}
        assert {entry.fields[b"i"] for entry in write.entries} == {b"tent", b"made"}
        assert stored(worker) == {"made": Item(item_id="made", title="Made")}
        apply(worker, [patch("tent", title="again"), put("mug", title="Mug"), delete("mug")])
        apply(worker, [patch("mug", title="late"), put("mug", title="Mug"), patch("mug", text="t")])
        assert stored(worker)["mug"] == Item(item_id="mug", title="Mug", text="t")
        assert tallied(worker) == {PATCH_OF_UNKNOWN_ITEM.encode(): b"4"}


def test_a_batch_that_is_folded_again_counts_once(settings: Settings) -> None:
    with fold(settings) as worker:
        apply(worker, [patch("a", title="x"), patch("b", title="x")])
        first = worker.fences[0].offset
        batch = Batch(0, first, first + 1, [first], [1], [msgspec.json.encode(patch("c"))])
        for _ in range(3):  # the commit of the first two never came to the store
            write = worker.apply(catalogue.decode(batch)[0])
            assert write.counts == {PATCH_OF_UNKNOWN_ITEM: 1}
        assert tallied(worker) == {PATCH_OF_UNKNOWN_ITEM.encode(): b"2"}
        worker.commit([write])
        assert tallied(worker) == {PATCH_OF_UNKNOWN_ITEM.encode(): b"3"}
        worker.commit([write])
        assert isinstance(worker.out.error(0), Fenced)
        assert tallied(worker) == {PATCH_OF_UNKNOWN_ITEM.encode(): b"3"}


def test_items_of_a_log_of_before_are_folded_as_they_were(settings: Settings) -> None:
    """A patch of then says nothing about creating, and creates; its primary category is found anew."""
    old: list[bytes | None] = [
        b'{"kind":"patch","item_id":"a","fields":{"title":"A"},"received_at":1}',
        b'{"kind":"put","item":{"item_id":"b","category":"x","categories":["y"]},"received_at":1}',
        b'{"kind":"patch","item_id":"b","fields":{"categories":["z"]},"received_at":1}',
    ]
    with fold(settings) as worker:
        batch = Batch(0, 0, 3, [0, 1, 2], [1, 1, 1], old)
        worker.commit([worker.apply(catalogue.decode(batch)[0])])
        assert stored(worker) == {
            "a": Item(item_id="a", title="A"),
            "b": Item(item_id="b", category="z", categories=("z",)),
        }
        assert tallied(worker) == {}


# -- serving follows ------------------------------------------------------------------------------

LONGEST: dict[str, Any] = {
    "title": "word " * 200,
    "text": "x" * 65_536,
    "tags": tuple(f"{n}".zfill(256) for n in range(100)),
    "embedding": (0.1,) * 4096,
}


def changes(n: int) -> Iterable[ItemChange]:
    """Of 40 items, each changed many times within a read of the stream."""
    for i in range(n):
        name = f"i{i * 7 % 40}"
        if i % 5 == 4:
            yield delete(name)
        elif i % 3 == 2:
            yield patch(name, categories=[f"c{i % 3}", "all"], available=i % 4 > 0)
        else:
            yield put(name, title=f"t {i}", categories=(f"c{i % 7}", "all"), tags=("old",))


def visible(table: ItemTable) -> dict[str, Any]:
    """What reads see, without slots."""
    found = {}
    for name in table.item_ids():
        slot = table.find(name)
        categories = [table.categories.texts[number] for number in table.memberships.of(slot)]
        content = table.vectors[slot].tobytes()
        found[name] = (table.titles[slot], categories, int(table.until[slot]), content)
    return found


async def follow(settings: Settings, work: Any) -> Any:
    client = redis_client.connect_async(settings)
    try:
        index = ContentIndex(ItemTable(), 20_000)
        return await work(CatalogueFollower(client, settings.keyspace, index, settings.partitions))
    finally:
        await client.aclose()


def test_a_follower_of_the_changes_holds_what_one_that_loads_holds(settings: Settings) -> None:
    async def step_by_step(follower: CatalogueFollower) -> ItemTable:
        with fold(settings) as worker:
            apply(worker, [put("first")])
            await follower.load()
            for batch in range(6):
                apply(worker, [*changes(30 + batch)])
                apply(
                    worker, [put("i1", title="t"), delete("i1"), put("i1", title=f"last {batch}")]
                )
                await follower._take_new()
                assert follower.table.positions[0] == worker.fences[0].offset
        return follower.table

    async def at_once(follower: CatalogueFollower) -> ItemTable:
        await follower.load()
        return follower.table

    table = asyncio.run(follow(settings, step_by_step))
    loaded = asyncio.run(follow(settings, at_once))
    assert visible(table) == visible(loaded)
    assert visible(table)["i1"][0] == "last 5"


def test_the_event_loop_runs_while_the_longest_items_come(settings: Settings) -> None:
    """500 items of the longest texts at once: other tasks run between any two groups of them."""

    async def steps(follower: CatalogueFollower) -> tuple[int, int]:
        await follower.load()
        values = [
            msgspec.json.encode(Item(item_id=f"i{n}", category=f"c{n}", **LONGEST))
            for n in range(500)
        ]
        entries = [((1, n), {b"i": b"i%d" % n, b"v": value}) for n, value in enumerate(values)]
        counted = 0

        async def other() -> None:
            nonlocal counted
            while True:
                await asyncio.sleep(0)
                counted += 1

        task = asyncio.create_task(other())
        await follower.apply(settings.keyspace.item_changes(0), entries)
        task.cancel()
        assert follower.table.count == 500
        return counted, sum(map(len, values)) // BYTES_PER_YIELD

    counted, groups = asyncio.run(follow(settings, steps))
    assert groups > 100
    assert counted >= groups
