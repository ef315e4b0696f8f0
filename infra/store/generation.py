"""The live generation of what is made of `events` (`schemas.keys`): flows and serving follow it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from infra.settings import Settings
from infra.store import redis_client
from infra.store.redis_client import Client
from schemas.errors import ConfigurationError
from schemas.keys import Keyspace

log = logging.getLogger(__name__)
POLL_SECONDS: Final = 0.25
"""How long after a swap the flows of the generation before it may go on."""


class BadGeneration(ConfigurationError):
    """The pointer to the live generation in Redis is no number."""


def live(client: Client, keyspace: Keyspace) -> int:
    """The number of the live generation. Errors: `BadGeneration`; Redis's own."""
    held = client.get(keyspace.live())
    try:
        return int(held or 0)
    except ValueError:
        raise BadGeneration(
            f"{keyspace.live().decode()} in Redis is no generation",
            remedy="set it to the number of the generation that is live",
        ) from None


def live_keys(client: Client, settings: Settings) -> Keyspace:
    """The keys of the generation that is live. Errors: as `live`."""
    return settings.keyspace.in_generation(live(client, settings.keyspace))


@contextmanager
def until_moved(
    settings: Settings, generation: int, stop_asked: threading.Event
) -> Iterator[threading.Event]:
    """An event that is set once `stop_asked` is, or another generation is live. A thread asks Redis."""
    stop, closed = threading.Event(), threading.Event()
    keyspace = settings.keyspace.in_generation(generation)

    def poll() -> None:
        with redis_client.connect(settings) as client:
            while not (stop_asked.is_set() or closed.is_set() or _moved(client, keyspace)):
                stop_asked.wait(POLL_SECONDS)
        stop.set()

    thread = threading.Thread(target=poll, name="generation", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        closed.set()
        thread.join()


def _moved(client: Client, keyspace: Keyspace) -> bool:
    generation = keyspace.generation
    try:
        now = live(client, keyspace)
    except redis.RedisError:
        return False  # the flow reports it itself
    if now != generation:
        log.info("generation %d is live instead of %d", now, generation)
    return now != generation
