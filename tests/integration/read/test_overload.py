"""What is asked beyond what can be done gets the popular list at once: no slate, no record, and counted."""

from __future__ import annotations

import asyncio
import re
import signal
import threading
from collections import Counter
from collections.abc import Coroutine, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import httpx
import msgspec
import pytest

from infra.local import services
from models.experiments.assignment import assign
from schemas.alphabet import Pseudonym
from schemas.control import Experiment, Filter, Recipe, Variant
from serving.app import create
from serving.context import Serving
from tests.support.http import JSON, Server, ask, metric, serving
from tests.support.loop import put_experiment
from tests.support.shops import ITEMS, Shop, logged, opened

T = TypeVar("T")
AB = Experiment(
    placement="home", variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5))
)
RECIPE = Recipe(filters={"dramas": Filter(categories=("c1",))})
FLOOD = 64
WITHOUT_A_SLATE: dict[str, Any] = {
    "slate_id": None,
    "next_cursor": None,
    "exhausted": True,
    "fallback": "overload",
    "rules_relaxed": [],
    "freshness": None,
}


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    with opened(redis_url, broker, tmp_path_factory.mktemp("shop")) as found:
        put_experiment(found.redis, AB)
        found.control("placement:shelf", RECIPE)
        found.until("/v1/placements", lambda body: "shelf" in str(body))
        yield found


class Loaded:
    """A serving process's app in this one, over the shop's state; its loop runs in a thread."""

    def __init__(self, context: Serving, client: httpx.AsyncClient) -> None:
        self.serving, self._client = context, client
        self._loop = asyncio.get_running_loop()

    def ask(self, method: str, path: str, body: Any = None) -> httpx.Response:
        content = None if body is None else msgspec.json.encode(body)
        return self.run(self._client.request(method, path, content=content, headers=JSON))

    def run(self, asked: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(asked, self._loop).result(30)

    def read(self, query: str) -> Any:
        answer = self.ask("GET", f"/v1/recommendations?{query}")
        assert answer.status_code == 200, answer.text
        return answer.json()

    @contextmanager
    def overloaded(self) -> Iterator[None]:
        """Meanwhile as many reads are taken as cannot be done."""
        with self.serving.queue.reserved(10**6):
            yield

    def counted(self, name: str, **labels: str) -> float:
        found = self.serving.metrics.process_metrics.registry.get_sample_value(name, labels)
        return found or 0.0


@pytest.fixture(scope="module")
def loaded(shop: Shop, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Loaded]:
    home = tmp_path_factory.mktemp("loaded")
    settings = msgspec.structs.replace(shop.server.settings, data_dir=home)
    # the pseudonyms of both are made with one key
    (home / "pseudonym.key").write_bytes(
        (shop.server.settings.data_dir / "pseudonym.key").read_bytes()
    )
    made: list[Loaded] = []
    there, over = threading.Event(), threading.Event()

    async def run() -> None:
        async with Serving.open(settings) as context:
            app = create(settings)
            app.state.serving = context
            transport = httpx.ASGITransport(app=app)
            async with httpx.AsyncClient(
                transport=transport, base_url="http://localhost"
            ) as client:
                made.append(Loaded(context, client))
                while context.tables.meta.version != 1 or context.catalogue.count != len(ITEMS):
                    await asyncio.sleep(0.01)
                there.set()
                await asyncio.to_thread(over.wait)

    thread = threading.Thread(target=asyncio.run, args=(run(),))
    thread.start()
    try:
        assert there.wait(30)
        yield made[0]
    finally:
        over.set()
        thread.join()


def test_a_read_that_is_shed_is_the_popular_list_without_a_slate(loaded: Loaded) -> None:
    full = loaded.ask("GET", "/v1/popular?count=7").json()
    logged_before = loaded.counted("freshet_slates_total")
    with loaded.overloaded():
        answer = loaded.ask("GET", "/v1/recommendations?user_id=u1&count=7&explain=full")
    body = answer.json()
    assert body.items() >= WITHOUT_A_SLATE.items()
    assert (body["user_id"], body["placement"]) == ("u1", "home")
    assert body["items"] == full["items"]
    assert body["served_by"]["experiments"] == []
    assert "x-slate-id" not in answer.headers
    assert "x-experiments" not in answer.headers
    assert answer.headers["cache-control"] == "private, no-store"
    assert loaded.counted("freshet_slates_total") == logged_before
    assert loaded.read("user_id=u1&count=7")["fallback"] != "overload", "it is over"


def test_the_list_is_of_the_category_and_a_guest_keeps_their_id(loaded: Loaded) -> None:
    with loaded.overloaded():
        body = loaded.read("anonymous_id=g1&category=c1&count=5")
        longest = loaded.read("anonymous_id=g1&count=100")
    assert body["anonymous_id"] == "g1"
    assert "user_id" not in body or body["user_id"] is None
    assert len(body["items"]) == 5
    assert {it["category"] for it in body["items"]} == {"c1"}
    assert [it["rank"] for it in longest["items"]] == [*range(1, 101)]


def test_what_is_wrong_is_refused_under_load_too(loaded: Loaded) -> None:
    where = loaded.serving.people.user("u1").partition
    wrong = {
        "user_id=u1&count=0": ("count", "out_of_range"),
        "user_id=u1&nope=1": ("nope", "unknown_field"),
        "user_id=u1&placement=nope": ("placement", "unknown_placement"),
        "user_id=u1&placement=shelf&filter=nope": ("filter", "unknown_filter"),
        f"user_id=u1&after={(where + 1) % 4}:1": ("after", "wrong_partition"),
        "count=3": ("user_id", "required"),
    }
    with loaded.overloaded():
        for query, wanted in wrong.items():
            answer = loaded.ask("GET", f"/v1/recommendations?{query}")
            [error] = answer.json()["errors"]
            assert (answer.status_code, error["field"], error["code"]) == (422, *wanted)
        assert loaded.read("user_id=u1&placement=shelf&filter=dramas")["fallback"] == "overload"
        before = loaded.counted("freshet_shed_total", experiment="none", variant="none")
        rows = [{"placement": "shelf"}, {"placement": "nope"}]
        answer = loaded.ask("POST", "/v1/recommendations", {"user_id": "u1", "requests": rows})
        assert [it["field"] for it in answer.json()["errors"]] == ["requests[1].placement"]
        after = loaded.counted("freshet_shed_total", experiment="none", variant="none")
        assert after == before, "no row of it was answered"


def test_a_page_is_shed_whole_and_its_rows_repeat_nothing(loaded: Loaded) -> None:
    rows = [{"count": 4}, {"category": "c1", "count": 4}, {"count": 4}]
    with loaded.overloaded():
        page = {"user_id": "u1", "distinct": True, "requests": rows}
        answer = loaded.ask("POST", "/v1/recommendations", page)
        single = loaded.ask("POST", "/v1/recommendations", {"user_id": "u1", "count": 4})
    assert "x-slate-id" not in answer.headers
    found = answer.json()["rows"]
    assert [it["slate_id"] for it in found] == [None] * 3
    assert [[item["rank"] for item in it["items"]] for it in found] == [[1, 2, 3, 4]] * 3
    ids = [item["item_id"] for it in found for item in it["items"]]
    assert len({*ids}) == 12
    assert single.json()["items"] == found[0]["items"]


def test_similar_is_shed_and_popular_is_not(loaded: Loaded) -> None:
    with loaded.overloaded():
        body = loaded.ask("GET", "/v1/items/i1/similar?count=3").json()
        popular = loaded.ask("GET", "/v1/popular?count=3")
    assert body.items() >= WITHOUT_A_SLATE.items()
    assert (body["placement"], len(body["items"])) == ("similar", 3)
    assert popular.json()["fallback"] is None
    assert popular.headers["x-slate-id"]


def test_without_a_popular_list_there_is_a_503_that_says_when_to_ask_again(loaded: Loaded) -> None:
    with loaded.overloaded():
        answer = loaded.ask("GET", "/v1/recommendations?user_id=u1&category=nobody")
    assert (answer.status_code, answer.json()["code"]) == (503, "overloaded")
    assert answer.headers["retry-after"] == "1"


def test_experiments_count_what_was_shed_of_each_variant(loaded: Loaded, shop: Shop) -> None:
    names = [f"p{n}" for n in range(40)]
    wanted = Counter(
        variant.name
        for name in names
        if (variant := assign("e", AB, Pseudonym(shop.where(name)[0]))) is not None
    )
    loaded.run(loaded.serving.shed.write())  # what other tests shed
    before = shop.get("/v1/experiments/e/metrics").json["degraded"]
    with loaded.overloaded():
        for name in names:
            assert loaded.read(f"user_id={name}")["fallback"] == "overload"
    assert len(wanted) == 2
    total = Counter({name: before[name] + n for name, n in wanted.items()})
    # the other process says it: the sums are those of all
    body = shop.until("/v1/experiments/e/metrics", lambda body: body["degraded"] == dict(total))
    assert all(it["counts"]["served"] == 0 for it in body["variants"])
    for name in ("a", "b"):
        assert loaded.counted("freshet_shed_total", experiment="e", variant=name) >= wanted[name]


def test_a_flood_is_shed_by_a_real_server_and_what_is_taken_is_logged(
    shop: Shop, tmp_path: Path
) -> None:
    """All requests are on the wire before the server looks: their reads come in one turn of its loop."""
    settings = msgspec.structs.replace(
        shop.server.settings, data_dir=tmp_path / "data", shed_ms=0.01
    )
    with serving(settings, tmp_path / "log") as server, ExitStack() as stack:
        services.wait_until(
            lambda: server.ask("GET", "/v1/status").json["tables_version"] == 1, 20, "no tables"
        )
        bodies = flood(server, stack)
        fallbacks = Counter(body["fallback"] for body in bodies)
        assert set(fallbacks) <= {None, "popular", "content", "overload"}
        assert 0 < fallbacks["overload"] < FLOOD
        taken = [body for body in bodies if body["fallback"] != "overload"]
        assert all(body["slate_id"] for body in taken)
        counted = server.ask("GET", "/metrics").body.decode()
        [shed] = re.findall(
            r'answers_total\{fallback="overload",placement="shelf"\} (\S+)', counted
        )
        assert float(shed) == fallbacks["overload"]
        services.wait_until(
            lambda: metric(server, "freshet_slates_total") == len(taken),
            20,
            "other slates are logged",
        )
        assert metric(server, "freshet_queued_reads") == 0
        assert logged(settings, taken[0]["slate_id"])[0].placement == "shelf"


def flood(server: Server, stack: ExitStack) -> list[Any]:
    """The answers to `FLOOD` reads of as many connections, which the server receives at once."""
    connections = [server.connect() for _ in range(FLOOD)]
    for connection in connections:
        stack.callback(connection.close)
        assert ask(connection, "GET", "/health/live").status == 200
    server.process.send_signal(signal.SIGSTOP)
    for n, connection in enumerate(connections):
        connection.request("GET", f"/v1/recommendations?user_id=p{n}&placement=shelf")
    server.process.send_signal(signal.SIGCONT)
    return [msgspec.json.decode(it.getresponse().read()) for it in connections]
