"""The Kafka producer of a serving process: it never gives up a record, and ends without a last attempt."""

from __future__ import annotations

import contextlib
import time
from typing import Final

from kafka import KafkaProducer
from kafka.errors import KafkaError, KafkaTimeoutError

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.topics import TOPICS

DELIVERY_TIMEOUT_MS: Final = 5000
"""After this long without an acknowledgement a record has failed."""
JOIN_TIMEOUT_SECONDS: Final = 2.0


def discard(producer: KafkaProducer) -> None:
    """Ends a producer without another attempt to send its records."""
    # `close(0)` first waits for the requests in flight, and raises before it ends anything
    producer._sender.force_close()
    producer._sender.wakeup()
    producer._sender.join(JOIN_TIMEOUT_SECONDS)
    with contextlib.suppress(KafkaError):
        producer.close(0)


def open_producer(settings: Settings, timeout_seconds: float) -> KafkaProducer:
    """A producer that has the metadata of every topic. Errors: `KafkaError` where it has not got them within
    `timeout_seconds`."""
    producer = kafka_client.producer(
        settings,
        # 3 ms: half the CPU of 0 at a thousand requests a second
        linger_ms=3,
        # a request of 1,000 events is one batch a partition, not five sequential round trips
        batch_size=256 * 1024,
        request_timeout_ms=DELIVERY_TIMEOUT_MS - 1000,
        # never: later records would overtake a record that the producer gives up
        delivery_timeout_ms=3_600_000,
        retry_backoff_ms=50,
        reconnect_backoff_max_ms=500,
        bootstrap_timeout_ms=int(1000 * timeout_seconds),
        # without metadata `send` blocks, and the event loop with it
        max_block_ms=100,
    )
    deadline = time.monotonic() + timeout_seconds
    names = [broker_name(settings, topic.name) for topic in TOPICS]
    # one answer of the broker has them all: kafka-python asks for metadata once in 100 ms at most
    for name in names:
        producer._sender.add_topic(name)
    try:
        for name in names:
            _fetch_metadata(producer, name, deadline)
    except KafkaError:
        discard(producer)
        raise
    return producer


def _fetch_metadata(producer: KafkaProducer, name: str, deadline: float) -> None:
    """Returns once the producer has the partitions of a topic. Errors: `KafkaError`."""
    while True:
        try:
            producer.partitions_for(name)
            return
        except KafkaTimeoutError:
            if time.monotonic() > deadline:
                raise
