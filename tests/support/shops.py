"""A serving process over state in Redis, written there as the flows write it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import numpy as np
from kafka import TopicPartition

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.local import services
from infra.settings import Settings, signing_key
from infra.store import redis_client
from infra.store.redis_client import Client
from models.features.registry import ROW, pack_rows
from schemas import control
from schemas import events as event
from schemas import slates as slate
from schemas.actions import CODE
from schemas.events import Served
from schemas.identity import partition_of, pseudonym
from schemas.items import Item
from schemas.keys import PLAIN
from schemas.slates import Slate
from schemas.state import fences, tables
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from tests.support import worlds
from tests.support.http import Answer, Server, serving
from tests.support.singles import singles
from tests.support.worlds import NOW

ITEMS = [*worlds.catalogue(300, 8, 7), Item(item_id="gone", category="c0", available=False)]
LISTS = worlds.neighbours(ITEMS, 20, 7)
CATEGORY = {item.item_id: item.category for item in ITEMS}


class Shop(NamedTuple):
    """A server and its Redis, with writes as the flows do them."""

    server: Server
    redis: Client

    def get(self, path: str) -> Answer:
        return self.server.ask("GET", path)

    def post(self, body: Any) -> Answer:
        return self.server.ask("POST", "/v1/recommendations", body)

    def read(self, query: str) -> Any:
        answer = self.get(f"/v1/recommendations?{query}")
        assert answer.status == 200, answer.body
        return answer.json

    def where(self, user: str) -> tuple[str, int]:
        name = pseudonym(*signing_key(self.server.settings), user)
        return name, partition_of(name.encode(), self.server.settings.partitions)

    def fold(self, name: str, partition: int, acts: list[tuple[str, int]], offset: int) -> None:
        """Writes as `people` does: row and fence in one transaction."""
        who = worlds.person(acts, categories=CATEGORY)
        rows = np.zeros(1, ROW)
        rows[0] = who.row
        fence = Fence("topic", 4, offset, NOW, 1, NOW + 19)
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.set(PLAIN.row(partition, name), pack_rows(rows)[0])
            pipe.set(PLAIN.fence("people", partition), fences.encode(fence))
            pipe.execute()

    def fill_log(self, partition: int, records: int) -> None:
        """Appends records that nobody reads: a read waits for no position that the log lacks."""
        settings = self.server.settings
        with closing(kafka_client.producer(settings)) as producer:
            name = broker_name(settings, EVENTS.name)
            for _ in range(records):
                producer.send(name, value=b"{}", partition=partition)
            producer.flush()

    def control(self, name: str, body: control.Body, version: int = 1) -> None:
        """Writes as `control` does: `name` is ``subject:id``."""
        held = control.Held(version=version, body=msgspec.json.encode(body).decode(), offset=0)
        value = msgspec.json.encode(held)
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(PLAIN.control_state().decode(), name, value)
            pipe.xadd(PLAIN.control_changes(), {"s": name, "v": value})
            pipe.execute()

    def put(self, item: Item, at: int) -> None:
        """Writes as `catalogue` does; `at` is the next offset."""
        p = partition_of(item.item_id.encode(), 4)
        value = msgspec.json.encode(item)
        with self.redis.pipeline(transaction=True) as pipe:
            pipe.hset(PLAIN.items(p), item.item_id, value)
            pipe.xadd(PLAIN.item_changes(p), {"i": item.item_id, "v": value}, id=f"{at}-1")
            pipe.execute()

    def publish(
        self, version: int, neighbours: Mapping[int, bytes], popularity: Mapping[int, bytes]
    ) -> None:
        """Publishes tables as `rollup` does."""
        meta = tables.Meta(version=version, positions=[version] * 4, landmarks=[0.0] * 4)
        change = tables.Published(
            meta=meta, neighbours=dict(neighbours), popularity=dict(popularity)
        )
        with self.redis.pipeline(transaction=True) as pipe:
            for key, rows in (
                (PLAIN.tables().neighbours, neighbours),
                (PLAIN.tables().popularity, popularity),
            ):
                if rows:
                    pipe.hset(key, mapping={n.to_bytes(8, "little"): v for n, v in rows.items()})
            pipe.set(PLAIN.tables().meta, tables.ENCODER.encode(meta))
            pipe.xadd(
                PLAIN.tables().changes,
                {"v": tables.ENCODER.encode(tables.Changed.of(change))},
                id=f"{version}-0",
            )
            pipe.execute()

    def until(self, path: str, so: Any) -> Any:
        """The answer to `path` once it satisfies `so`."""
        found: list[Any] = []

        def ask() -> bool:
            found[:] = [self.get(path).json]
            return bool(so(found[0]))

        services.wait_until(ask, 10, "it does not come")
        return found[0]


@contextmanager
def opened(redis_url: str, broker: str, home: Path) -> Iterator[Shop]:
    """Yields a server that started over an empty Redis, after that was filled."""
    settings = Settings(
        kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0, auth="off"
    )
    kafka_client.ensure_topics(settings)
    with redis_client.connect(settings) as client, serving(settings, home / "log") as server:
        shop = Shop(server, client)
        fill(shop)
        yield shop


def fill(shop: Shop) -> None:
    """Fills an empty system, whose server answers meanwhile."""
    empty = shop.read("user_id=u1")
    assert (empty["items"], empty["fallback"], empty["exhausted"]) == ([], "popular", True)
    assert empty["freshness"]["position"] is None
    for at, item in enumerate(ITEMS, 1):
        shop.put(item, at)
    shop.publish(1, LISTS, worlds.popularity(ITEMS, 7))
    shop.fold(*shop.where("u1"), [("i1", CODE["view"]), ("i2", CODE["like"])], 10)
    shop.until(
        "/v1/status", lambda body: body["items"] == len(ITEMS) and body["tables_version"] == 1
    )


def logged(
    settings: Settings, slate_id: str, *, served: bool = True
) -> tuple[Slate, Served | None]:
    """A slate of the log, once it is there, with (`served`: awaited too) the record of the person that
    it was served to."""
    made: list[Slate] = []
    shown: list[Served] = []
    consumer = kafka_client.consumer(settings)
    events = [TopicPartition("events", p) for p in range(settings.partitions)]
    slates = TopicPartition("slates", partition_of(slate_id.encode(), settings.partitions))
    try:
        consumer.assign([slates, *events])
        consumer.seek_to_beginning(slates, *events)

        def look() -> bool:
            for place, records in consumer.poll(100).items():
                for record in singles(place.topic, records):
                    if place == slates and record.key == slate_id.encode():
                        made.append(slate.decode(record.value))
                    elif place != slates and slate_id.encode() in record.value:
                        decoded = event.decode(record.value, record.timestamp)
                        if isinstance(decoded, Served):
                            assert record.key == decoded.person.encode()
                            shown.append(decoded)
            end_offsets = consumer.end_offsets(events)
            read = all(consumer.position(it) >= end_offsets[it] for it in events)
            return bool(made and read and (shown or not served))

        services.wait_until(look, 10, "the slate does not come")
    finally:
        consumer.close()
    return made[0], shown[0] if shown else None
