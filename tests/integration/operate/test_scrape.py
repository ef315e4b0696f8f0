"""A scrape of real processes: the metrics of the dashboard are there, and count the work."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from flows.kit.commit import Fenced
from flows.people.dataflow import People
from flows.people.steps import decode
from infra.apps.inspect.scrape import Samples, scrape, total
from infra.kafka import kafka_client
from infra.local import services
from infra.local.plan import child_environment
from infra.metrics import TABLE
from infra.settings import Settings
from schemas import events
from schemas.alphabet import Pseudonym
from schemas.identity import partition_of
from schemas.topics import EVENTS
from tests.support.http import serving
from tests.support.started import Started, start

ANN = Pseudonym("a" * 32)


def own_port(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, metrics_port=services.free_port(), port=0)


def scraped(settings: Settings) -> Samples:
    return scrape("127.0.0.1", settings.metrics_port)


def value(samples: Samples, name: str, **labels: str) -> float:
    return samples.get(name, {}).get(tuple(sorted(labels.items())), 0.0)


@contextmanager
def flow(settings: Settings, name: str, log: Path) -> Iterator[Started]:
    environment = child_environment(settings)
    process = start("infra.cli", "flows", "run", name, environment=environment, log=log)
    try:
        services.wait_until(
            lambda: process.poll() is not None or bool(scraped(settings)), 30, f"{name} is silent"
        )
        assert process.poll() is None, log.read_text()
        yield process
        process.terminate()
        assert process.wait(15) == 0, log.read_text()
    finally:
        process.kill()
        process.wait()


def append(settings: Settings, *values: bytes) -> int:
    """Appends records of Ann and answers her partition."""
    partition = partition_of(ANN.encode(), settings.partitions)
    producer = kafka_client.producer(settings)
    for one in values:
        producer.send(EVENTS.name, key=ANN.encode(), value=one, partition=partition).get(10)
    producer.close()
    return partition


def exported(settings: Settings, package: str) -> None:
    """Asserts that each metric of the table is exported; one without labels starts at 0."""
    samples = scraped(settings)
    for it in TABLE:
        name = f"{it.name}_count" if it.kind == "histogram" else it.name
        if it.exporter == package and not it.labels:
            assert name in samples, name
        assert it.exporter == package or name not in samples


def test_people_exports_its_batches_its_fold_and_its_offset(
    settings: Settings, tmp_path: Path
) -> None:
    settings = own_port(settings)
    made: list[events.Event] = [
        events.Served(
            person=ANN, slate_id="s1", placement="home", received_at=1000, items=("i1", "i2")
        ),
        events.Action(
            event_id="e1",
            person=ANN,
            item_id="i2",
            action="click",
            occurred_at=2000,
            received_at=2000,
            slate_id="s1",
        ),
    ]
    partition = append(settings, *[events.encode(it) for it in made], b"{")
    with flow(settings, "people", tmp_path / "log"):
        services.wait_until(
            lambda: value(scraped(settings), "freshet_flow_records_total", flow="people") == 3,
            30,
            "the records are not folded",
        )
        exported(settings, "flows")
        samples = scraped(settings)
        here = {"flow": "people", "partition": str(partition)}
        assert value(samples, "freshet_flow_offset", **here) == 3
        assert value(samples, "freshet_flow_lag", **here) == 0
        assert value(samples, "freshet_flow_batch_records_sum", flow="people") == 3
        assert value(samples, "freshet_flow_commit_seconds_sum", flow="people") > 0
        assert value(samples, "freshet_flow_fresh_seconds_count", flow="people") >= 1
        assert total(samples, "freshet_flow_dead_letters_total") == 1
        assert total(samples, "freshet_flow_fenced_total") == 0
        # these words are in the dashboard
        for what, n in (("served_items", 2), ("attributed:clicked", 1)):
            assert value(samples, "freshet_fold_counts_total", flow="people", what=what) == n
    assert not services.port_answers(settings.metrics_port)


def test_lag_is_what_the_log_holds_beyond_the_fence(settings: Settings) -> None:
    """Before the first batch and while the flow hangs, too: the lag is read from the broker."""
    action = events.Action(
        event_id="e1", person=ANN, item_id="i1", action="click", occurred_at=1, received_at=1
    )
    partition = append(settings, *[events.encode(action)] * 5)
    settings = msgspec.structs.replace(own_port(settings), batch=2)
    worker = People(settings)
    try:
        here = {"flow": "people", "partition": str(partition)}
        assert value(scraped(settings), "freshet_flow_lag", **here) == 5
        while not (batches := worker.reader.next()):
            pass
        (batch,) = batches
        assert len(batch.offsets) == 2
        append(settings, events.encode(action))
        services.wait_until(
            lambda: value(scraped(settings), "freshet_flow_lag", **here) == 6, 10, "it is frozen"
        )
        assert value(scraped(settings), "freshet_flow_seen_timestamp_seconds", flow="people") > 1e9
    finally:
        worker.close()


def test_a_worker_that_is_fenced_says_so_in_its_next_life(settings: Settings) -> None:
    action = events.Action(
        event_id="e1", person=ANN, item_id="i1", action="click", occurred_at=1, received_at=1
    )
    partition = append(settings, events.encode(action))
    settings = own_port(settings)
    worker = People(settings, [partition])
    try:
        while not (batches := worker.reader.next()):
            pass
        writes = worker.fold(worker.dedupe(decode(batches)[0]))
        worker.commit(writes)
        worker.commit(writes)
        assert isinstance(worker.out.error(partition), Fenced)
        here = {"flow": "people", "partition": str(partition)}
        assert value(scraped(settings), "freshet_flow_fenced_total", flow="people") == 1
        assert value(scraped(settings), "freshet_flow_out", **here) == 1
    finally:
        worker.close()
    again = People(settings, [partition])
    try:
        assert value(scraped(settings), "freshet_flow_fenced_total", flow="people") == 1
    finally:
        again.close()


@pytest.mark.parametrize("name", ["rollup", "relay"])
def test_the_flows_behind_people_export_when_they_last_looked(
    name: str, settings: Settings, tmp_path: Path
) -> None:
    settings = own_port(settings)
    with flow(settings, name, tmp_path / "log"):
        services.wait_until(
            lambda: "freshet_flow_seen_timestamp_seconds" in scraped(settings), 30, "it never looks"
        )
        exported(settings, "flows")
        if name == "rollup":
            services.wait_until(
                lambda: len(scraped(settings).get("freshet_rollup_rows", ())) == 6, 30, "no tables"
            )


def test_a_serving_worker_exports_the_same_on_its_port_and_under_metrics(
    settings: Settings, tmp_path: Path
) -> None:
    settings = own_port(settings)
    with serving(settings, tmp_path / "log") as server:
        assert server.ask("PUT", "/v1/items/i1", {"title": "A film"}).status == 202
        assert server.ask("GET", "/v1/recommendations?user_id=ann").status == 200
        assert server.ask("GET", "/v1/popular").status == 200
        assert server.ask("POST", "/v1/events", {"user_id": "ann"}).status == 422
        exported(settings, "serving")
        samples = scraped(settings)
        assert value(samples, "freshet_requests_total", route="/v1/popular", status="200") == 1
        assert (
            value(samples, "freshet_requests_total", route="/v1/items/{item_id}", status="202") == 1
        )
        assert total(samples, "freshet_request_bytes_total") > 20
        assert total(samples, "freshet_answers_total") == 2
        assert total(samples, "freshet_read_seconds_count") == 2
        stages = {dict(labels)["stage"] for labels in samples["freshet_stage_seconds_count"]}
        assert stages >= {"read", "retrieve", "eligible", "score", "arrange", "explain", "answer"}
        under = server.ask("GET", "/metrics").body.decode()
        assert 'freshet_answers_total{fallback="' in under
        assert server.stop() == 0
    assert not services.port_answers(settings.metrics_port)
