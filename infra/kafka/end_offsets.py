"""End offsets of partitions as the broker says, from which consumer lag is computed.

A count that a process keeps itself freezes with the process; this asks the broker, at most once a second.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Mapping, Sequence
from typing import Final

from kafka.errors import KafkaError

from infra.kafka.consume.log_bounds import LATEST, LogBounds
from infra.kafka.names import broker_name
from infra.kafka.security import KafkaSecurityError
from infra.settings import Settings

log = logging.getLogger(__name__)
MAX_AGE_SECONDS: Final = 1.0
"""The age up to which an answer is given again."""
TIMEOUT_SECONDS: Final = 1.0
"""How long a broker has to answer."""
Place = tuple[str, int]
"""Topic and partition."""


class EndOffsets:
    """End offsets of `partitions`, topic -> partitions. Safe in any thread; connects at the first `get`."""

    def __init__(self, settings: Settings, partitions: Mapping[str, Sequence[int]]) -> None:
        self._places = {
            (broker_name(settings, topic), p): (topic, p)
            for topic, numbers in partitions.items()
            for p in numbers
        }
        self._lock = threading.Lock()
        self._bounds = LogBounds(settings, list(self._places))
        self._asked_at = float("-inf")
        self._held: dict[Place, int] | None = None

    def get(self) -> dict[Place, int] | None:
        """Place -> the offset that the next record gets; None where the broker does not answer."""
        with self._lock:
            if time.monotonic() - self._asked_at > MAX_AGE_SECONDS:
                self._held = self._ask()
                self._asked_at = time.monotonic()
            return self._held

    def ask(self) -> dict[Place, int] | None:
        """As `get`, of a request that begins after this call: no record acknowledged before it is missed."""
        with self._lock:
            return self._ask()

    def _ask(self) -> dict[Place, int] | None:
        try:
            end_offsets = self._bounds.ask(LATEST, TIMEOUT_SECONDS)
        except (KafkaError, KafkaSecurityError) as error:
            log.debug("the broker does not say where its log ends: %s", type(error).__name__)
            return None
        return {self._places[it]: end for it, end in end_offsets.items()}

    def close(self) -> None:
        with self._lock:
            self._bounds.close()
