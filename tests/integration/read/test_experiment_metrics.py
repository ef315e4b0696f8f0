"""GET /v1/experiments/{id}/metrics through real HTTP, over what the roll-up publishes."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from flows.rollup.tables import Rollup
from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from models.experiments.metrics import METRICS
from schemas import times
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.state.fences import Fence
from schemas.state.tables import META_DECODER
from tests.support.http import Answer, Server, serving
from tests.support.loop import AB, NONE, STARTED, TWO_PEOPLE, append, entry, put_experiment

PATH = "/v1/experiments/e/metrics"


class Shop(NamedTuple):
    server: Server
    redis: Client
    rollup: Rollup

    def get(self, path: str = PATH) -> Answer:
        return self.server.ask("GET", path)

    def read(self, path: str = PATH) -> Any:
        answer = self.get(path)
        assert answer.status == 200, answer.body
        return answer.json

    def folded(self, offset: int) -> None:
        """The fence of partition 1, as `people` commits it."""
        fence = fences.encode(Fence("topic", 4, offset, STARTED, 1, STARTED))
        self.redis.set(PLAIN.fence("people", 1), fence)

    def publish(self) -> None:
        """Publishes the tables and returns once the server follows them."""
        self.rollup.read()
        self.rollup.publish()
        version = self.rollup.version
        self.until(lambda: self.server.ask("GET", "/v1/status").json["tables_version"] == version)

    def until(self, condition: Any) -> None:
        services.wait_until(condition, 20, "the server does not hear of it")


@pytest.fixture(scope="module")
def shop(redis_url: str, broker: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Shop]:
    """An experiment in which one person clicked and bought, and another did not."""
    home = tmp_path_factory.mktemp("shop")
    settings = Settings(kafka_bootstrap=broker, redis_url=redis_url, data_dir=home / "data", port=0)
    with redis_client.connect(settings) as client:
        kafka_client.ensure_topics(settings)
        put_experiment(client)
        append(client, 1, *TWO_PEOPLE)
        with serving(settings, Path(home / "log")) as server:
            made = Shop(server, client, Rollup(client, settings))
            made.folded(4)
            made.publish()
            made.until(lambda: made.get().status == 200)
            yield made


def test_a_running_experiment_has_its_metrics(shop: Shop) -> None:
    readout = shop.read()
    assert {name: readout[name] for name in ("experiment_id", "version", "status", "unit")} == {
        "experiment_id": "e",
        "version": 1,
        "status": "running",
        "unit": "user",
    }
    assert readout["started_at"] == times.render(STARTED)
    a, b = readout["variants"]
    assert (a["variant"], a["share"], a["units"], b["units"]) == ("a", 0.5, 1, 1)
    assert a["metrics"]["ctr"] == {"value": 0.0, "ci": None, "numerator": 0, "denominator": 2}
    assert b["metrics"]["ctr"] == {"value": 0.5, "ci": None, "numerator": 1, "denominator": 2}
    assert b["metrics"]["conversion"]["value"] == 1.0
    assert [it["metric"] for it in readout["comparisons"]] == [metric.name for metric in METRICS]
    assert readout["comparisons"][0]["always_valid"] is False
    assert "decision" not in readout["comparisons"][0], "nothing decides yet"


def test_a_readout_says_how_late_it_is(shop: Shop) -> None:
    meta = META_DECODER.decode(shop.redis.get(PLAIN.tables().meta))
    shop.folded(4)
    readout = shop.read()
    assert readout["lag_ms"] == 0, "the tables lack nothing"
    assert readout["as_of"] == times.render(meta.published_at)
    assert (readout["revision"], readout["positions"]) == (meta.version, [0, 4, 0, 0])
    shop.folded(5)
    assert shop.read()["lag_ms"] > 0
    shop.folded(4)


def test_an_empty_metric_is_not_said(shop: Shop) -> None:
    def metrics(query: str) -> list[list[str]]:
        return [list(it["metrics"]) for it in shop.read(f"{PATH}{query}")["variants"]]

    assert metrics("?metric=") == metrics("")


def test_one_metric_is_selected_by_name(shop: Shop) -> None:
    readout = shop.read(f"{PATH}?metric=ctr")
    assert [list(it["metrics"]) for it in readout["variants"]] == [["ctr"], ["ctr"]]
    assert [it["metric"] for it in readout["comparisons"]] == ["ctr"]


@pytest.mark.parametrize(
    ("query", "field", "code"),
    [
        ("metric=revenue", "metric", "unknown_value"),
        ("version=2", "version", "unknown_value"),
        ("version=0", "version", "unknown_value"),
        ("version=99999999999999999999", "version", "unknown_value"),
        ("version=one", "version", "wrong_type"),
        ("version=-1", "version", "wrong_type"),
        ("version=%D9%A1", "version", "wrong_type"),
        ("version=1&version=1", "version", "repeated"),
        ("variant=a", "variant", "unknown_field"),
    ],
)
def test_what_is_asked_wrongly(shop: Shop, query: str, field: str, code: str) -> None:
    answer = shop.get(f"{PATH}?{query}")
    assert (answer.status, answer.errors) == (422, [(field, code)])


def test_an_unknown_experiment_is_not_found(shop: Shop) -> None:
    answer = shop.get("/v1/experiments/nope/metrics")
    assert (answer.status, answer.json["code"]) == (404, "unknown_experiment")
    assert "nope" not in answer.body.decode()


def test_a_paused_experiment_keeps_its_last_readout_and_a_new_version_begins_anew(
    shop: Shop,
) -> None:
    put_experiment(shop.redis, msgspec.structs.replace(AB, running=False), version=2)
    shop.until(lambda: shop.read()["status"] == "paused")
    readout = shop.read()
    assert (readout["version"], readout["started_at"]) == (1, None)
    assert [it["units"] for it in readout["variants"]] == [1, 1]
    assert [it["units"] for it in shop.read(f"{PATH}?version=2")["variants"]] == [0, 0]
    put_experiment(shop.redis, version=3)
    shop.until(lambda: shop.read()["version"] == 3)
    assert shop.read()["comparisons"][0]["lift"] is None
    append(shop.redis, 1, entry(4, ["i1"], "served", person=("a", NONE, (1, 0, 0, 0)), version=3))
    shop.publish()
    assert [it["units"] for it in shop.read()["variants"]] == [1, 0]
    assert [it["units"] for it in shop.read(f"{PATH}?version=1")["variants"]] == [1, 1]
