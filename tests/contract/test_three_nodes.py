"""Three nodes of Apache Kafka: writers go on while one is away or leaders move, and wait while two are."""

from __future__ import annotations

import asyncio
import json
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from typing import Any, Final

import msgspec
import pytest
from click.testing import CliRunner
from kafka import KafkaAdminClient, TopicPartition
from kafka.admin import ConfigResource, ConfigResourceType

from flows.kit.source import Reader
from infra.cli.main import cli
from infra.client.client import Client
from infra.client.errors import ApiError
from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.local.apache_kafka import ApacheKafka
from infra.local.kafka_cluster import KafkaCluster
from infra.local.system import System, running
from infra.settings import Settings, to_environment
from schemas.topics import EVENTS, TOPICS
from tests.contract.raw import eventually, fresh
from tests.support.outage import log_of_people
from tests.support.writers import PAUSE_SECONDS, ended, read_log, until, writing

pytestmark = pytest.mark.timeout(300)
SECONDS: Final = 60.0
PREFERRED: Final = 0
MORE: Final = 150
"""Acknowledged records that show that writers go on."""


@pytest.fixture
def settings(three_nodes: KafkaCluster, tmp_path: Path) -> Settings:
    """Settings with topics of the test's own, whose partitions every node has."""
    made = Settings(
        kafka_bootstrap=three_nodes.bootstrap,
        data_dir=tmp_path / "data",
        topic_prefix=f"{fresh('three')}.",
    )
    kafka_client.ensure_topics(made)
    await_in_sync(made)
    return made


@contextmanager
def administrating(settings: Settings) -> Iterator[KafkaAdminClient]:
    client = kafka_client.admin(settings)
    try:
        yield client
    finally:
        client.close()


def in_sync(settings: Settings, names: list[str]) -> list[str]:
    """`min.insync.replicas` of each topic."""
    asked = [ConfigResource(ConfigResourceType.TOPIC, name) for name in names]
    with administrating(settings) as client:
        found = client.describe_configs(asked, config_filter="all")["topic"]
    return [str(found[name]["min.insync.replicas"]["value"]) for name in names]


def await_in_sync(settings: Settings) -> None:
    """Returns once every partition of the test's topics has three replicas in sync, and a leader."""
    eventually(
        lambda: all(
            len(it["isr_nodes"]) == 3 and it["leader_id"] > 0 for it in partitions(settings)
        )
    )


def partitions(settings: Settings) -> list[dict[str, Any]]:
    """Every partition of the test's topics, once the node that is asked knows all of them: each hears of a
    new topic in its own time."""
    names = [broker_name(settings, topic.name) for topic in TOPICS]
    found: list[dict[str, Any]] = []

    def known() -> bool:
        topics = client.describe_topics(names)
        found[:] = [it for topic in topics for it in topic["partitions"]]
        return all(topic["partitions"] for topic in topics)

    with administrating(settings) as client:
        eventually(known)
    return found


def leaders(settings: Settings) -> dict[int, int]:
    """Partition of `events` -> the node that leads it."""
    with administrating(settings) as client:
        (topic,) = client.describe_topics([broker_name(settings, EVENTS.name)])
    return {it["partition_index"]: it["leader_id"] for it in topic["partitions"]}


def node_of(cluster: KafkaCluster, settings: Settings, partition: int = 0) -> ApacheKafka:
    """The node that leads a partition of `events`."""
    return cluster.nodes[leaders(settings)[partition] - 1]


def test_topics_have_three_replicas_of_which_two_acknowledge(settings: Settings) -> None:
    assert {len(it["replica_nodes"]) for it in partitions(settings)} == {3}
    names = [broker_name(settings, topic.name) for topic in TOPICS]
    assert set(in_sync(settings, names)) == {"2"}


def test_writers_go_on_while_a_node_is_away_and_comes_back(
    three_nodes: KafkaCluster, settings: Settings
) -> None:
    async def main() -> None:
        async with writing(settings) as writers:
            async with writers.appending():
                await writers.await_acknowledged(MORE, SECONDS)
                node = await asyncio.to_thread(node_of, three_nodes, settings)
                await asyncio.to_thread(node.kill)
                await writers.await_acknowledged(MORE, SECONDS)
                await asyncio.to_thread(node.start)
                await asyncio.to_thread(await_in_sync, settings)
                await writers.await_acknowledged(MORE, SECONDS)
            await writers.settle(SECONDS)
            assert not writers.failed
            writers.check(await asyncio.to_thread(read_log, settings))

    ended(main, 3 * SECONDS)


def test_a_flow_reads_on_while_a_node_is_away_and_leaders_move(
    three_nodes: KafkaCluster, settings: Settings
) -> None:
    partitions = range(settings.partitions)
    with closing(Reader(settings, EVENTS.name)) as reader:
        reader.assign(dict.fromkeys(partitions, 0))
        found: dict[int, list[bytes | None]] = {p: [] for p in partitions}

        def send_and_read(upto: int) -> None:
            with closing(kafka_client.producer(settings)) as producer:
                for n in range(upto - 20, upto):
                    for p in partitions:
                        producer.send(broker_name(settings, EVENTS.name), b"%d" % n, partition=p)
                producer.flush(SECONDS)
            deadline = time.monotonic() + SECONDS
            while any(len(values) < upto for values in found.values()):
                assert time.monotonic() < deadline
                for it in reader.next():
                    found[it.partition] += it.values
                    reader.committed(it.partition)

        send_and_read(20)
        node = node_of(three_nodes, settings)
        node.kill()
        try:
            send_and_read(40)
        finally:
            node.start()
        await_in_sync(settings)
        send_and_read(60)
    assert found == {p: [b"%d" % n for n in range(60)] for p in partitions}


def test_writers_follow_leaders_that_move(three_nodes: KafkaCluster, settings: Settings) -> None:
    def reversed_replicas() -> None:
        """Each partition's leader is another node than before, by choice."""
        name = broker_name(settings, EVENTS.name)
        led = leaders(settings)
        others = {n: [it for it in (3, 2, 1) if it != node] for n, node in led.items()}
        with administrating(settings) as client:
            client.alter_partition_reassignments(
                {TopicPartition(name, n): [*others[n], node] for n, node in led.items()}
            )
            eventually(lambda: not client.list_partition_reassignments([]))
            client.elect_leaders(PREFERRED, {name: list(led)}, raise_errors=False)
        eventually(lambda: all(now != led[n] for n, now in leaders(settings).items()))

    async def main() -> None:
        async with writing(settings) as writers:
            async with writers.appending():
                for _ in range(3):
                    await writers.await_acknowledged(MORE, SECONDS)
                    await asyncio.to_thread(reversed_replicas)
                await writers.await_acknowledged(MORE, SECONDS)
            await writers.settle(SECONDS)
            assert not writers.failed
            writers.check(await asyncio.to_thread(read_log, settings))

    ended(main, 3 * SECONDS)


def test_writers_wait_in_the_spool_while_two_nodes_are_away(
    three_nodes: KafkaCluster, settings: Settings
) -> None:
    async def main() -> None:
        async with writing(settings) as writers:
            async with writers.appending():
                await writers.await_acknowledged(MORE, SECONDS)
                away = three_nodes.nodes[1:]
                for node in away:
                    await asyncio.to_thread(node.kill)
                spooled = len(writers.spooled)
                await until(lambda: len(writers.spooled) > spooled + MORE, SECONDS)
                assert writers.writes.ready
                for node in away:
                    await asyncio.to_thread(node.launch)
                for node in away:
                    await asyncio.to_thread(node.await_answer)
                await writers.await_acknowledged(MORE, SECONDS)
            await writers.settle(SECONDS)
            await asyncio.to_thread(await_in_sync, settings)
            assert not writers.failed
            writers.check(await asyncio.to_thread(read_log, settings))

    ended(main, 3 * SECONDS)


def test_a_whole_system_goes_on_while_a_node_is_away(
    three_nodes: KafkaCluster, tmp_path: Path
) -> None:
    def verified(settings: Settings, events: int) -> bool:
        """Whether Redis holds what so many events in the log say."""
        done = CliRunner().invoke(
            cli, ["verify", "--json"], env=to_environment(settings), catch_exceptions=False
        )
        report = json.loads(done.stdout)
        assert (done.exit_code, report["mismatches"]) == (0, [])
        return bool(report["events"] >= events)

    environment = {"KAFKA_BOOTSTRAP": three_nodes.bootstrap, "FRESHET_AUTH": "off"}
    with running(tmp_path / "system", environment=environment, seconds=120) as system:
        acknowledged = asyncio.run(_send_while_a_node_is_away(system, three_nodes))

        def logged() -> dict[str, Counter[str]]:
            return {user: Counter(ids) for user, ids in log_of_people(system.settings).items()}

        # the spool has what came while the node was away, until it is sent
        eventually(lambda: {name for ids in logged().values() for name in ids} >= acknowledged)
        distinct = sum(map(len, logged().values()))
        eventually(lambda: verified(system.settings, distinct))


async def _send_while_a_node_is_away(system: System, cluster: KafkaCluster) -> set[str]:
    """The ids of the events that were acknowledged, while a leader was killed and came back."""
    acknowledged: set[str] = set()
    stop = asyncio.Event()

    async def send(user: int) -> None:
        number = 0
        while not stop.is_set():
            ids = [f"e{user}-{number + n}" for n in range(5)]
            events = [
                {"user_id": f"u{user}", "item_id": f"i{n}", "action": "view", "event_id": name}
                for n, name in enumerate(ids)
            ]
            with suppress(ApiError):  # it is sent again, with the same ids
                await client.send_events(events)
                acknowledged.update(ids)
                number += len(ids)
            await asyncio.sleep(PAUSE_SECONDS)

    async def more(count: int) -> None:
        wanted = len(acknowledged) + count
        await until(lambda: len(acknowledged) >= wanted, SECONDS)

    async with Client(system.url) as client:
        senders = [asyncio.create_task(send(user)) for user in range(8)]
        await more(MORE)
        node = await asyncio.to_thread(node_of, cluster, system.settings)
        await asyncio.to_thread(node.kill)
        await more(MORE)
        await asyncio.to_thread(node.start)
        await more(MORE)
        stop.set()
        await asyncio.gather(*senders)
    return acknowledged


def test_a_process_starts_where_the_first_address_does_not_answer(
    three_nodes: KafkaCluster, settings: Settings
) -> None:
    addresses = f"127.0.0.1:1,{three_nodes.bootstrap}"

    async def main() -> None:
        found = msgspec.structs.replace(settings, kafka_bootstrap=addresses)
        async with writing(found) as writers:
            await writers.append_each(20)
            assert not writers.spooled | writers.failed
            writers.check(await asyncio.to_thread(read_log, settings))

    ended(main, SECONDS)
