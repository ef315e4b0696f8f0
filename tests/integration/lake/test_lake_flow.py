"""The flow `lake` against a real broker and Redis, in this process and as one that is stopped."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from flows.kit.commit import Fenced
from flows.kit.resume import StateMismatch
from flows.lake.dataflow import Lake as Flow
from flows.lake.partition import flow_name
from flows.offline.history import read as read_log
from infra.kafka import kafka_client
from infra.kafka.reader import Topics
from infra.lake import errors
from infra.lake.log import open_log
from infra.lake.reader import Lake
from infra.local import services
from infra.local.plan import child_environment
from infra.log_reader import JoinedLog, OffTheLog
from infra.settings import Settings
from infra.store import redis_client
from schemas.flows import BY_NAME
from schemas.keys import PLAIN
from schemas.topics import EVENTS, ITEMS, SLATES, TOPICS
from tests.support import lakes
from tests.support.lakes import DAY, POISON, action, person
from tests.support.running import fill_lake
from tests.unit.infra.test_lake_manifest import read_only

FENCE = PLAIN.fence(flow_name(EVENTS.name), 0)


def send(
    settings: Settings, topic: str, values: list[bytes], partition: int = 0, **more: Any
) -> None:
    producer = kafka_client.producer(settings)
    for n, value in enumerate(values):
        producer.send(topic, value, key=b"k%d" % n, partition=partition, **more)
    producer.flush()
    producer.close()


def fill(settings: Settings) -> None:
    """Writes records to every topic, with poison and headers."""
    events = [action(n, n % 5, DAY + n) for n in range(300)]
    send(settings, EVENTS.name, [*events, POISON])
    send(settings, EVENTS.name, events[:20], 3, headers=[("h", b"1")])
    send(settings, ITEMS.name, [b'{"kind":"delete","item_id":"i1","received_at":1}'])
    for topic in TOPICS[2:]:
        send(settings, topic.name, [b"\xff no record of " + topic.name.encode()])


def same(settings: Settings, topic: str, partition: int) -> bool:
    """Whether lake and topic hold the same records."""
    lake, log = Lake.of(settings), Topics(settings)
    start, end = log.bounds(topic, partition)
    assert lake.bounds(topic, partition) == ((start, end) if end else (0, 0))
    mine = lakes.read(lake.read(topic, partition, start, end))
    theirs = lakes.read(log.read(topic, partition, start, end))
    assert [list(map(tuple, it)) for it in mine.headers] == [
        list(map(tuple, it)) for it in theirs.headers
    ]
    return mine[:4] == theirs[:4]


def partitions(settings: Settings, topic: Any) -> range:
    return range(topic.partitions or settings.partitions)


def test_every_topic_is_in_the_lake_as_it_was_written(settings: Settings) -> None:
    fill(settings)
    fill_lake(settings)
    for topic in TOPICS:
        assert all(same(settings, topic.name, p) for p in partitions(settings, topic)), topic.name
    send(settings, SLATES.name, [b"one more"], 2)
    fill_lake(settings)
    fill_lake(settings)  # nothing new: nothing written
    assert same(settings, SLATES.name, 2)
    chain = Lake.of(settings).manifest(EVENTS.name, 0).chain()
    assert [(span.start, span.end) for span in chain] == [(0, 301)]


def test_lake_and_topics_are_read_as_one_log(settings: Settings) -> None:
    fill(settings)
    assert isinstance(open_log(settings), Topics)
    fill_lake(settings)
    send(settings, EVENTS.name, [action(n, 1, DAY) for n in range(400, 450)])
    joined = open_log(settings)
    assert isinstance(joined, JoinedLog)
    assert joined.bounds(EVENTS.name, 0) == (0, 351)
    assert Lake.of(settings).bounds(EVENTS.name, 0) == (0, 301)
    for start, end in ((0, 351), (290, 310), (310, 351), (5, 5), (0, 301)):
        read = lakes.read(joined.read(EVENTS.name, 0, start, end, 40))
        log = lakes.read(Topics(settings).read(EVENTS.name, 0, start, end))
        assert read[:4] == log[:4]
        edges = [start, *(cut[1] for cut in read.cuts)]
        assert [cut[0] for cut in read.cuts] == edges[:-1]
        assert edges[-1] == end


@pytest.mark.check
def test_the_trainer_reads_the_same_from_topics_and_from_the_joined_log(settings: Settings) -> None:
    fill(settings)
    topics_alone = read_log(settings)
    fill_lake(settings)
    send(settings, EVENTS.name, [action(900, 1, DAY)])
    both = read_log(settings)
    assert (len(both.events[0]), both.undecodable) == (301, topics_alone.undecodable)
    of_both, of_topics = ([list(it) for it in log.events] for log in (both, topics_alone))
    assert of_both[0][:300] == of_topics[0]
    assert of_both[1:] == of_topics[1:]
    assert both.items == topics_alone.items


def written(flow: Flow) -> Any:
    """Step 1 of the flow's next chunk of events."""
    chunks = flow.gatherer.next()
    while not chunks:
        chunks = flow.gatherer.next()
    return flow.put(next(it for it in chunks if it.place == (EVENTS.name, 0)))


@pytest.mark.parametrize("steps", [1, 2])
def test_a_flow_killed_between_two_steps_loses_and_doubles_nothing(
    settings: Settings, steps: int
) -> None:
    settings = msgspec.structs.replace(settings, lake_seconds=1e-6)
    fill(settings)
    killed = Flow(settings)
    step = written(killed)
    if steps == 2:
        killed.owners[step.place].move(step.entry)
    killed.close()
    assert Lake.of(settings).bounds(EVENTS.name, 0) == (0, 0)
    fill_lake(settings)
    assert same(settings, EVENTS.name, 0)
    names = [
        it.name for it in Lake.of(settings).store.list("data/events") if "partition=00" in it.name
    ]
    assert (step.entry.name in names, len(names)) == (True, 2 if steps == 1 else 1)


def test_a_zombie_is_fenced_and_adds_nothing(settings: Settings) -> None:
    settings = msgspec.structs.replace(settings, lake_seconds=1e-6)
    fill(settings)
    zombie = Flow(settings)
    step = written(zombie)
    fill_lake(settings)
    chain = Lake.of(settings).manifest(EVENTS.name, 0).chain()
    with pytest.raises(Fenced, match="lake-events partition 0"):
        zombie.commit(step)
    zombie.close()
    assert Lake.of(settings).manifest(EVENTS.name, 0).chain() == chain
    assert same(settings, EVENTS.name, 0)


def test_a_redis_that_lost_everything_costs_nothing(settings: Settings) -> None:
    fill(settings)
    fill_lake(settings)
    with redis_client.connect(settings) as client:
        client.flushall()
    send(settings, EVENTS.name, [b"after"])
    fill_lake(settings)
    assert same(settings, EVENTS.name, 0)
    chain = Lake.of(settings).manifest(EVENTS.name, 0).chain()
    assert [(span.start, span.end) for span in chain] == [(0, 301), (301, 302)]


def again(settings: Settings, partitions: int) -> Settings:
    """Recreates the topics with so many partitions."""
    admin = kafka_client.admin(settings)
    admin.delete_topics([topic.name for topic in TOPICS])
    admin.close()
    settings = msgspec.structs.replace(settings, partitions=partitions)
    kafka_client.ensure_topics(settings)
    return settings


@pytest.mark.check
@pytest.mark.parametrize("forgotten", [False, True])
@pytest.mark.parametrize(("count", "what"), [(4, "topic id"), (2, "(topic id|partition count)")])
def test_a_recreated_topic_is_refused_with_the_remedy(
    settings: Settings, count: int, what: str, forgotten: bool
) -> None:
    fill(settings)
    fill_lake(settings)
    if forgotten:
        with redis_client.connect(settings) as client:
            client.flushall()
    before = lakes.everything(Lake.of(settings))
    settings = again(settings, count)
    with pytest.raises(StateMismatch, match=f"the {what} is .* FRESHET_LAKE_URL"):
        Flow(settings)
    assert lakes.everything(Lake.of(settings)) == before
    with pytest.raises(OffTheLog, match="lost records, or is another one"):
        open_log(settings).bounds(EVENTS.name, 0)


@pytest.mark.parametrize("held", [b"no fence", b"\x93\x01\x02\x03", None])
def test_what_is_no_fence_is_refused_by_name(settings: Settings, held: bytes | None) -> None:
    with redis_client.connect(settings) as client:
        if held is None:
            client.rpush(FENCE, "a list")
        else:
            client.set(FENCE, held)
    with pytest.raises(StateMismatch, match=r"f:\{0\}:lake-events in Redis is no fence"):
        Flow(settings)


def test_a_lake_whose_objects_are_gone_is_not_begun_anew(settings: Settings) -> None:
    fill(settings)
    fill_lake(settings)
    lake = Lake.of(settings)
    (span,) = lake.manifest(EVENTS.name, 0).chain()
    entry = lake.manifest(EVENTS.name, 0).entry(span)
    lake.store.delete(entry.name)
    lake.manifest(EVENTS.name, 0).delete(span)
    with pytest.raises(errors.LakeTorn, match=r"is not there.*delete the key f:\{0\}:lake-ev"):
        Flow(settings)
    with redis_client.connect(settings) as client:
        client.delete(FENCE)
    fill_lake(settings)
    assert same(settings, EVENTS.name, 0)


def test_a_manifest_that_lost_its_beginning_is_refused(settings: Settings) -> None:
    fill(settings)
    fill_lake(settings)
    send(settings, EVENTS.name, [b"after"])
    fill_lake(settings)
    manifest = Lake.of(settings).manifest(EVENTS.name, 0)
    manifest.delete(manifest.chain()[0])
    with pytest.raises(errors.LakeHole, match="starts at 301, and did at 0"):
        Flow(settings)


class Process:
    """`freshet flows run lake`, as a supervisor starts it."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.log = log
        with log.open("ab") as output:
            self._process = subprocess.Popen(
                [sys.executable, "-m", "infra.cli", "flows", "run", "lake"],
                env=child_environment(settings),
                stdout=output,
                stderr=output,
            )

    def wait(self) -> int:
        return self._process.wait(60)

    def until(self, condition: Callable[[], bool]) -> None:
        until = time.monotonic() + 60
        while not condition():
            assert self._process.poll() is None, self.log.read_text()
            assert time.monotonic() < until
            time.sleep(0.05)

    def stop(self) -> int:
        self._process.send_signal(signal.SIGTERM)
        return self.wait()

    def nice(self) -> int:
        return os.getpriority(os.PRIO_PROCESS, self._process.pid)


@pytest.mark.check
def test_a_flow_that_is_stopped_writes_what_it_holds(settings: Settings, tmp_path: Path) -> None:
    port = services.free_port()
    settings = msgspec.structs.replace(settings, lake_seconds=3600.0, metrics_port=port)
    process = Process(settings, tmp_path / "log")
    process.until(lambda: services.port_answers(port))
    fill(settings)
    lag = ("freshet_lake_lag", EVENTS.name, "0")
    process.until(lambda: samples_of(port).get(lag) == 301)
    assert process.nice() == os.getpriority(os.PRIO_PROCESS, 0) + BY_NAME["lake"].nice
    assert Lake.of(settings).bounds(EVENTS.name, 0) == (0, 0)
    assert process.stop() == 0
    for topic in TOPICS:
        assert all(same(settings, topic.name, p) for p in partitions(settings, topic)), topic.name


def samples_of(port: int) -> dict[tuple[str, ...], float]:
    from urllib.request import urlopen

    from prometheus_client.parser import text_string_to_metric_families

    with urlopen(f"http://127.0.0.1:{port}/metrics", timeout=10) as answer:
        families = text_string_to_metric_families(answer.read().decode())
        return {
            (
                it.name,
                *(it.labels[name] for name in ("topic", "partition") if name in it.labels),
            ): it.value
            for family in families
            for it in family.samples
        }


@pytest.mark.check
def test_a_lake_that_takes_nothing_stops_the_flow_with_a_sentence_and_loses_nothing(
    settings: Settings, tmp_path: Path
) -> None:
    folder = tmp_path / "closed"
    folder.mkdir()
    closed = msgspec.structs.replace(
        settings, lake_url=str(read_only(folder) / "lake"), lake_seconds=0.1
    )
    fill(settings)
    process = Process(closed, tmp_path / "log")
    assert process.wait() == 1
    last = (tmp_path / "log").read_text().strip().splitlines()[-1]
    assert last.startswith("freshet: the lake is read-only: data/")
    folder.chmod(0o700)
    fill_lake(settings)
    assert all(same(settings, EVENTS.name, p) for p in range(settings.partitions))


def test_who_did_what_is_found_in_the_lake(settings: Settings) -> None:
    fill(settings)
    fill_lake(settings)
    found = Lake.of(settings).select(EVENTS.name, person=person(3), columns=["offset", "item_id"])
    assert found.table.num_rows in (0, 60)  # as it belongs to partition 0, or not
