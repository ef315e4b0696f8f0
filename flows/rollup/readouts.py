"""Readouts of experiments, sent from the roll-up to the topic `experiments` every few seconds.

A readout is a view, not a fact: the last revision of an experiment wins. The next revision replaces a lost
one, so the roll-up never waits for a broker.
"""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec

from infra.settings import Settings
from infra.store.redis_client import Client
from models.aggregates.tables import Tables
from models.experiments.readout import readout, version_shown
from schemas.alphabet import Millis
from schemas.control import HELD_DECODER, Experiment, Held
from schemas.readouts import Readout
from schemas.state.tables import Meta
from schemas.topics import EXPERIMENTS, Topic

log = logging.getLogger(__name__)
RESEND_SECONDS: Final = 30.0
"""A running experiment is sent at least so often, changed or not, so that a new reader receives it."""
ACK_TIMEOUT_SECONDS: Final = 10.0
_PRODUCER: Final[dict[str, Any]] = {
    "linger_ms": 20,
    "bootstrap_timeout_ms": 3000,
    "max_block_ms": 5000,
}
Record = tuple[bytes, bytes, int]
"""Key, value, partition."""
_SUBJECT: Final = b"experiment:"
_EXPERIMENT: Final = msgspec.json.Decoder(Experiment)


class Sender:
    """Sends the newest value of each key in a background thread, so that `offer` never waits.

    A value that the broker does not take is logged, counted in `failed`, and not sent again.
    """

    def __init__(self, settings: Settings, topic: Topic = EXPERIMENTS) -> None:
        self.sent, self.failed = 0, 0
        self._settings, self._topic = settings, topic
        self._offered: dict[bytes, Record] = {}
        self._changed = threading.Condition()
        self._closing = False
        self._thread: threading.Thread | None = None
        self._producer: Any = None

    def offer(
        self, name: bytes, value: bytes, key: bytes | None = None, partition: int = 0
    ) -> None:
        """`name`: a later value of the same one replaces this; it is the record's key where none is given."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._run, name=self._topic.name, daemon=True)
            self._thread.start()
        with self._changed:
            self._offered[name] = (name if key is None else key, value, partition)
            self._changed.notify()

    def close(self, seconds: float) -> None:
        """Sends the offered values, unless the broker takes longer than `seconds`."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join(seconds)

    def _run(self) -> None:
        while (batch := self._wait_for_offers()) is not None:
            try:
                self._send(batch)
                self.sent += len(batch)
            except Exception as error:  # the client may raise anything: the next revision follows
                self.failed += len(batch)
                log.warning("%s were not sent: %s", self._topic.name, type(error).__name__)
                self._close_producer()
        self._close_producer()

    def _wait_for_offers(self) -> dict[bytes, Record] | None:
        """Waits for offered values and returns them; None once it is closed."""
        with self._changed:
            self._changed.wait_for(lambda: self._offered or self._closing)
            taken, self._offered = self._offered, {}
        return taken or None

    def _send(self, batch: dict[bytes, Record]) -> None:
        # a roll-up without experiments needs no broker
        from infra.kafka import kafka_client
        from infra.kafka.names import broker_name

        if self._producer is None:
            self._producer = kafka_client.producer(self._settings, **_PRODUCER)
        name = broker_name(self._settings, self._topic.name)
        futures = [
            self._producer.send(name, value, key, list(self._topic.headers), partition)
            for key, value, partition in batch.values()
        ]
        for future in futures:
            future.get(ACK_TIMEOUT_SECONDS)

    def _close_producer(self) -> None:
        """Closes the producer: an idempotent producer may not recover from a failure."""
        if self._producer is not None:
            self._producer.close(timeout=1)
            self._producer = None


class Readouts:
    """Remembers the last readout of each experiment, and sends the due ones. `clock`: monotonic, s."""

    def __init__(
        self, settings: Settings, client: Client, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self.sender = Sender(settings)
        self._redis, self._clock = client, clock
        self._state = settings.keyspace.control_state()
        self._every = settings.readout_seconds
        self._next = float("-inf")
        self._sent: dict[str, tuple[object, float]] = {}
        self._unreadable: set[bytes] = set()

    def step(self, tables: Tables, meta: Meta, as_of: Millis, *, now: bool = False) -> int:
        """Sends the readouts that are due of `tables`, which were published as `meta`. Returns how many.

        `as_of`: time of the tables, ms; `now`: send before the interval is over. Errors: Redis's.
        """
        if not now and self._clock() < self._next:
            return 0
        self._next = self._clock() + self._every
        found = list(self._due_of(tables, meta, as_of))
        for record in found:
            self.sender.offer(record.experiment_id.encode(), msgspec.json.encode(record))
        return len(found)

    def close(self, seconds: float = 1.0) -> None:
        self.sender.close(seconds)

    def _due_of(self, tables: Tables, meta: Meta, as_of: Millis) -> Iterator[Readout]:
        for identifier, held, experiment in self._experiments():
            counted = tables.moments.versions(identifier)
            version = version_shown(held.version, experiment.running, counted)
            moments = tables.moments.of(identifier, version)
            state = (version, held.body, moments.tobytes())
            before, at = self._sent.get(identifier, (None, 0.0))
            due_again = experiment.running and self._clock() - at >= RESEND_SECONDS
            if state != before or due_again:
                self._sent[identifier] = (state, self._clock())
                yield readout(
                    identifier, version, experiment, moments, meta.positions, meta.version, as_of
                )

    def _experiments(self) -> Iterator[tuple[str, Held, Experiment]]:
        for name, value in sorted(self._redis.hgetall(self._state).items()):
            if not name.startswith(_SUBJECT):
                continue
            try:
                held = HELD_DECODER.decode(value)
                experiment = _EXPERIMENT.decode(held.body)
            except msgspec.MsgspecError as error:
                if value not in self._unreadable:
                    self._unreadable.add(value)
                    log.warning("an experiment cannot be decoded: %s", type(error).__name__)
                continue
            yield name.removeprefix(_SUBJECT).decode(), held, experiment
