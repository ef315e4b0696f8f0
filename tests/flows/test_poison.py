"""Nothing but poison in a partition: it is paused with an alarm, its siblings go on, and an operator
lets it go on."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import msgspec
import pytest

from flows.kit.run import run_flow
from flows.kit.source import Reader
from flows.people import dataflow
from infra.kafka import kafka_client
from infra.kafka.dead_letters import Letterbox
from infra.metrics import METRICS
from infra.settings import Settings
from infra.store import redis_client
from infra.store.paused import Paused, accept, paused
from schemas import events
from schemas.headers import FRAME
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.topics import EVENTS
from tests.flows.faults import POISON
from tests.laws.world import action, served
from tests.unit.infra.test_telemetry import samples

LIMIT = 50


@pytest.fixture
def strict(settings: Settings) -> Settings:
    return msgspec.structs.replace(settings, poison_limit=LIMIT, batch=20)


def send(settings: Settings, partition: int, values: Sequence[bytes | None]) -> None:
    producer = kafka_client.producer(settings)
    for value in values:
        producer.send(EVENTS.name, value=value, key=b"k", partition=partition)
    producer.flush()
    producer.close()


def good(*numbers: int) -> list[bytes]:
    return [events.encode(action(n)) for n in numbers]


def fold(settings: Settings, partitions: Sequence[int] = ()) -> dict[tuple[str, ...], float]:
    """Runs the flow until every partition is at its end or paused, and answers its metrics."""
    reader = Reader(settings, EVENTS.name, until_end=True)
    worker = dataflow.People(settings, partitions, reader)
    try:
        run_flow(dataflow.dataflow(worker))
        return samples(worker.metrics.process.render())
    finally:
        worker.close()


def fence_offsets(settings: Settings) -> dict[int, int]:
    with redis_client.connect(settings) as client:
        held = {p: client.get(PLAIN.fence("people", p)) for p in range(settings.partitions)}
    return {p: fences.decode(it).offset for p, it in held.items() if it}


def paused_partitions(settings: Settings) -> list[Paused]:
    with redis_client.connect(settings) as client:
        return paused(client, settings)


def letters(settings: Settings) -> int:
    box = Letterbox(settings)
    box.close()
    return len(box.letters)


def test_the_limit_is_ten_thousand_or_as_set() -> None:
    assert Settings().poison_limit == 10_000
    assert METRICS["freshet_flow_paused"].labels == ("flow", "partition")


def test_records_of_frames_are_counted_one_by_one(strict: Settings) -> None:
    bad, fine = b'{"kind":"served"}', events.encode(served("s1"))
    frames = {
        0: [[fine, *[bad] * 30], [bad] * 31],
        1: [[bad] * 30, [*[bad] * 15, fine, *[bad] * 10]],
    }
    producer = kafka_client.producer(strict)
    for partition, each in frames.items():
        for values in each:
            headers = [*EVENTS.headers, (FRAME, b"%d" % len(values))]
            producer.send(EVENTS.name, b"[%b]" % b",".join(values), b"", headers, partition)
        producer.flush()
        fold(strict)
    producer.close()
    (stopped,) = paused_partitions(strict)
    assert (stopped.partition, stopped.stands, stopped.row) == (0, 2, 61)
    assert letters(strict) == 61 + 30 + 25


def test_a_run_of_poison_pauses_its_partition_and_no_other(
    strict: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    send(strict, 0, [*good(1), *[POISON] * 120, *good(2)])
    send(strict, 1, good(*range(10, 200)))
    with caplog.at_level(logging.ERROR):
        metrics = fold(strict)
    (stopped,) = paused_partitions(strict)
    assert (stopped.topic, stopped.flow, stopped.partition) == ("events", "people", 0)
    # at the end of the batch in which the limit was reached
    assert LIMIT <= stopped.row < LIMIT + strict.batch
    assert stopped.stands == fence_offsets(strict)[0] == 1 + stopped.row
    assert fence_offsets(strict)[1] == 190
    assert metrics[("freshet_flow_paused", "people", "0")] == 1
    assert metrics[("freshet_flow_paused", "people", "1")] == 0
    (line,) = [it for it in caplog.messages if "PAUSED" in it]
    assert "freshet dead-letters resume events 0" in line

    fold(strict)
    assert paused_partitions(strict) == [stopped], "a restart changes nothing"

    with redis_client.connect(strict) as client:
        accept(client, PLAIN, "events", 0, 122)
    assert paused_partitions(strict) == []
    metrics = fold(strict)
    assert (fence_offsets(strict)[0], paused_partitions(strict)) == (122, [])
    assert metrics[("freshet_flow_paused", "people", "0")] == 0
    assert letters(strict) == 120


def test_the_count_survives_restarts_and_a_good_record_resets_it(strict: Settings) -> None:
    send(strict, 0, [POISON] * 30)
    fold(strict, [0])
    send(strict, 0, [None] * 15 + good(1) + [POISON] * 10)
    fold(strict, [0])
    assert (paused_partitions(strict), fence_offsets(strict)[0]) == ([], 56)
    send(strict, 0, [POISON] * 39)
    fold(strict, [0])
    assert paused_partitions(strict) == []
    send(strict, 0, [POISON])
    fold(strict, [0])
    assert paused_partitions(strict) == [Paused("events", "people", 0, LIMIT, 96)]


def test_poison_beyond_what_was_accepted_is_counted_from_zero(strict: Settings) -> None:
    send(strict, 2, [POISON] * 60)
    fold(strict, [2])
    with redis_client.connect(strict) as client:
        accept(client, PLAIN, "events", 2, 60)
    send(strict, 2, [POISON] * (LIMIT - 1))
    fold(strict, [2])
    assert (paused_partitions(strict), fence_offsets(strict)[2]) == ([], 109)
    send(strict, 2, [POISON] * 40)
    fold(strict, [2])
    (stopped,) = paused_partitions(strict)
    assert stopped.stands < 149


def test_a_running_flow_goes_on_once_its_poison_is_accepted(strict: Settings) -> None:
    """The same worker resumes: it looks for the operator's decision between its polls."""
    send(strict, 0, [POISON] * 60 + good(1))
    reader = Reader(strict, EVENTS.name)
    worker = dataflow.People(strict, [0], reader)
    before = reader.before_poll
    seen: list[list[Paused]] = []

    def between() -> None:
        now = paused_partitions(strict)
        if now and not seen:
            seen.append(now)
            with redis_client.connect(strict) as client:
                accept(client, PLAIN, "events", 0, 61)
        before()
        if fence_offsets(strict).get(0) == 61:
            reader.stop.set()

    reader.before_poll = between
    try:
        run_flow(dataflow.dataflow(worker))
    finally:
        worker.close()
    assert len(seen) == 1
    assert fence_offsets(strict)[0] == 61
