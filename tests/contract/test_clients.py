"""The contract through kafka-python: what producers, consumers and the admin client rely on."""

from __future__ import annotations

import gc
import threading
import time
from typing import Any

import pytest
from kafka import KafkaAdminClient, KafkaConsumer, KafkaProducer, TopicPartition
from kafka.admin import NewTopic
from kafka.errors import MessageSizeTooLargeError, OffsetOutOfRangeError
from kafka.structs import OffsetAndMetadata

from infra.kafka import kafka_client
from infra.settings import Settings
from tests.contract.conftest import new_topic, quick
from tests.contract.raw import Peer, eventually, fresh

SECONDS = 60.0


def consumer(bootstrap: str, **options: Any) -> KafkaConsumer:
    return KafkaConsumer(
        **{
            "bootstrap_servers": bootstrap,
            "group_id": None,
            "auto_offset_reset": "none",
            "enable_auto_commit": False,
            "allow_auto_create_topics": False,
            **options,
        }
    )


def read(client: KafkaConsumer, count: int) -> list[Any]:
    """At least `count` records. Errors: `AssertionError` after `SECONDS`."""
    got: list[Any] = []
    until = time.monotonic() + SECONDS
    while len(got) < count:
        assert time.monotonic() < until, f"{len(got)} of {count}"
        for records in client.poll(200).values():
            got += records
    return got


@pytest.mark.parametrize("codec", [None, "gzip", "lz4"])
@quick
def test_what_is_produced_is_read(bootstrap: str, peer: Peer, codec: str | None) -> None:
    name = new_topic(peer, "trip", partitions=2)
    with KafkaProducer(
        bootstrap_servers=bootstrap, acks="all", enable_idempotence=True, compression_type=codec
    ) as producer:
        sent = [producer.send(name, key=b"%d" % n, value=b"v%d" % n * 50) for n in range(500)]
        producer.flush(SECONDS)
        places = {(m.partition, m.offset) for m in (future.get(SECONDS) for future in sent)}
    assert len(places) == 500
    with consumer(bootstrap) as client:
        partitions = [TopicPartition(name, n) for n in range(2)]
        client.assign(partitions)
        client.seek_to_beginning(*partitions)
        got = read(client, 500)
        assert {(r.partition, r.offset) for r in got} == places
        assert {r.key: r.value for r in got} == {b"%d" % n: b"v%d" % n * 50 for n in range(500)}
        assert sum(client.end_offsets(partitions).values()) == 500


@quick
def test_headers_nulls_and_times_survive(bootstrap: str, topic: str) -> None:
    headers = [("a", b"1"), ("a", b"\x00\xff"), ("empty", b"")]
    timestamp = int(time.time() * 1000) - 5000
    with KafkaProducer(bootstrap_servers=bootstrap) as producer:
        producer.send(topic, key=b"k", value=b"v", headers=headers, timestamp_ms=timestamp)
        producer.send(topic, key=b"", value=b"")
        producer.send(topic, key=b"k", value=None)
        producer.flush(SECONDS)
    with consumer(bootstrap) as client:
        client.assign([TopicPartition(topic, 0)])
        client.seek(TopicPartition(topic, 0), 0)
        first, second, third = read(client, 3)[:3]
    assert (list(first.headers), first.timestamp) == (headers, timestamp)
    assert (second.key, second.value, third.value) == (b"", b"", None)


def test_reading_outside_the_log_is_an_error(bootstrap: str, topic: str) -> None:
    with consumer(bootstrap) as client:
        client.assign([TopicPartition(topic, 0)])
        client.seek(TopicPartition(topic, 0), 5)
        with pytest.raises(OffsetOutOfRangeError):
            read(client, 1)


def test_a_record_too_large_is_an_error(bootstrap: str, topic: str) -> None:
    with (
        KafkaProducer(bootstrap_servers=bootstrap, max_request_size=1 << 22) as producer,
        pytest.raises(MessageSizeTooLargeError),
    ):
        producer.send(topic, b"x" * 2_000_000).get(SECONDS)


def test_a_group_resumes_where_it_committed(bootstrap: str, topic: str) -> None:
    group = fresh("group")
    with KafkaProducer(bootstrap_servers=bootstrap) as producer:
        for n in range(20):
            producer.send(topic, b"%d" % n)
        producer.flush(SECONDS)
        options = {"group_id": group, "auto_offset_reset": "earliest", "max_poll_records": 5}
        first = KafkaConsumer(
            topic, bootstrap_servers=bootstrap, enable_auto_commit=False, **options
        )
        assert [r.value for r in read(first, 5)][:5] == [b"0", b"1", b"2", b"3", b"4"]
        first.commit({TopicPartition(topic, 0): OffsetAndMetadata(5, "", -1)})
        first.close()
        second = KafkaConsumer(
            topic, bootstrap_servers=bootstrap, enable_auto_commit=False, **options
        )
        assert read(second, 15)[0].value == b"5"
        second.close()


# kafka-python forgets a socket of a member that was put out of its group and is closed meanwhile
@pytest.mark.filterwarnings(
    "ignore:Exception ignored in. <socket:pytest.PytestUnraisableExceptionWarning"
)
def test_two_consumers_share_a_topic(bootstrap: str, peer: Peer) -> None:
    name, group = new_topic(peer, "shared", partitions=4), fresh("group")
    shares: dict[int, int] = {}
    done = threading.Event()

    def join() -> KafkaConsumer:
        return KafkaConsumer(
            name, bootstrap_servers=bootstrap, group_id=group, session_timeout_ms=6000,
            heartbeat_interval_ms=300, auto_offset_reset="earliest",
        )  # fmt: skip

    def consume(number: int) -> None:
        client, held = join(), time.monotonic()
        while not done.is_set():
            client.poll(100)
            shares[number] = len(client.assignment())
            held = time.monotonic() if shares[number] else held
            if time.monotonic() - held > 8:
                # kafka-python sometimes never joins again once it was put out: start anew
                client.close()
                client, held = join(), time.monotonic()
        client.close()

    members = [threading.Thread(target=consume, args=(n,)) for n in range(2)]
    for member in members:
        member.start()
    until = time.monotonic() + 3 * SECONDS
    while shares != {0: 2, 1: 2} and time.monotonic() < until:
        time.sleep(0.05)
    got = dict(shares)
    done.set()
    for member in members:
        member.join(SECONDS)
    gc.collect()  # what it forgot goes here, and not in a later test
    assert got == {0: 2, 1: 2}


@quick
def test_the_admin_client_creates_lists_and_deletes_topics(bootstrap: str) -> None:
    name = fresh("admin")
    admin = KafkaAdminClient(bootstrap_servers=bootstrap)
    try:
        made = admin.create_topics(
            [NewTopic(name=name, num_partitions=3, replication_factor=1,
                      topic_configs={"retention.ms": "60000"})]
        )["topics"][0]  # fmt: skip
        eventually(lambda: name in admin.list_topics())
        found = admin.describe_topics([name])[0]
        assert (str(found["topic_id"]), len(found["partitions"])) == (made["topic_id"], 3)
        admin.delete_topics([name])
        eventually(lambda: name not in admin.list_topics())
        assert admin.describe_cluster()["brokers"]
    finally:
        admin.close()


def test_no_client_of_ours_waits_long_for_metadata(bootstrap: str) -> None:
    settings = Settings(kafka_bootstrap=bootstrap)
    with (
        kafka_client.producer(settings) as producer,
        kafka_client.consumer(settings) as consumer,
        kafka_client.admin(settings) as admin,
    ):
        clusters = (producer._metadata, consumer._cluster, admin._manager.cluster)
        waits = {cluster.refresh_backoff() for cluster in clusters}
    assert waits == {kafka_client.RETRY_MS}
