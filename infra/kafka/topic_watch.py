"""Whether a topic is still the one of the start: once a new one has grown, only its id differs."""

from __future__ import annotations

import threading
import time
from typing import Final

from kafka.errors import KafkaError

from infra.kafka.consume.connection import BlockingConnection
from infra.kafka.consume.leaders import metadata, open_any
from infra.kafka.kafka_client import TopicInfo
from infra.kafka.names import broker_name
from infra.settings import Settings
from schemas.errors import FreshetError

ANSWER_SECONDS: Final = 1.0
"""For an answer: a flow that ends waits for it."""
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
        connection: BlockingConnection | None = None
        while self.other is None and not self._stop.wait(POLL_SECONDS):
            try:
                if connection is None or time.monotonic() > connection.expires_at:
                    connection = self._opened(connection)
                found = self._described(connection)
                self.other = found if found != self._was else None
            except (KafkaError, OSError, EOFError, FreshetError):
                # where the broker is away, the flow itself reports it
                if connection is not None:
                    connection.close()
                connection = None
        if connection is not None:
            connection.close()

    def _opened(self, before: BlockingConnection | None) -> BlockingConnection:
        if before is not None:
            before.close()
        return open_any(self._settings)[1]

    def _described(self, connection: BlockingConnection) -> TopicInfo:
        """The topic as it is now; as it was where there is none."""
        (entry,) = metadata(connection, [self._name], ANSWER_SECONDS).topics
        if entry.error_code:
            return self._was
        return TopicInfo(str(entry.topic_id), len(entry.partitions))
