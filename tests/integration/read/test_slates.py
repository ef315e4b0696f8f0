"""Slates on their way to the log: none is lost while there is a disk, and none fails a read."""

from __future__ import annotations

import asyncio
import logging
import resource
from collections.abc import Awaitable, Callable

import msgspec
import pytest
from kafka import KafkaAdminClient
from kafka.admin import ConfigResource, ConfigResourceType

from infra.cli.tail.command import line
from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.kafka.reader import Topics
from infra.kafka.records import records
from infra.settings import Settings
from schemas.alphabet import Pseudonym
from schemas.events import Served
from schemas.headers import FRAME
from schemas.slates import Slate
from schemas.topics import EVENTS, SLATES
from serving.log.producer import LogProducer
from serving.log.slates import Slates
from serving.metrics import Metrics
from serving.spool.segments import Directory, Frame, encode
from serving.spool.spool import Spool
from tests.support.arrived import arrived, spools

PEOPLE = [Pseudonym(f"{n:032x}") for n in range(7)]


def slate_of(n: int) -> Slate:
    return Slate(
        slate_id=f"{n:026d}", served_at=10_000 + n, placement="home", person=PEOPLE[n % 7], items=()
    )


def served_of(n: int) -> Served:
    return Served(
        person=PEOPLE[n % 7],
        slate_id=f"{n:026d}",
        placement="home",
        received_at=10_000 + n,
        items=("i1",),
    )


def frame_of(n: int) -> Frame:
    slate_id, person = f"{n:026d}".encode(), PEOPLE[n % 7].encode()
    return Frame(
        slate_id,
        msgspec.json.encode(slate_of(n)),
        person,
        msgspec.json.encode(served_of(n)),
        SLATES.headers,
        EVENTS.headers,
    )


def ids(*numbers: int) -> list[str]:
    return [f"{n:026d}" for n in numbers]


def counted(metrics: Metrics, name: str) -> float:
    lines = metrics.render().decode().splitlines()
    return sum(float(line.split()[-1]) for line in lines if line.startswith(f"{name} "))


def with_slates(
    settings: Settings,
    run: Callable[[Slates, Metrics], Awaitable[None]],
    max_memory_bytes: int = 1 << 20,
) -> Metrics:
    """Runs `run` with a background task that has not been started, and stops the task."""
    metrics = Metrics()

    async def main() -> None:
        log = await LogProducer.open(settings)
        slates = Slates(log, settings, metrics, max_memory_bytes=max_memory_bytes)
        try:
            await run(slates, metrics)
        finally:
            await slates.stop()
            await log.close()

    asyncio.run(main())
    return metrics


def test_all_slates_arrive_in_order_and_the_spool_is_empty(settings: Settings) -> None:
    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        for n in range(1000):
            slates.add(slate_of(n), served_of(n))
            if not n % 10:
                await asyncio.sleep(0)
        slates.add(slate_of(1000))

    metrics = with_slates(settings, run)
    assert spools(settings) == []
    assert counted(metrics, "freshet_slates_total") == 1001
    assert counted(metrics, "freshet_slates_lost_total") == 0
    assert counted(metrics, "freshet_spool_bytes") == 0
    with arrived(settings) as found:
        found.until(ids(*range(1000)))
        assert len(found.slates) == 1001
        assert len(found.served) == 1000
        assert found.in_order()


def offsets_of(settings: Settings) -> int:
    """How many records the log holds of slates and events; a frame is one."""
    log = Topics(settings)
    places = [(topic.name, p) for topic in (SLATES, EVENTS) for p in range(settings.partitions)]
    return sum(log.bounds(*place)[1] for place in places)


@pytest.mark.parametrize("frames", ["on", "off"])
def test_what_leaves_together_for_a_partition_is_one_record_of_the_log(
    settings: Settings, frames: str
) -> None:
    async def run(slates: Slates, metrics: Metrics) -> None:
        for n in range(150):
            slates.add(slate_of(n), served_of(n))
        await slates.start()

    with_slates(msgspec.structs.replace(settings, frames=frames), run)
    assert offsets_of(settings) == (2 * settings.partitions if frames == "on" else 300)
    with arrived(settings) as found:
        found.until(ids(*range(150)))
        assert (len(found.slates), len(found.served)) == (150, 150)
        assert found.in_order()
    for topic in (SLATES.name, EVENTS.name):  # as `freshet tail` has them
        rows = list(records(settings, topic, from_beginning=True, until_end=True))
        assert len({(it["partition"], it["offset"], it["index"]) for it in rows}) == 150
        assert sorted(it["value"]["slate_id"] for it in rows) == ids(*range(150))
        assert max(it["index"] for it in rows) > 0 or frames == "off"


@pytest.mark.parametrize(
    ("value", "text"),
    [(b"[]", "a bad frame"), (b"[1,2]", "a bad frame"), (b"[" * 2000, "not JSON")],
)
def test_a_bad_frame_is_a_row_that_says_so(settings: Settings, value: bytes, text: str) -> None:
    kafka_client.ensure_topics(settings)
    producer = kafka_client.producer(settings)
    producer.send(SLATES.name, value, b"", [*SLATES.headers, (FRAME, b"7")], 1).get(10)
    producer.close()
    (row,) = records(settings, SLATES.name, from_beginning=True, until_end=True)
    assert line("slates", row).endswith(f"1:0  {text}")


def test_no_frame_is_longer_than_its_topic_takes(settings: Settings) -> None:
    kafka_client.ensure_topics(settings)
    name = broker_name(settings, SLATES.name)
    limit = ConfigResource(ConfigResourceType.TOPIC, name, {"max.message.bytes": "2000"})
    with KafkaAdminClient(bootstrap_servers=settings.kafka_bootstrap) as admin:
        admin.alter_configs([limit])

    async def run(slates: Slates, metrics: Metrics) -> None:
        for n in range(150):
            slates.add(slate_of(n), served_of(n))
        await slates.start()

    metrics = with_slates(settings, run)
    assert counted(metrics, "freshet_slates_lost_total") == 0
    assert 8 < offsets_of(settings) < 150
    with arrived(settings) as found:
        found.until(ids(*range(150)))
        assert (len(found.slates), len(found.served)) == (150, 150)


def test_both_records_of_a_slate_have_the_trace_of_its_request(settings: Settings) -> None:
    trace = b"00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"

    async def run(slates: Slates, metrics: Metrics) -> None:
        slates.add(slate_of(0), served_of(0), trace)
        slates.add(slate_of(1), served_of(1))
        await slates.start()
        slates.add(slate_of(2), served_of(2), trace)

    with_slates(settings, run)
    log = Topics(settings)
    for topic in (SLATES, EVENTS):
        places = [(topic.name, p, *log.bounds(topic.name, p)) for p in range(settings.partitions)]
        found = [it for place in places for batch in log.read(*place) for it in batch.headers]
        traced = (*topic.headers, ("traceparent", trace))
        assert sorted(map(tuple, found)) == [topic.headers, traced, traced]


def test_slates_beyond_the_memory_are_read_from_the_spool(settings: Settings) -> None:
    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        for n in range(1500):  # before any of them can be sent
            slates.add(slate_of(n), served_of(n))
        await asyncio.sleep(0)
        for n in range(1500, 1600):  # while the task is behind
            slates.add(slate_of(n), served_of(n))
            await asyncio.sleep(0.001)

    metrics = with_slates(settings, run, max_memory_bytes=100 * frame_of(0).size)
    assert counted(metrics, "freshet_slates_lost_total") == 0
    assert spools(settings) == []
    with arrived(settings) as found:
        found.until(ids(*range(1600)))
        assert len(found.served) == 1600
        assert found.in_order()


def test_slates_beyond_memory_and_spool_are_lost_and_counted(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    size = frame_of(0).size
    settings = msgspec.structs.replace(settings, spool_bytes=40 * size)

    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        for n in range(50):
            slates.add(slate_of(n), served_of(n))

    metrics = with_slates(settings, run, max_memory_bytes=30 * size)
    assert counted(metrics, "freshet_slates_lost_total") == 10
    assert counted(metrics, "freshet_slates_total") == 40
    assert [it.message for it in caplog.records if "slates did not reach" in it.message] == [
        "slates did not reach the log: 1"
    ]
    with arrived(settings) as found:
        found.until(ids(*range(40)))


def test_without_a_spool_slates_wait_in_memory(
    settings: Settings, caplog: pytest.LogCaptureFixture
) -> None:
    settings.data_dir.mkdir()
    (settings.data_dir / "spool").write_text("in the way")

    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        for n in range(5):
            slates.add(slate_of(n), served_of(n))

    with caplog.at_level(logging.WARNING):
        metrics = with_slates(settings, run)
    assert "can't be written (EEXIST)" in caplog.text
    assert counted(metrics, "freshet_slates_lost_total") == 0
    with arrived(settings) as found:
        found.until(ids(*range(5)))


def test_a_disk_that_fills_up_loses_no_slate(settings: Settings) -> None:
    size = frame_of(0).size
    before = resource.getrlimit(resource.RLIMIT_FSIZE)

    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        resource.setrlimit(resource.RLIMIT_FSIZE, (3 * size + size // 2, before[1]))
        try:
            for n in range(8):
                slates.add(slate_of(n), served_of(n))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    metrics = with_slates(settings, run)
    assert counted(metrics, "freshet_slates_lost_total") == 0
    with arrived(settings) as found:
        found.until(ids(*range(8)))
        assert found.in_order()


def test_the_spool_of_a_dead_worker_is_sent_but_for_a_torn_tail(settings: Settings) -> None:
    root = settings.data_dir / "spool"
    dead = Spool(root, 1 << 20, segment_bytes=4 * frame_of(0).size)
    dead.open()
    places = [dead.append(encode(frame_of(n))) for n in range(10)]
    acknowledged = places[1]
    assert acknowledged is not None
    dead.acknowledge(acknowledged)
    dead.append(encode(frame_of(10))[:-5])
    dead.close(empty=False)

    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        until = asyncio.get_running_loop().time() + 20
        while not counted(metrics, "freshet_spool_taken_over_total"):
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.01)

    metrics = with_slates(settings, run)
    assert spools(settings) == []
    assert counted(metrics, "freshet_slates_lost_total") == 1
    with arrived(settings) as found:
        found.until(ids(*range(2, 10)))
        assert sorted(it.slate_id for it in found.slates) == ids(*range(2, 10))


def test_a_worker_that_goes_on_with_an_orphan_leaves_it_to_the_next(settings: Settings) -> None:
    """The worker is stopped right after its start."""
    root = settings.data_dir / "spool"
    dead = Spool(root, 1 << 20)
    dead.open()
    for n in range(3):
        dead.append(encode(frame_of(n)))
    dead.close(empty=False)

    async def at_once(slates: Slates, metrics: Metrics) -> None:
        await slates.start()

    async def run(slates: Slates, metrics: Metrics) -> None:
        await slates.start()
        until = asyncio.get_running_loop().time() + 20
        while len(spools(settings)) > 1:
            assert asyncio.get_running_loop().time() < until
            await asyncio.sleep(0.01)

    with_slates(settings, at_once)
    with_slates(settings, run)
    assert Directory.orphan(root) is None
    with arrived(settings) as found:
        found.until(ids(*range(3)))
