"""Partitions that a fault took out of a flow. Each comes back from its fence by itself; the others go on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Final

import redis
from kafka.errors import KafkaError

from flows.kit.resume import REBUILD_WAIT_SECONDS, HeldByRebuild, StateMismatch, rebuild_did_not_end
from infra.backoff import STABLE_SECONDS, Pauses
from infra.store import redis_client
from schemas.errors import FreshetError
from schemas.state.fences import Fence

log = logging.getLogger(__name__)
FIRST_PAUSE_SECONDS: Final = 0.05
MAX_PAUSE_SECONDS: Final = 2.0
MISMATCH_PAUSE_SECONDS: Final = 30.0
"""State that does not belong to the log is mended by an operator, and not soon."""
FAULTS: Final = (FreshetError, ValueError, redis.ResponseError)
"""What one partition's state, values and commit may raise; `redis_client.is_away` names what concerns all."""
Resumed = Callable[[int], Iterator[Fence | None]]
"""Starts a partition again, as `resume.resumed`."""


@dataclass
class _Outage:
    error: Exception | None
    """None: it has not started yet."""
    since: float
    due: float
    """When it is tried again, monotonic s."""
    steps: Iterator[Fence | None] | None = None


@dataclass
class _History:
    """Of a partition: a fault that comes again soon is not logged again, and its pause is longer."""

    pauses: Pauses = field(default_factory=lambda: Pauses(FIRST_PAUSE_SECONDS, MAX_PAUSE_SECONDS))
    back_at: float = 0.0
    logged: str = ""


class TakenOut:
    """The partitions of the flow `name` that are out."""

    def __init__(self, name: str, resumed: Resumed) -> None:
        self._name, self._resumed = name, resumed
        self._outages: dict[int, _Outage] = {}
        self._history: dict[int, _History] = {}

    def __contains__(self, partition: object) -> bool:
        return partition in self._outages

    def error(self, partition: int) -> Exception | None:
        """Why the partition is out; None where it is not, or only about to start."""
        outage = self._outages.get(partition)
        return outage.error if outage else None

    def mismatch_of_all(self, count: int) -> StateMismatch | None:
        """An error of those that are out, where that is all `count` of them and only an operator mends it."""
        if not self._outages:
            return None
        errors = [it.error for it in self._outages.values()]
        mismatches = [it for it in errors if isinstance(it, StateMismatch)]
        return mismatches[0] if len(mismatches) == count else None

    def start(self, partitions: Iterable[int]) -> None:
        """These start with the next `back`."""
        now = time.monotonic()
        for p in partitions:
            self._outages[p], self._history[p] = _Outage(None, now, now), _History()

    def add(self, partition: int, error: Exception) -> None:
        """Takes a partition out, for a pause that grows where it was out a moment ago."""
        now = time.monotonic()
        history = self._history.setdefault(partition, _History())
        if partition not in self._outages and now - history.back_at >= STABLE_SECONDS:
            history.pauses.reset()
            history.logged = ""
        pause = next(history.pauses)
        if isinstance(error, StateMismatch):
            pause = MISMATCH_PAUSE_SECONDS
        since = self._outages[partition].since if partition in self._outages else now
        self._outages[partition] = _Outage(error, since, now + pause)
        if history.logged != type(error).__name__:
            history.logged = type(error).__name__
            self._log(partition, error)

    def _log(self, partition: int, error: Exception) -> None:
        log.log(
            logging.WARNING if isinstance(error, HeldByRebuild) else logging.ERROR,
            "%s partition %d is out and tried again, the others go on: %s: %s",
            self._name,
            partition,
            type(error).__name__,
            error,
            exc_info=None if isinstance(error, FreshetError) else error,
        )

    def back(self) -> dict[int, Fence]:
        """Does a step of each partition that is due. Returns the fences of those that may go on.

        Errors: Redis's, where it is away.
        """
        if not self._outages:
            return {}
        now, fences = time.monotonic(), dict[int, Fence]()
        for partition, outage in list(self._outages.items()):
            if outage.due <= now and (fence := self._step(partition, outage)):
                del self._outages[partition]
                self._history[partition].back_at = now
                fences[partition] = fence
        return fences

    def _step(self, partition: int, outage: _Outage) -> Fence | None:
        if outage.steps is None:
            outage.steps = self._resumed(partition)
        try:
            return next(outage.steps)
        except (*FAULTS, KafkaError, OSError, EOFError) as error:
            if redis_client.is_away(error):
                raise
            lasted = time.monotonic() - outage.since
            if isinstance(error, HeldByRebuild) and lasted > REBUILD_WAIT_SECONDS:
                self.add(partition, rebuild_did_not_end(self._name, partition))
            else:
                self.add(partition, error)
            return None
