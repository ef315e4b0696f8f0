"""The read side through real HTTP, over state in Redis as the flows write it."""

from __future__ import annotations

import signal
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings, signing_key
from infra.store import redis_client
from schemas import control
from schemas.actions import CODE
from schemas.identity import anonymous, item_hash, partition_of, pseudonym
from schemas.items import Item
from schemas.keys import PLAIN
from schemas.state import tables
from serving.read.ulid import ulid
from tests.support.http import serving
from tests.support.shops import Shop, fill, logged, opened
from tests.support.worlds import NOW

pytestmark = pytest.mark.on_cluster


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    home = tmp_path_factory.mktemp("shop")
    with opened(redis_url, broker, home) as found:
        yield found


def test_an_answer_has_every_field(shop: Shop) -> None:
    answer = shop.get("/v1/recommendations?user_id=u1&count=5")
    body = answer.json
    _, partition = shop.where("u1")
    assert len(body["items"]) == 5
    assert [item["rank"] for item in body["items"]] == [1, 2, 3, 4, 5]
    assert (body["user_id"], body["placement"], body["fallback"]) == ("u1", "home", None)
    assert (body["rules_relaxed"], body["exhausted"]) == ([], False)
    assert body["freshness"] == {
        "last_event_at": "2023-11-14T22:13:20.000Z",
        "applied_at": "2023-11-14T22:13:20.019Z",
        "position": f"{partition}:9",
        "lag_ms": 19,
        "waited_ms": 0,
        "stale": False,
        "merge_pending": False,
    }
    assert body["served_by"]["tables"] == "1.1.1.1"
    assert body["served_by"]["rules"] == "r0"
    assert body["served_by"]["experiments"] == []
    assert body["took_ms"] > 0
    assert answer.headers["x-slate-id"] == body["slate_id"]
    assert len(body["slate_id"]) == 26
    assert answer.headers["cache-control"] == "private, no-store"
    stages = [stage.partition(";dur=")[0] for stage in answer.headers["server-timing"].split(", ")]
    assert stages[:6] == ["read", "queue", "assign", "retrieve", "eligible", "score"]
    assert all(item["reason"]["text"] for item in body["items"])
    # the last slot may have been drawn
    assert [item["explore"] for item in body["items"][:-1]] == [False] * 4


def test_explain_none_and_full_change_the_detail(shop: Shop) -> None:
    assert "reason" not in shop.read("user_id=u1&explain=none")["items"][0]
    item = shop.read("user_id=u1&explain=full")["items"][0]
    effects = [contribution["effect"] for contribution in item["explain"]["contributions"]]
    assert abs(sum(effects) - item["score"]) < 1e-5
    assert item["explain"]["sources"]
    assert item["explain"]["probability"] == 1
    last = shop.read("user_id=u1&explain=full")["items"][-1]
    assert 0 < last["explain"]["probability"] < 1
    assert "explain" not in shop.read("user_id=u1")["items"][0]


def test_a_new_person_gets_the_popular(shop: Shop) -> None:
    body = shop.read("anonymous_id=a1")
    assert (body["fallback"], len(body["items"]), body["anonymous_id"]) == ("popular", 10, "a1")
    assert body["freshness"]["last_event_at"] is None
    key = signing_key(shop.server.settings)
    assert anonymous(*key, "u1") != pseudonym(*key, "u1")
    assert shop.read("anonymous_id=u1")["fallback"] == "popular"


def test_pages_repeat_nothing(shop: Shop) -> None:
    shown: list[str] = []
    cursor = ""
    for _ in range(5):
        page = shop.read(f"user_id=u1&count=20{cursor}")
        shown += [item["item_id"] for item in page["items"]]
        cursor = f"&cursor={page['next_cursor']}"
    assert len(shown) == len(set(shown)) == 100


def test_a_read_waits_for_its_position(shop: Shop) -> None:
    name, partition = shop.where("waiting")
    shop.fill_log(partition, 60)
    shop.fold(name, partition, [("i3", CODE["view"])], 50)
    query = f"user_id=waiting&after={partition}:50&max_wait_ms=5000"
    with ThreadPoolExecutor(1) as pool:
        answer = pool.submit(shop.read, query)
        stale = shop.read(f"user_id=waiting&after={partition}:50&max_wait_ms=20")
        assert stale["freshness"]["stale"]
        assert stale["freshness"]["waited_ms"] >= 20
        assert stale["freshness"]["position"] == f"{partition}:49"
        shop.fold(name, partition, [("i3", CODE["view"]), ("i4", CODE["like"])], 51)
        body = answer.result(10)
    assert body["freshness"]["position"] == f"{partition}:50"
    assert not body["freshness"]["stale"]
    assert any(item["reason"]["item_ids"] == ["i4"] for item in body["items"])
    at_once = shop.read(f"user_id=waiting&after={partition}:3")["freshness"]
    assert (at_once["waited_ms"], at_once["stale"]) == (0, False)
    shop.fold(*shop.where("u1"), [("i1", CODE["view"]), ("i2", CODE["like"])], 10)


def test_a_position_of_another_partition_is_refused(shop: Shop) -> None:
    _, partition = shop.where("u1")
    answer = shop.get(f"/v1/recommendations?user_id=u1&after={(partition + 1) % 4}:1")
    assert (answer.status, answer.errors) == (422, [("after", "wrong_partition")])


def test_filters_and_exclusions_hold(shop: Shop) -> None:
    first = shop.read("user_id=u1&count=3")["items"]
    names = [item["item_id"] for item in first]
    without = shop.read(f"user_id=u1&count=10&exclude={names[0]}&exclude={names[1]}")["items"]
    assert not {names[0], names[1]} & {item["item_id"] for item in without}
    body = shop.read("user_id=u1&category=c1")
    assert {item["category"] for item in body["items"]} == {"c1"}
    assert body["rules_relaxed"] == ["category_cap"]
    assert shop.read("user_id=u1&category=nowhere")["items"] == []


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("user_id=u1&count=0", "count", "out_of_range"),
        ("user_id=u1&count=1000000000", "count", "out_of_range"),
        ("user_id=u1&placement=nowhere", "placement", "unknown_placement"),
        ("user_id=u1&colour=red", "colour", "unknown_field"),
        ("count=5", "user_id", "required"),
    ],
)
def test_bad_input_is_refused_by_field(shop: Shop, query: str, field: str, code: str) -> None:
    answer = shop.get(f"/v1/recommendations?{query}")
    assert (answer.status, answer.errors) == (422, [(field, code)])


def test_popular_and_similar_are_answered(shop: Shop) -> None:
    body = shop.get("/v1/popular?window=7d&count=5&category=c2").json
    assert {item["category"] for item in body["items"]} == {"c2"}
    assert body["fallback"] is None
    scores = [item["score"] for item in body["items"]]
    assert scores == sorted(scores, reverse=True)
    body = shop.get("/v1/items/i5/similar?count=5").json
    assert len(body["items"]) == 5
    assert body["fallback"] is None
    assert all(item["reason"]["item_ids"] == ["i5"] for item in body["items"])
    body = shop.get("/v1/items/never%20heard%20of/similar?count=5").json
    assert len(body["items"]) == 5
    assert body["fallback"] == "popular"
    answer = shop.get("/v1/popular?window=1m")
    assert (answer.status, answer.errors) == (422, [("window", "unknown_value")])


def test_an_item_is_shown_as_it_is_stored(shop: Shop) -> None:
    body = shop.get("/v1/items/i5").json
    assert body["item_id"] == "i5"
    assert body["title"]
    assert body["indexed"] is True
    assert shop.get("/v1/items/nothing").status == 404


def test_catalogue_tables_and_recipes_are_followed(shop: Shop) -> None:
    shop.put(Item(item_id="fresh/one", category="new", title="brand new"), 1000)
    body = shop.until("/v1/popular?category=new", lambda body: body["items"])
    assert body["items"][0]["item_id"] == "fresh/one"
    assert shop.get("/v1/items/fresh/one").json["title"] == "brand new"

    row = np.full(len(tables.WINDOWS), 1e9).tobytes()
    shop.publish(2, {}, {item_hash("fresh/one"): row})
    first = lambda body: body["items"][0]["item_id"] == "fresh/one"  # noqa: E731
    assert shop.until("/v1/popular", first)["served_by"]["tables"] == "2.2.2.2"

    shop.control("placement:shelf", control.Recipe(weights={"popular": 1.0}), 3)
    path = "/v1/recommendations?user_id=u1&placement=shelf"
    body = shop.until(path, lambda body: "served_by" in body)
    assert body["served_by"]["rules"] == "r3"
    assert body["items"][0]["item_id"] == "fresh/one"

    p = partition_of(b"fresh/one", 4)
    shop.redis.hdel(PLAIN.items(p).decode(), "fresh/one")
    shop.redis.xadd(PLAIN.item_changes(p), {"i": "fresh/one", "v": ""}, id="1001-1")
    shop.until("/v1/popular?category=new", lambda body: not body["items"])


def test_one_variant_of_a_group_is_shown_in_every_list(shop: Shop) -> None:
    names = {f"shirt{n}" for n in range(4)}
    for n, name in enumerate(sorted(names)):
        shop.put(
            Item(item_id=name, group_id="shirt", category="wear", title="blue shirt"), 1100 + n
        )
    shop.put(Item(item_id="scarf", category="wear", title="blue scarf"), 1110)
    path = "/v1/popular?category=wear"
    body = shop.until(path, lambda body: "scarf" in {it["item_id"] for it in body["items"]})
    (first,) = [it["item_id"] for it in body["items"] if it["item_id"] in names]
    page = shop.get(f"{path}&count=1").json
    second = shop.get(f"{path}&count=1&cursor={page['next_cursor']}").json
    assert {it["item_id"] for body in (page, second) for it in body["items"]} == {first, "scarf"}
    assert second["exhausted"]
    similar = shop.get(f"/v1/items/{first}/similar").json
    assert not names & {it["item_id"] for it in similar["items"]}
    assert shop.get("/v1/items/shirt2").json["group_id"] == "shirt"

    row = {"user_id": "u1", "category": "wear", "explain": "full", "distinct": True}
    rows = shop.post({**row, "requests": [{"count": 1}, {"count": 1}, {}]}).json["rows"]
    (one, other) = [item for row in rows for item in row["items"]]
    assert {one["item_id"], other["item_id"]} == {first, "scarf"}
    (variants,) = [it["explain"]["variants"] for it in (one, other) if it["item_id"] == first]
    assert {*variants} == names - {first}
    for n, name in enumerate([*sorted(names), "scarf"]):
        p = partition_of(name.encode(), 4)
        shop.redis.hdel(PLAIN.items(p).decode(), name)
        shop.redis.xadd(PLAIN.item_changes(p), {"i": name, "v": ""}, id=f"{1120 + n}-1")
    shop.until(path, lambda body: not body["items"])


def test_a_store_that_was_emptied_and_filled_again_is_loaded_again(shop: Shop) -> None:
    shop.redis.delete(PLAIN.tables().changes, PLAIN.tables().popularity, PLAIN.tables().meta)
    shop.publish(1, {}, {item_hash("i9"): np.full(len(tables.WINDOWS), 5.0).tobytes()})
    body = shop.until("/v1/popular", lambda body: body["items"][0]["item_id"] == "i9")
    assert body["items"][1]["score"] == 0


def test_every_slate_is_in_the_log_and_what_a_person_was_served(shop: Shop) -> None:
    body = shop.read("user_id=u1&count=4&now=2023-11-15T00:00:00Z&session_id=s1")
    made, shown = logged(shop.server.settings, body["slate_id"])
    name, _ = shop.where("u1")
    assert (made.person, made.placement, made.tables) == (
        name,
        "home",
        body["served_by"]["tables"],
    )
    assert [item.item_id for item in made.items] == [item["item_id"] for item in body["items"]]
    assert all(item.sources for item in made.items)
    assert made.position == body["freshness"]["position"]
    assert made.seed
    assert made.now == 1_700_006_400_000
    assert abs(made.served_at - time.time_ns() // 1_000_000) < 60_000

    assert shown is not None
    assert (shown.person, shown.placement) == (name, "home")
    assert shown.received_at == made.served_at
    assert shown.items == tuple(item["item_id"] for item in body["items"])
    explored = [item.rank for item in made.items if item.explore]
    assert explored == ([shown.explored] if shown.explored else [])
    # home explores one slate in ten, in the last slot
    assert shown.probability == made.items[-1].probability < 1
    assert (shown.took_ms, shown.session_id) == (body["took_ms"], "s1")
    assert (shown.fallback, shown.release) == (
        body["fallback"] or "",
        body["served_by"]["release"],
    )
    assert len(shown.sources) == 4
    for source, item in zip(shown.sources, made.items, strict=True):
        assert source == ("explore" if item.explore else item.sources[0])
    assert shown.swapped == tuple(item.rank for item in made.items if item.swapped)
    # the draw may have swapped the last one, nothing the others
    assert {*shown.swapped} <= {4}
    assert (made.took_ms, made.session_id) == (shown.took_ms, "s1")
    assert all(item.probability == 1 for item in made.items[:-1])


def test_each_slate_has_a_seed_of_its_own(shop: Shop) -> None:
    slates = [shop.read("user_id=u1") for _ in range(3)]
    made = [logged(shop.server.settings, it["slate_id"])[0] for it in slates]
    assert len({it.seed for it in made}) == 3


def test_a_replay_and_a_list_without_a_person_serve_no_person(shop: Shop) -> None:
    paths = (
        "/v1/recommendations?user_id=u1&placement=replay",
        "/v1/popular",
        "/v1/items/i5/similar",
        "/v1/recommendations?user_id=u1&category=nowhere",
    )
    slate_ids = [shop.get(path).json["slate_id"] for path in paths]
    # a later batch follows those before it
    logged(shop.server.settings, slate_ids[-1], served=False)
    logged(shop.server.settings, shop.read("user_id=u1")["slate_id"])
    for slate_id in slate_ids:
        made, shown = logged(shop.server.settings, slate_id, served=False)
        assert made.seed
        assert shown is None


def test_without_its_store_it_answers_from_what_it_holds(broker: str, tmp_path: Path) -> None:
    port = services.free_port()
    (tmp_path / "redis").mkdir()
    process = subprocess.Popen(
        services.redis_command(port, tmp_path / "redis"), stdout=subprocess.DEVNULL
    )
    url = f"redis://{services.HOST}:{port}/0"
    settings = Settings(kafka_bootstrap=broker, redis_url=url, data_dir=tmp_path / "data", port=0)
    try:
        services.wait_until(lambda: services.redis_answers(url), 20, "Redis does not answer")
        kafka_client.ensure_topics(settings)
        with (
            serving(settings, tmp_path / "log") as server,
            redis_client.connect(settings) as client,
        ):
            shop = Shop(server, client)
            fill(shop)
            process.send_signal(signal.SIGSTOP)
            begun = time.monotonic()
            hung = shop.get("/v1/items/i1")
            assert (hung.status, hung.headers["retry-after"]) == (503, "1")
            assert time.monotonic() - begun < 5
            process.kill()
            process.wait(10)
            body = shop.until(
                "/v1/recommendations?user_id=u1", lambda body: body["fallback"] == "store_down"
            )
            assert len(body["items"]) == 10
            _, partition = shop.where("u1")
            assert shop.read(f"user_id=u1&after={partition}:1")["freshness"]["stale"]
            assert shop.get("/v1/items/i1").status == 503
            assert shop.get("/v1/status").json["stands"] is None
            # all instances have the fault at once, and answer: none must be taken out for it
            ready = shop.until(
                "/health/ready",
                lambda body: {"redis", "generation"} <= {it["part"] for it in body["degraded"]},
            )
            assert ready["ready"]
            assert not ready["parts"]["redis"]
            assert ready["parts"]["writes"]
    finally:
        process.kill()
        process.wait()


def test_a_ulid_sorts_by_time() -> None:
    assert ulid(1, b"\xff" * 10) < ulid(2, bytes(10))
    assert len(ulid(NOW, bytes(10))) == 26
