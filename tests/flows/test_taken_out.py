"""What befalls one partition of a worker takes out that partition: the others go on, and it comes back."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager

import pytest
from rich.console import Console

from flows.kit.resume import StateMismatch
from flows.kit.run import run_flow
from flows.kit.source import Reader
from flows.people import dataflow
from flows.people.batch import Decoded
from flows.people.dataflow import People
from flows.rebuild import in_place
from infra.kafka import kafka_client
from infra.metrics import METRICS
from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from infra.terminal.progress import SilentReporter
from schemas import events
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.state.write import StreamEntry, Write
from schemas.topics import EVENTS
from tests.flows.faults import wrong
from tests.laws.world import action
from tests.support.running import fold_people
from tests.unit.infra.test_telemetry import samples


@pytest.fixture
def client(settings: Settings) -> Iterator[Client]:
    with redis_client.connect(settings) as connected:
        yield connected


def send(settings: Settings, count: int, start: int = 0) -> None:
    """So many records to each partition, each of a person of its own there."""
    with closing(kafka_client.producer(settings, linger_ms=20)) as producer:
        for p in range(settings.partitions):
            for n in range(start, start + count):
                event = events.encode(action(n, 10 * p + n % 3, f"i{n % 7}"))
                producer.send(EVENTS.name, key=b"k", value=event, partition=p)
        producer.flush()


def offsets(settings: Settings, client: Client) -> list[int]:
    held = [client.get(PLAIN.fence("people", p)) for p in range(settings.partitions)]
    return [fences.decode(it).offset if it else 0 for it in held]


@contextmanager
def opened(settings: Settings) -> Iterator[People]:
    worker = People(settings, reader=Reader(settings, EVENTS.name))
    try:
        yield worker
    finally:
        worker.close()


def run_until(worker: People, done: Callable[[], bool]) -> None:
    """Runs the flow until `done`, which is asked between its reads."""
    before = worker.reader.before_poll

    def between() -> None:
        before()
        if done():
            worker.reader.stop.set()

    worker.reader.before_poll = between
    run_flow(dataflow.dataflow(worker))
    worker.reader.before_poll = before
    worker.reader.stop.clear()


def broken_once(worker: People, partition: int, break_: Callable[[Write], None]) -> None:
    """Does something to the next write of the partition."""
    fold, done = worker.fold, list[int]()

    def folded(batch: Decoded) -> list[Write]:
        writes = fold(batch)
        for write in writes:
            if write.partition == partition and not done:
                done.append(1)
                break_(write)
        return writes

    worker.fold = folded  # type: ignore[method-assign]


def test_a_torn_partition_is_dropped_and_folded_again_beside_the_others(
    settings: Settings, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    send(settings, 20)
    with opened(settings) as worker:
        tear = StreamEntry(PLAIN.deltas(2), b"0-0", {b"d": b""})
        broken_once(worker, 2, lambda write: write.entries.append(tear))
        run_until(
            worker,
            lambda: offsets(settings, client) == [20] * settings.partitions and 2 not in worker.out,
        )
        metrics = samples(worker.metrics.process.render())
    assert metrics[("freshet_flow_torn_total", "people")] == 1
    assert not client.exists(PLAIN.torn("people", 2))
    (said,) = [it for it in caplog.messages if "is out" in it]
    assert said.startswith("people partition 2 is out and tried again, the others go on: Torn")
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)


@pytest.mark.check
def test_a_partition_that_another_worker_moved_goes_on_behind_it(
    settings: Settings, client: Client
) -> None:
    send(settings, 10)
    with opened(settings) as worker:
        fold_people(settings)  # another worker, which is quicker
        send(settings, 5, start=10)
        run_until(worker, lambda: offsets(settings, client) == [15] * settings.partitions)
        metrics = samples(worker.metrics.process.render())
    assert metrics[("freshet_flow_fenced_total", "people")] >= settings.partitions
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)


def test_a_partition_that_redis_forgot_or_a_rebuild_holds_waits_for_no_other(
    settings: Settings, client: Client
) -> None:
    send(settings, 10)
    key = PLAIN.fence("people", 1)
    with opened(settings) as worker:
        run_until(worker, lambda: offsets(settings, client) == [10] * settings.partitions)
        for pattern in PLAIN.owned_patterns("people", 0):
            client.delete(b"none", *client.keys(pattern))
        free = client.get(key)
        held = fences.decode(free)
        held.version = fences.HELD
        client.set(key, fences.encode(held))
        send(settings, 5, start=10)
        others = [15, 10] + [15] * (settings.partitions - 2)
        run_until(worker, lambda: offsets(settings, client) == others and 1 in worker.out)
        metrics = samples(worker.metrics.process.render())
        assert metrics[("freshet_flow_out", "people", "1")] == 1
        assert metrics[("freshet_flow_out", "people", "0")] == 0
        client.set(key, free)
        run_until(worker, lambda: offsets(settings, client) == [15] * settings.partitions)
        assert 1 not in worker.out
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)


@pytest.mark.check
def test_a_partition_that_was_repaired_under_its_worker_drops_its_caches(
    settings: Settings, client: Client
) -> None:
    """The repair ends at the offset at which it began, while the worker had nothing to commit."""
    send(settings, 10)
    fold_people(settings)
    one, other = sorted(client.keys("u:{1}:*"))[:2]
    client.set(one, client.get(other))
    with opened(settings) as worker:
        send(settings, 5, start=10)
        run_until(worker, lambda: offsets(settings, client) == [15] * settings.partitions)
        assert (
            in_place.rebuild(client, settings, 1, SilentReporter(Console(quiet=True)))["written"]
            > 0
        )
        send(settings, 5, start=15)
        run_until(worker, lambda: offsets(settings, client) == [20] * settings.partitions)
        metrics = samples(worker.metrics.process.render())
    assert metrics[("freshet_flow_fenced_total", "people")] == 1
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)


@pytest.mark.check
def test_a_start_waits_for_no_partition_that_a_rebuild_holds(
    settings: Settings, client: Client
) -> None:
    send(settings, 3)
    fold_people(settings)
    key = PLAIN.fence("people", 0)
    free = client.get(key)
    held = fences.decode(free)
    held.version = fences.HELD
    client.set(key, fences.encode(held))
    send(settings, 3, start=3)
    with opened(settings) as worker:
        assert 0 in worker.out
        run_until(
            worker, lambda: offsets(settings, client) == [3] + [6] * (settings.partitions - 1)
        )
        client.set(key, free)
        run_until(worker, lambda: offsets(settings, client) == [6] * settings.partitions)


def test_a_value_that_cannot_be_read_takes_out_its_partition(
    settings: Settings, client: Client
) -> None:
    send(settings, 10)
    fold_people(settings)
    (row, *_) = client.keys("u:{1}:*")
    good = client.get(row)
    client.set(row, good[:11])
    send(settings, 5, start=10)
    with opened(settings) as worker:
        others = [15, 10] + [15] * (settings.partitions - 2)
        run_until(worker, lambda: offsets(settings, client) == others and 1 in worker.out)
        client.set(row, good)
        run_until(worker, lambda: offsets(settings, client) == [15] * settings.partitions)
    found = wrong(settings)
    assert found == dict.fromkeys(found, 0)


def test_state_of_another_log_keeps_its_partition_out_and_of_all_it_ends_the_flow(
    settings: Settings, client: Client, caplog: pytest.LogCaptureFixture
) -> None:
    send(settings, 3)
    fold_people(settings)
    for p in range(settings.partitions):
        held = fences.decode(client.get(PLAIN.fence("people", p)))
        held.topic_id = "another"
        client.set(PLAIN.fence("people", p), fences.encode(held))
        if p == 0:
            send(settings, 1, start=3)
            with opened(settings) as worker:
                run_until(
                    worker,
                    lambda: offsets(settings, client) == [3] + [4] * (settings.partitions - 1),
                )
                assert isinstance(worker.out.error(0), StateMismatch)
            (said,) = [it for it in caplog.messages if "is out" in it]
            assert "freshet rebuild" in said
    with pytest.raises(StateMismatch, match="freshet rebuild"), opened(settings):
        pass


@pytest.mark.parametrize("key", [PLAIN.poison, PLAIN.accepted])
def test_a_number_of_poison_that_cannot_be_read_takes_out_its_partition_alone(
    settings: Settings, client: Client, key: Callable[[str, int], bytes]
) -> None:
    client.set(key("people", 1), b"junk")
    send(settings, 3)
    with opened(settings) as worker:
        others = [3, 0] + [3] * (settings.partitions - 2)
        run_until(worker, lambda: offsets(settings, client) == others)
        assert "in Redis is no number" in str(worker.out.error(1))
        client.delete(key("people", 1))
        worker.reader.stop.clear()
        run_until(worker, lambda: offsets(settings, client) == [3] * settings.partitions)


def test_the_gauge_of_what_is_out_names_flow_and_partition() -> None:
    assert METRICS["freshet_flow_out"].labels == ("flow", "partition")
