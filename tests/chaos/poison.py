"""Records that no fold can take, put straight into the topic, each in the ledger."""

from __future__ import annotations

import random
import threading
from pathlib import Path
from typing import Any, Final

from kafka import KafkaProducer
from kafka.errors import KafkaError

from infra.kafka import kafka_client
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.topics import EVENTS
from tests.chaos.crowd import Crowd
from tests.chaos.ledger import Acknowledged, Ledger, Sent

EVERY: Final = 0.5
SEND_SECONDS: Final = 20.0


class Poisoner(threading.Thread):
    """One every half second, and `burst` when asked."""

    def __init__(self, settings: Settings, crowd: Crowd, ledgers: Path) -> None:
        super().__init__(name="poison", daemon=True)
        self._producer: KafkaProducer = kafka_client.producer(
            settings, delivery_timeout_ms=15_000, request_timeout_ms=5000
        )
        self._partitions, self._crowd = settings.partitions, crowd
        self._topic = broker_name(settings, EVENTS.name)
        self._ledger = Ledger(ledgers, self.name)
        self._random = random.Random(f"poison {crowd.seed}")
        self._lock, self._over = threading.Lock(), threading.Event()
        self._number = 0

    @property
    def sent(self) -> int:
        return self._number

    def run(self) -> None:
        while not self._over.wait(EVERY):
            self.burst(1)

    def burst(self, count: int) -> None:
        """So many at once; returns when the broker has them, or will not."""
        with self._lock:
            first, self._number = self._number, self._number + count
            numbers = range(first, first + count)
            for n in numbers:
                self._ledger.write(Sent(request=n, what="poison", first=n, count=1))
            try:
                futures = [self._send(n) for n in numbers]
            except KafkaError:
                return  # nothing was promised
            for n, future in zip(numbers, futures, strict=True):
                try:
                    future.get(SEND_SECONDS)
                except KafkaError:
                    continue
                self._ledger.write(Acknowledged(request=n, durable="broker"))

    def _send(self, number: int) -> Any:
        return self._producer.send(
            self._topic,
            key=b"poison",
            value=self._crowd.poison(number),
            partition=self._random.randrange(self._partitions),
        )

    def finish(self) -> None:
        self._over.set()
        self.join()
        self._producer.close(5)
        self._ledger.close()
