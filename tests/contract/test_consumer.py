"""The flows' own fetch, against both brokers: every record once, whatever lies in the log or befalls it."""

from __future__ import annotations

import time
from collections import defaultdict
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

import pytest
from kafka import KafkaProducer, TopicPartition
from kafka.errors import (
    LogTruncationError,
    OffsetOutOfRangeError,
    TransactionalIdAuthorizationFailedError,
)

from flows.kit.source import Reader
from infra.kafka import kafka_client
from infra.kafka.consume import log_bounds, wire
from infra.kafka.consume.consumer import Consumer
from infra.kafka.names import broker_name
from infra.local import services
from infra.local.apache_kafka import ApacheKafka
from infra.settings import Settings
from schemas.topics import EVENTS
from tests.contract.conftest import USERS, Embedded, new_topic, quick
from tests.contract.raw import Peer, batch, eventually, fresh
from tests.contract.test_fetch import cut
from tests.contract.test_recreated import recreate
from tests.support.certificates import Authority

SECONDS = 30.0
Read = dict[int, list[bytes | None]]


@contextmanager
def reading(bootstrap: str, topic: str, *offsets: int) -> Iterator[Consumer]:
    """A consumer of partitions 0, 1, … from these offsets on."""
    with closing(Consumer(Settings(kafka_bootstrap=bootstrap), topic, 1000)) as made:
        for p, offset in enumerate(offsets):
            made.seek(p, offset)
        yield made


def read(made: Consumer, count: int) -> Read:
    """The values of so many records or more, by partition."""
    found: Read = defaultdict(list)
    until = time.monotonic() + SECONDS
    while sum(map(len, found.values())) < count:
        assert time.monotonic() < until
        for p, pieces in made.poll(0.1).items():
            for records in pieces:
                found[p] += records.values
    return found


@quick
def test_batches_of_every_codec_are_read_from_within(
    bootstrap: str, peer: Peer, topic: str
) -> None:
    values = [b"%d" % n for n in range(200)]
    for n, codec in enumerate((0, 1, 3, 4)):
        assert peer.code(topic, batch(values[50 * n : 50 * n + 50], codec=codec)) == 0
    with reading(bootstrap, topic, 7) as made:
        assert read(made, 193) == {0: values[7:]}
        assert made.position(0) == 200
        made.seek(0, 199)
        assert read(made, 1) == {0: values[199:]}


@quick
def test_a_batch_larger_than_an_answer_is_read_and_no_partition_starves(
    bootstrap: str, peer: Peer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(wire, "MAX_PARTITION_BYTES", 100)
    monkeypatch.setattr(wire, "MAX_BYTES", 150)
    name = new_topic(peer, "large", partitions=3)
    for _ in range(5):
        for p in range(3):
            assert peer.produce(name, batch([b"x" * 1000]), p).error_code == 0
    with reading(bootstrap, name, 0, 0, 0) as made:
        assert read(made, 15) == {p: [b"x" * 1000] * 5 for p in range(3)}


@quick
def test_a_fetch_that_waits_brings_the_first_record_and_delays_no_seek(
    bootstrap: str, peer: Peer
) -> None:
    name = new_topic(peer, "waits", partitions=2)
    assert peer.produce(name, batch([b"old"]), 1).error_code == 0
    with reading(bootstrap, name, 0) as made:
        eventually(lambda: made.poll(0.01) == {} and made.requests > 0)
        assert peer.produce(name, batch([b"new"])).error_code == 0
        assert read(made, 1) == {0: [b"new"]}
        eventually(lambda: made.poll(0.01) == {} and made.requests > 1)
        made.seek(1, 0)  # while a request for partition 0 waits
        assert read(made, 1) == {1: [b"old"]}
        made.drop(1)
        made.pause(0)
        assert peer.produce(name, batch([b"last"])).error_code == 0
        assert made.poll(0.1) == {}
        made.resume(0)
        assert read(made, 1) == {0: [b"last"]}


@quick
def test_off_the_log_is_an_error(bootstrap: str, peer: Peer, topic: str) -> None:
    for _ in range(3):
        assert peer.code(topic, batch([b"x"] * 4)) == 0
    assert cut(peer, topic, 6) == (0, 6)
    for offset in (5, 13):
        with reading(bootstrap, topic, offset) as made:
            with pytest.raises(OffsetOutOfRangeError) as raised:
                read(made, 1)
            assert raised.value.args == ({TopicPartition(topic, 0): offset},)
    settings = Settings(kafka_bootstrap=bootstrap)
    assert log_bounds.bounds(settings, topic, [0], SECONDS) == {0: (6, 12)}


@quick
def test_a_topic_that_is_not_there_is_waited_for(bootstrap: str, peer: Peer) -> None:
    name = fresh("later")
    with reading(bootstrap, name, 0) as made:
        assert made.poll(0.1) == {}
        assert peer.create(name, 1, 1) == 0
        eventually(lambda: peer.code(name, batch([b"x"])) == 0)
        assert read(made, 1) == {0: [b"x"]}


@quick
def test_a_reader_of_a_recreated_topic_is_off_the_log(
    bootstrap: str, peer: Peer, topic: str
) -> None:
    for _ in range(5):
        assert peer.code(topic, batch()) == 0
    with reading(bootstrap, topic, 0) as made:
        read(made, 5)
        recreate(peer, topic)
        assert peer.code(topic, batch()) == 0
        # Apache Kafka sees first that it is another log
        with pytest.raises((OffsetOutOfRangeError, LogTruncationError)):
            read(made, 1)


def test_marks_of_transactions_are_passed_over_and_batches_chain(
    bootstrap: str, topic: str
) -> None:
    with KafkaProducer(bootstrap_servers=bootstrap, transactional_id=fresh("id")) as producer:
        try:
            producer.init_transactions()
        except TransactionalIdAuthorizationFailedError:
            pytest.skip("the embedded broker has no transactions")
        for n in range(3):
            producer.begin_transaction()
            producer.send(topic, b"%d" % n).get(SECONDS)
            producer.commit_transaction()
    with reading(bootstrap, topic, 0) as made:
        assert read(made, 3) == {0: [b"0", b"1", b"2"]}
        eventually(lambda: made.poll(0.01) == {} and made.position(0) == 6)
    settings = Settings(kafka_bootstrap=bootstrap, batch=1)
    with closing(Reader(settings, topic, until_end=True)) as reader:
        reader.assign({0: 0})
        spans = []
        with suppress(StopIteration):  # the end is a mark
            while True:
                for it in reader.next():
                    spans.append((it.first, it.offsets, it.next))
                    reader.committed(0)
    assert spans == [(0, [0], 1), (1, [2], 3), (3, [4], 5)]


@quick
def test_a_broker_that_is_killed_and_comes_back_is_read_on(embedded: Embedded) -> None:
    bootstrap = embedded.start()
    with Peer(bootstrap) as peer:
        name = new_topic(peer, "killed")
        assert peer.code(name, batch([b"before"])) == 0
    with reading(bootstrap, name, 0) as made:
        assert read(made, 1) == {0: [b"before"]}
        made.poll(0.01)
        embedded.stop(kill=True)
        for _ in range(5):
            assert made.poll(0.02) == {}
        port = int(bootstrap.rsplit(":", 1)[1])
        embedded.start(port)
        with Peer(bootstrap) as peer:
            assert peer.code(name, batch([b"after"])) == 0
        assert read(made, 1) == {0: [b"after"]}


def test_sasl_over_tls_reads(secured: ApacheKafka, authority: Authority) -> None:
    settings = Settings(
        kafka_bootstrap=f"{services.HOST}:{secured.port}",
        kafka_security_protocol="SASL_SSL",
        kafka_ssl_cafile=str(authority.path),
        kafka_sasl_mechanism="SCRAM-SHA-512",
        kafka_sasl_username="freshet",
        kafka_sasl_password=USERS["freshet"],
        topic_prefix=f"{fresh('secret')}.",
    )
    kafka_client.ensure_topics(settings)
    name = broker_name(settings, EVENTS.name)
    with closing(kafka_client.producer(settings)) as producer:
        for n in range(100):
            producer.send(name, b"%d" % n, partition=0)
        producer.flush(SECONDS)
    with closing(Consumer(settings, name, 1000)) as made:
        made.seek(0, 0)
        assert read(made, 100) == {0: [b"%d" % n for n in range(100)]}
