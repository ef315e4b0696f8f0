"""Headers from a request to the lake, also by way of a spool: a record's schema, and its request's trace."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from kafka import TopicPartition

from infra.kafka import changes, kafka_client
from infra.kafka.reader import Topics
from infra.lake.log import open_log
from infra.lake.reader import Lake
from infra.local import services
from infra.settings import Settings
from schemas.headers import Headers, traced
from schemas.topics import BY_NAME, CONTROL, EVENTS, ITEMS, SLATES, TOPICS
from tests.support import lakes
from tests.support.http import Server, metric, serving
from tests.support.outage import Broker
from tests.support.running import fill_lake
from tests.support.singles import singles

VIEW = {"user_id": "u1", "item_id": "i1", "action": "view"}


def trace(n: int) -> str:
    return f"00-{n:032x}-{n:016x}-01"


def header(n: int) -> dict[str, str]:
    return {"traceparent": trace(n)}


def records(settings: Settings, topic: str) -> Iterator[Any]:
    """The records that the topic holds now."""
    consumer = kafka_client.consumer(settings)
    try:
        places = [TopicPartition(topic, p) for p in consumer.partitions_for_topic(topic) or ()]
        consumer.assign(places)
        consumer.seek_to_beginning()
        end_offsets = consumer.end_offsets(places)
        while any(consumer.position(place) < end_offsets[place] for place in places):
            for found in consumer.poll(100).values():
                yield from singles(topic, found)
    finally:
        consumer.close()


def headers(settings: Settings, topic: str) -> list[Headers]:
    """The headers of a topic's records, oldest request first."""
    found = [tuple(record.headers) for record in records(settings, topic)]
    return sorted(found, key=lambda it: it[-1][1])


def wanted(topic: str, *numbers: int) -> list[Headers]:
    return [traced(BY_NAME[topic].headers, trace(n).encode()) for n in numbers]


def write_all(server: Server) -> None:
    """Sends each kind of write, each request with a trace of its own, 1 to 8."""
    asks = [
        ("POST", "/v1/events", VIEW),
        ("POST", "/v1/events", {"events": [VIEW, {**VIEW, "user_id": "u2"}]}),
        ("PUT", "/v1/users/u1/preferences", {"hidden_items": ["i9"]}),
        ("POST", "/v1/users/u1:link", {"anonymous_id": "a1"}),
        ("PUT", "/v1/items/i1", {"title": "one"}),
        ("POST", "/v1/items", {"items": [{"item_id": "i2"}, {"item_id": "i3"}]}),
        ("PATCH", "/v1/items/i1", {"title": "two"}),
        ("DELETE", "/v1/items/i2", None),
    ]
    for n, (method, path, body) in enumerate(asks, 1):
        answer = server.ask(method, path, body, header(n))
        assert answer.status in (200, 202), answer.body


def test_each_record_has_its_schema_and_the_trace_of_its_request_in_topic_and_lake(
    edge: Server,
) -> None:
    settings = edge.settings
    write_all(edge)
    recipe = {"expected_version": 0, "recipe": {"weights": {"popular": 1}}}
    assert edge.ask("PUT", "/v1/placements/home", recipe, header(9)).status == 202
    for path in ("/v1/recommendations?user_id=u1", "/v1/popular", "/v1/items/i1/similar"):
        assert edge.ask("GET", path, headers=header(10)).status == 200
    page = {"requests": [{"user_id": "u1"}, {"user_id": "u2"}]}
    assert edge.ask("POST", "/v1/recommendations", page, header(11)).status == 200
    assert headers(settings, EVENTS.name) == wanted("events", 1, 2, 2, 3, 4, 4)
    assert headers(settings, ITEMS.name) == wanted("items", 5, 6, 6, 7, 8)
    assert headers(settings, CONTROL.name) == wanted("control", 9)

    def slates_came() -> bool:
        return headers(settings, SLATES.name) == wanted("slates", 10, 10, 10, 11, 11)

    services.wait_until(slates_came, 20, "the slates do not come with their trace")

    fill_lake(settings)
    logs = (Lake.of(settings), Topics(settings), open_log(settings))
    for topic in TOPICS:
        for p in range(topic.partitions or settings.partitions):
            start, end = logs[1].bounds(topic.name, p)
            found = [lakes.read(log.read(topic.name, p, start, end)) for log in logs if end]
            each = [[list(it) for it in one.headers] for one in found]
            assert all(it == each[0] for it in each)
            assert all(it[0] == topic.headers[0] for one in each for it in one)


def test_records_of_the_command_line_have_their_schema(edge: Server) -> None:
    changes._send(edge.settings, "policy", "release", 0, b"{}", "")
    assert CONTROL.headers in [tuple(it.headers) for it in records(edge.settings, CONTROL.name)]


@pytest.mark.parametrize("given", ["", "nonsense", trace(0), trace(7).upper() + "A", "ü" * 55])
def test_a_trace_that_is_not_valid_is_no_error_and_goes_no_further(
    edge: Server, given: str
) -> None:
    body = {**VIEW, "user_id": "nobody"}
    assert edge.ask("POST", "/v1/events", body, {"traceparent": given}).status == 202
    last = [it.headers for it in records(edge.settings, EVENTS.name) if len(it.headers) == 1]
    assert list(map(tuple, last)) == [EVENTS.headers] * len(last)
    assert last


@pytest.mark.check
def test_a_spool_keeps_headers_over_a_restart(
    broker_of_my_own: Broker, own: Settings, tmp_path: Path
) -> None:
    with serving(own, tmp_path / "one") as one:
        assert one.ask("POST", "/v1/events", VIEW, header(1)).json["durable"] == "broker"
        broker_of_my_own.kill()
        write_all(one)
        assert one.ask("GET", "/v1/recommendations?user_id=u1", headers=header(10)).status == 200
        one.process.kill()
        one.process.wait()
    with serving(own, tmp_path / "two") as two:
        assert two.ask("POST", "/v1/events", VIEW, header(12)).json["durable"] == "spool"
        broker_of_my_own.start()

        def drained() -> bool:
            return metric(two, "freshet_write_spool_records") == 0 and bool(
                headers(own, SLATES.name)
            )

        services.wait_until(drained, 30, "the spools are not drained")
    assert headers(own, EVENTS.name) == wanted("events", 1, 1, 2, 2, 3, 4, 4, 12)
    assert headers(own, ITEMS.name) == wanted("items", 5, 6, 6, 7, 8)
    assert headers(own, SLATES.name) == wanted("slates", 10)
