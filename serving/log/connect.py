"""A serving process's producer: made so that it never gives up, ended without another try."""

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
JOIN_SECONDS: Final = 2.0


def discard(producer: KafkaProducer) -> None:
    """Ends a producer without another try for what it holds."""
    # `close(0)` first waits for what is under way, and raises before it ends anything
    producer._sender.force_close()
    producer._sender.wakeup()
    producer._sender.join(JOIN_SECONDS)
    with contextlib.suppress(KafkaError):
        producer.close(0)


def open_producer(settings: Settings, seconds: float) -> KafkaProducer:
    """Errors: `KafkaError` where it knows nothing of the topics after so many seconds."""
    producer = kafka_client.producer(
        settings,
        # 3 ms: half the CPU of 0 at a thousand requests a second, and most of a wait of its own
        linger_ms=3,
        # a request of 1,000 events is one batch a partition, not five round trips one after another
        batch_size=256 * 1024,
        request_timeout_ms=DELIVERY_TIMEOUT_MS - 1000,
        # never: what a producer gives up, the records behind it would overtake
        delivery_timeout_ms=3_600_000,
        retry_backoff_ms=50,
        reconnect_backoff_max_ms=500,
        bootstrap_timeout_ms=int(1000 * seconds),
        # without metadata `send` blocks, and with it everybody on this event loop
        max_block_ms=100,
    )
    until = time.monotonic() + seconds
    try:
        for topic in TOPICS:
            _fetch_metadata(producer, broker_name(settings, topic.name), until)
    except KafkaError:
        discard(producer)
        raise
    return producer


def _fetch_metadata(producer: KafkaProducer, name: str, until: float) -> None:
    """Errors: `KafkaError`."""
    while True:
        try:
            producer.partitions_for(name)
            return
        except KafkaTimeoutError:
            if time.monotonic() > until:
                raise
