"""Where partitions end, by the broker, for whoever tells how far behind it somebody is.

A count of one's own freezes with its process at whatever it was; this asks, at most once a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from kafka import KafkaConsumer
from kafka.errors import KafkaError

from infra.kafka import kafka_client
from infra.kafka.names import topic_partition
from infra.settings import Settings

log = logging.getLogger(__name__)
MAX_AGE_SECONDS: Final = 1.0
"""So old an answer is given again."""
TIMEOUT_SECONDS: Final = 1.0
"""How long a broker has to answer."""
Place = tuple[str, int]
"""Topic and partition."""


class EndOffsets:
    """Of these partitions by topic. Safe in any thread; connects when first asked."""

    def __init__(self, settings: Settings, partitions: Mapping[str, Sequence[int]]) -> None:
        self._settings = settings
        self._places = {
            topic_partition(settings, topic, p): (topic, p)
            for topic, its in partitions.items()
            for p in its
        }
        self._lock = threading.Lock()
        self._consumer: KafkaConsumer | None = None
        self._asked_at = float("-inf")
        self._held: dict[Place, int] | None = None

    def get(self) -> dict[Place, int] | None:
        """The offset that the next record gets, by place; None where the broker does not say."""
        with self._lock:
            if time.monotonic() - self._asked_at > MAX_AGE_SECONDS:
                self._held = self._ask()
                self._asked_at = time.monotonic()
            return self._held

    def _ask(self) -> dict[Place, int] | None:
        wait = int(TIMEOUT_SECONDS * 1000)
        try:
            if self._consumer is None:
                self._consumer = kafka_client.consumer(self._settings, bootstrap_timeout_ms=wait)
            ends = self._consumer.end_offsets(list(self._places), timeout_ms=wait)
        except (KafkaError, OSError, ValueError) as error:
            log.debug("the broker does not say where its log ends: %s", type(error).__name__)
            return None
        return {place: int(ends[it]) for it, place in self._places.items() if it in ends}

    def close(self) -> None:
        with self._lock:
            if self._consumer is not None:
                self._consumer.close()
                self._consumer = None
