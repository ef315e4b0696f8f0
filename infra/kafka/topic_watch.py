"""Whether a topic is still the one of the start: once a new one has grown, only its id differs."""

from __future__ import annotations

import contextlib
import threading
from typing import Final

from kafka import KafkaAdminClient
from kafka.errors import KafkaError

from infra.kafka import kafka_client
from infra.kafka.kafka_client import TopicInfo
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.errors import FreshetError

TIMEOUT_MS: Final = 1000
POLL_SECONDS: Final = 2.0
"""How long a flow may read a recreated topic before the watch sees it."""


class TopicWatch:
    """Asks the broker in a thread. `other`: the topic that replaced `was`; None while it is the same."""

    def __init__(self, settings: Settings, topic: str, was: TopicInfo) -> None:
        self.other: TopicInfo | None = None
        self._settings, self._name, self._was = settings, broker_name(settings, topic), was
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._run, name="topic", daemon=True)
        self._thread.start()

    def close(self) -> None:
        self._stop.set()
        self._thread.join()

    def _run(self) -> None:
        client: KafkaAdminClient | None = None
        while self.other is None and not self._stop.wait(POLL_SECONDS):
            # where the broker is away, the flow itself reports it
            with contextlib.suppress(KafkaError, OSError, FreshetError):
                # one client for good: a client that finds no broker leaks a thread
                client = client or self._client()
                found = kafka_client.describe(client, [self._name]).get(self._name, self._was)
                self.other = found if found != self._was else None
        if client is not None:
            client.close()

    def _client(self) -> KafkaAdminClient:
        return kafka_client.admin_client(
            self._settings,
            # a flow that ends waits for this request
            bootstrap_timeout_ms=TIMEOUT_MS,
            request_timeout_ms=TIMEOUT_MS,
        )
