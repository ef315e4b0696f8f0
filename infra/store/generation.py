"""Which generation of what is made of `events` is live (`schemas.keys`): flows and serving follow it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

import redis

from infra.settings import Settings
from infra.store import client as store
from infra.store.client import Client
from schemas import keys
from schemas.errors import ConfigurationError

log = logging.getLogger(__name__)
LOOK_SECONDS: Final = 0.25
"""How long after a swap the flows of the generation before it end."""


class BadGeneration(ConfigurationError):
    """What Redis holds in the place of the live generation's number is none."""


def live(client: Client) -> int:
    """Errors: `BadGeneration` where the pointer is no number; Redis's own."""
    held = client.get(keys.LIVE)
    try:
        return int(held or 0)
    except ValueError:
        raise BadGeneration(
            f"{keys.LIVE.decode()} in Redis is no generation",
            remedy="set it to the one that is live",
        ) from None


@contextmanager
def until_moved(
    settings: Settings, generation: int, asked: threading.Event
) -> Iterator[threading.Event]:
    """An event that is set once `asked` is, or another generation is live. Looks in a thread."""
    stop, left = threading.Event(), threading.Event()

    def look() -> None:
        with store.connect(settings) as client:
            while not (asked.is_set() or left.is_set() or _moved(client, generation)):
                asked.wait(LOOK_SECONDS)
        stop.set()

    thread = threading.Thread(target=look, name="generation", daemon=True)
    thread.start()
    try:
        yield stop
    finally:
        left.set()
        thread.join()


def _moved(client: Client, generation: int) -> bool:
    try:
        now = live(client)
    except redis.RedisError:
        return False  # the flow will say so itself
    if now != generation:
        log.info("generation %d is live instead of %d", now, generation)
    return now != generation
