"""The write side through real HTTP, up to the records in the log."""

from __future__ import annotations

import itertools
import json
import threading
from typing import Any

import pytest

from infra.settings import signing_key
from schemas import control, events, items
from schemas.events import Action, Link, Linking, Preferences
from schemas.identity import anonymous, partition_of, pseudonym
from schemas.items import DeleteItem, PatchItem, PutItem
from tests.support.http import Server, ask, end_offset, record_at

VIEW: dict[str, Any] = {"user_id": "u1", "item_id": "i1", "action": "view"}


def test_an_event_is_in_the_log_when_it_is_acknowledged(edge: Server) -> None:
    answer = edge.ask("POST", "/v1/events", {**VIEW, "event_id": "e1"})
    assert answer.status == 202
    receipt = answer.json
    assert (receipt["accepted"], receipt["rejected"], receipt["durable"]) == (1, [], "broker")
    assert "event_ids" not in receipt
    record = record_at(edge.settings, "events", receipt["positions"][0])
    person = pseudonym(*signing_key(edge.settings), "u1")
    assert record.key == person.encode()
    assert record.partition == partition_of(record.key, edge.settings.partitions)
    action = events.decode_stored(record.value)
    assert isinstance(action, Action)
    assert (action.event_id, action.person, action.item_id) == ("e1", person, "i1")
    # the producer's clock is the record's; the event's own time is in the body
    assert abs(record.timestamp - action.received_at) < 60_000


def test_the_receipt_of_a_batch_has_the_highest_position_of_each_partition(edge: Server) -> None:
    batch = [{**VIEW, "user_id": f"u{n}", "event_id": f"e{n}"} for n in range(100)]
    answer = edge.ask("POST", "/v1/events", {"events": [*batch, {**VIEW, "action": "stare"}]})
    assert (answer.status, answer.json["accepted"]) == (202, 100)
    assert answer.json["rejected"] == [{"index": 100, "field": "action", "code": "unknown_action"}]
    positions = answer.json["positions"]
    assert [p.partition(":")[0] for p in positions] == ["0", "1", "2", "3"]
    last = {record_at(edge.settings, "events", p).key for p in positions}
    people = [pseudonym(*signing_key(edge.settings), f"u{n}").encode() for n in range(100)]
    expected = {partition_of(person, 4): person for person in people}
    assert last == set(expected.values())


def test_json_lines_are_taken(edge: Server) -> None:
    lines = b"\n".join(json.dumps({**VIEW, "user_id": f"u{n}"}).encode() for n in range(3))
    headers = {"Content-Type": "application/x-ndjson", "Idempotency-Key": "k1"}
    answer = edge.ask("POST", "/v1/events", lines, headers)
    assert (answer.status, answer.json["accepted"]) == (202, 3)
    assert "event_ids" not in answer.json


def test_a_receipt_has_the_event_ids_that_the_server_made(edge: Server) -> None:
    receipt = edge.ask("POST", "/v1/events", {"events": [VIEW, {**VIEW, "event_id": "e1"}]}).json
    made, mine = receipt["event_ids"]
    assert mine is None
    again = edge.ask("POST", "/v1/events", VIEW).json["event_ids"]
    assert again != [made]


def test_history_is_received_when_it_occurred(edge: Server) -> None:
    body = {**VIEW, "occurred_at": "2001-02-03T04:05:06.007Z"}
    receipt = edge.ask("POST", "/v1/events?mode=import", body).json
    action = events.decode_stored(record_at(edge.settings, "events", receipt["positions"][0]).value)
    assert isinstance(action, Action)
    assert action.received_at == action.occurred_at == 981_173_106_007


def test_a_batch_holds_a_thousand_events_and_no_more(edge: Server) -> None:
    before = end_offset(edge.settings, "events")
    answer = edge.ask("POST", "/v1/events", {"events": [VIEW] * 1000})
    assert (answer.status, answer.json["accepted"]) == (202, 1000)
    assert end_offset(edge.settings, "events") == before + 1000
    answer = edge.ask("POST", "/v1/events", {"events": [VIEW] * 1001})
    assert (answer.status, answer.errors) == (413, [("events", "too_many")])


def test_a_batch_that_is_rejected_whole_is_a_problem(edge: Server) -> None:
    answer = edge.ask(
        "POST", "/v1/events", {"events": [{**VIEW, "action": "a"}, {**VIEW, "rank": -1}]}
    )
    assert answer.status == 422
    assert answer.errors == [
        ("events[0].action", "unknown_action"),
        ("events[1].rank", "out_of_range"),
    ]
    answer = edge.ask("POST", "/v1/events", {**VIEW, "action": "a"})
    assert (answer.status, answer.errors) == (422, [("action", "unknown_action")])


def test_items_are_put_patched_and_deleted(edge: Server) -> None:
    path = "/v1/items/caf%C3%A9%2F1"
    key = "café/1".encode()
    receipts = [
        edge.ask("PUT", path, {"title": "A", "categories": ["x"]}).json,
        edge.ask("PATCH", path, {"available": False}).json,
        edge.ask("DELETE", path).json,
    ]
    records = [record_at(edge.settings, "items", each["position"]) for each in receipts]
    assert [record.key for record in records] == [key] * 3
    assert len({record.partition for record in records}) == 1
    put, patch, delete = (items.decode(record.value) for record in records)
    assert isinstance(put, PutItem)
    assert (put.item.item_id, put.item.category) == ("café/1", "x")
    assert isinstance(patch, PatchItem)
    assert isinstance(delete, DeleteItem)


def test_items_are_put_in_a_batch(edge: Server) -> None:
    batch = {"items": [{"item_id": f"i{n}", "title": "T"} for n in range(9)] + [{"title": "?"}]}
    answer = edge.ask("POST", "/v1/items", batch)
    assert (answer.status, answer.json["accepted"]) == (202, 9)
    assert answer.json["rejected"] == [{"index": 9, "field": "item_id", "code": "required"}]
    assert answer.json["positions"]


def test_preferences_and_links_lie_with_their_person(edge: Server) -> None:
    key = signing_key(edge.settings)
    receipt = edge.ask("PUT", "/v1/users/u1/preferences", {"hidden_items": ["i9"]}).json
    record = record_at(edge.settings, "events", receipt["position"])
    preferences = events.decode_stored(record.value)
    assert isinstance(preferences, Preferences)
    assert record.key == pseudonym(*key, "u1").encode()
    assert preferences.hidden_items == ("i9",)

    # of another partition than u1: the receipt has the highest position of each one
    def home(person: str) -> int:
        return partition_of(person.encode(), edge.settings.partitions)

    names = (f"a{n}" for n in itertools.count())
    theirs = home(pseudonym(*key, "u1"))
    name = next(it for it in names if home(anonymous(*key, it)) != theirs)
    answer = edge.ask("POST", "/v1/users/u1:link", {"anonymous_id": name})
    receipt = answer.json
    decision = [receipt[word] for word in ("linked", "why", "pending")]
    assert (answer.status, decision) == (202, [None, None, True]), "no fold runs"
    record = record_at(edge.settings, "events", receipt["position"])
    link = events.decode_stored(record.value)
    assert isinstance(link, Link)
    assert record.key == anonymous(*key, name).encode()
    assert link.to == pseudonym(*key, "u1")
    assert receipt["position"] in receipt["positions"]
    [other] = [it for it in receipt["positions"] if it != receipt["position"]]
    mark = events.decode_stored(record_at(edge.settings, "events", other).value)
    assert isinstance(mark, Linking)
    assert (mark.person, mark.of, mark.link) == (link.to, link.person, link.event_id)


def test_a_placement_goes_to_control(edge: Server) -> None:
    body = {"expected_version": 0, "recipe": {"weights": {"popular": 1}}, "actor": "me"}
    receipt = edge.ask("PUT", "/v1/placements/home", body).json
    change = control.decode(record_at(edge.settings, "control", receipt["position"]).value)
    assert (change.subject, change.id, change.actor) == ("placement", "home", "me")


def test_unknown_parameters_are_refused_by_name(edge: Server) -> None:
    for path in ("/v1/events?mod=import", "/v1/items?mod=1"):
        answer = edge.ask("POST", path, VIEW)
        assert (answer.status, answer.errors) == (422, [("mod", "unknown_field")])
    answer = edge.ask("POST", "/v1/events?mode=replay", VIEW)
    assert (answer.status, answer.errors) == (422, [("mode", "unknown_value")])


def test_health_and_metrics_are_answered(edge: Server) -> None:
    assert edge.ask("GET", "/health/live").status == 200
    edge.ask("POST", "/v1/events", VIEW)
    text = edge.ask("GET", "/metrics").body.decode()
    values = dict(line.rsplit(" ", 1) for line in text.splitlines() if line[0] != "#")
    assert float(values["freshet_events_accepted_total"]) >= 1
    assert float(values['freshet_ready{part="broker"}']) == 1
    assert float(values['freshet_ready{part="redis"}']) == 1
    assert float(values["freshet_write_seconds_count"]) >= 1


def test_the_api_describes_itself(edge: Server) -> None:
    document = edge.ask("GET", "/openapi.json").json
    page = edge.ask("GET", "/docs")
    assert page.headers["content-type"] == "text/html; charset=utf-8"
    policy = page.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy
    assert "http" not in policy
    for path in document["paths"]:
        assert path in page.body.decode()


def test_events_of_a_person_keep_their_order_over_one_connection(edge: Server) -> None:
    connection = edge.connect()
    offsets = []
    for n in range(50):
        receipt = ask(connection, "POST", "/v1/events", {**VIEW, "event_id": f"o{n}"}).json
        offsets.append(int(receipt["positions"][0].partition(":")[2]))
    connection.close()
    assert offsets == sorted(offsets)


def test_writes_of_many_clients_at_once_lose_nothing(edge: Server) -> None:
    before = end_offset(edge.settings, "events")
    statuses: list[int] = []

    def client(number: int) -> None:
        connection = edge.connect()
        for n in range(25):
            batch = [
                {**VIEW, "user_id": f"u{number}", "event_id": f"{number}-{n}-{i}"}
                for i in range(10)
            ]
            statuses.append(ask(connection, "POST", "/v1/events", {"events": batch}).status)
        connection.close()

    threads = [threading.Thread(target=client, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert statuses == [202] * 200
    assert end_offset(edge.settings, "events") == before + 2000


@pytest.mark.parametrize("given", ["abc-123", "x" * 65, "a b", ""])
def test_every_answer_names_its_request(edge: Server, given: str) -> None:
    for path in ("/health/live", "/nowhere"):
        request_id = edge.ask("GET", path, headers={"X-Request-Id": given}).headers["x-request-id"]
        assert (request_id == given) == (given == "abc-123")
        assert request_id
