"""What a 202 promises: each line counts once, a key stands for one body, and what will not count is said."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from schemas import keys
from schemas.events import DECODER, Action, Source
from tests.support.http import Server, end_offset, record_at, serving

PURCHASE: dict[str, Any] = {"user_id": "kim", "item_id": "cup", "action": "purchase"}
EVENTS = "/v1/events"


def appended(server: Server, receipt: Any) -> Action:
    """The last record that a receipt of one partition names."""
    record = record_at(server.settings, "events", receipt["positions"][0])
    action = DECODER.decode(record.value)
    assert isinstance(action, Action)
    return action


def metric(server: Server, name: str) -> float:
    text = server.ask("GET", "/metrics").body.decode()
    return sum(float(it.rsplit(" ", 1)[1]) for it in text.splitlines() if it.startswith(name))


@pytest.mark.on_cluster
def test_a_key_stands_for_one_body(edge: Server) -> None:
    key = {"Idempotency-Key": "k1"}
    pan = {**PURCHASE, "item_id": "pan"}
    first = edge.ask("POST", EVENTS, PURCHASE, key)
    assert (first.status, first.json["accepted"]) == (202, 1)
    end = end_offset(edge.settings, "events")
    other = edge.ask("POST", EVENTS, pan, key)
    assert (other.status, other.json["code"]) == (422, "idempotency_key_reused")
    assert other.errors == [("Idempotency-Key", "idempotency_key_reused")]
    assert end_offset(edge.settings, "events") == end
    again = edge.ask("POST", EVENTS, {"events": [PURCHASE], "sent_at": "2026-01-01T00:00:00Z"}, key)
    assert again.status == 202
    one, two = (appended(edge, each.json) for each in (first, again))
    assert one.event_id == two.event_id
    assert "\0" in one.event_id
    assert edge.ask("POST", EVENTS, pan, {"Idempotency-Key": "k2"}).status == 202


def test_a_body_that_is_refused_whole_leaves_its_key_free(edge: Server) -> None:
    key = {"Idempotency-Key": "k3"}
    assert edge.ask("POST", EVENTS, {**PURCHASE, "action": "stare"}, key).status == 422
    assert edge.ask("POST", EVENTS, PURCHASE, key).status == 202


def test_a_key_stands_for_one_body_on_every_route_that_takes_it(edge: Server) -> None:
    routes = [
        ("PUT", "/v1/users/kim/preferences", {"hidden_items": ["a"]}, {"hidden_items": ["b"]}),
        ("POST", "/v1/users/kim:link", {"anonymous_id": "a1"}, {"anonymous_id": "a2"}),
        ("POST", "/v1/users/kim:unlink", {"anonymous_id": "a1"}, {"anonymous_id": "a2"}),
    ]
    # at once: a link waits a second for a verdict that no flow gives here
    with ThreadPoolExecutor(len(routes)) as pool:
        for done in [pool.submit(_one_body, edge, *route) for route in routes]:
            done.result()


def _one_body(edge: Server, method: str, path: str, body: Any, other: Any) -> None:
    key = {"Idempotency-Key": f"key of {path}"}
    assert edge.ask(method, path, {"nonsense": 1}, key).status == 422
    names = []
    for _ in range(2):
        answer = edge.ask(method, path, body, key)
        assert answer.status in (200, 202)
        record = record_at(edge.settings, "events", answer.json["position"])
        names.append(msgspec.json.decode(record.value)["event_id"])
    assert names[0] == names[1]
    assert edge.ask(method, path, other, key).json["code"] == "idempotency_key_reused"
    stranger = path.replace("kim", "lee")
    assert edge.ask(method, stranger, body, key).json["code"] == "idempotency_key_reused"


def test_a_key_is_kept_for_a_day_under_a_hash(edge: Server) -> None:
    edge.ask("POST", EVENTS, PURCHASE, {"Idempotency-Key": "of a day"})
    with redis_client.connect(edge.settings) as client:
        held = list(client.scan_iter(match="ik:*", count=1000))
        assert held
        assert all(0 < client.ttl(name) <= keys.IDEMPOTENCY_SECONDS for name in held)
        assert not any(b"of a day" in name for name in held)


def test_without_the_store_a_key_is_taken_and_counted(settings: Settings, tmp_path: Path) -> None:
    nowhere = f"redis://127.0.0.1:{services.free_port()}/0"
    cut_off = msgspec.structs.replace(settings, redis_url=nowhere, port=0)
    with serving(cut_off, tmp_path / "log") as server:
        key = {"Idempotency-Key": "k1"}
        names = {
            appended(server, server.ask("POST", EVENTS, PURCHASE, key).json).event_id
            for _ in range(2)
        }
        assert len(names) == 1
        assert metric(server, "freshet_idempotency_unchecked_total") == 2


def test_lines_alike_are_one_and_said(edge: Server) -> None:
    order = {**PURCHASE, "event_id": "order-1001"}
    lines = [{**order, "item_id": item, "value": 39.0} for item in ("lamp", "rug", "vase")]
    before = metric(edge, "freshet_events_duplicates_total")
    end = end_offset(edge.settings, "events")
    plain = edge.ask("POST", EVENTS, {"events": lines}).json
    assert (plain["accepted"], "duplicates" in plain) == (3, False)
    doubled = edge.ask("POST", EVENTS, {"events": [*lines, lines[0], lines[2]]}).json
    assert (doubled["accepted"], doubled["duplicates"], doubled["rejected"]) == (3, 2, [])
    assert end_offset(edge.settings, "events") == end + 6
    assert metric(edge, "freshet_events_duplicates_total") == before + 2


def test_events_of_items_that_are_not_there_are_said(edge: Server) -> None:
    before = metric(edge, "freshet_events_unknown_items_total")
    receipt = edge.ask("POST", EVENTS, {"events": [PURCHASE, {**PURCHASE, "item_id": "pan"}]}).json
    assert receipt["unknown_items"] == 2
    assert metric(edge, "freshet_events_unknown_items_total") == before + 2


def test_the_source_is_what_the_request_shows(edge: Server) -> None:
    connection = edge.connect()
    shop = {
        "User-Agent": "Mozilla/5.0 (X11)",
        "Origin": f"http://{connection.host}:{connection.port}",
    }
    seen = appended(edge, edge.ask("POST", EVENTS, PURCHASE, shop).json).source
    assert seen == Source("Mozilla", "live", "browser")
    script = {"User-Agent": "python-requests/2.31.0"}
    past = {**PURCHASE, "occurred_at": "2025-01-01T00:00:00Z"}
    seen = appended(edge, edge.ask("POST", f"{EVENTS}?mode=import", past, script).json).source
    assert seen == Source("python-requests", "import", "server")
    assert appended(edge, edge.ask("POST", EVENTS, PURCHASE).json).source is None


def test_the_answer_repeats_the_id_that_was_asked_for(edge: Server) -> None:
    for asked in ("cafe\u0301", " caf\u00e9"):
        path = "/v1/recommendations"
        answer = edge.ask("POST", path, {"user_id": asked}).json
        assert answer["user_id"] == asked
    answer = edge.ask("POST", path, {"user_id": " null"})
    assert (answer.status, answer.errors) == (422, [("user_id", "not_an_id")])
    rows = {"requests": [{"user_id": "kim"}, {"anonymous_id": "undefined"}]}
    answer = edge.ask("POST", path, rows)
    assert answer.errors == [("requests[1].anonymous_id", "not_an_id")]


def test_settings_name_words_and_the_scale(settings: Settings, tmp_path: Path) -> None:
    own = msgspec.structs.replace(settings, not_ids="0, Guest", rating_scale="0,100,60", port=0)
    with serving(own, tmp_path / "log") as server:
        for word in ("0", "guest", "null"):
            answer = server.ask("POST", EVENTS, {**PURCHASE, "user_id": word})
            assert answer.errors == [("user_id", "not_an_id")]
        rate = {**PURCHASE, "action": "rate", "value": 55}
        assert appended(server, server.ask("POST", EVENTS, rate).json).negative
