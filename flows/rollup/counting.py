"""The counting of the release that serves, as the control state has it."""

from __future__ import annotations

import logging
from typing import Final

import msgspec

from infra.settings import Settings
from infra.store.redis_client import Client
from schemas.control import CURRENT, HELD_DECODER, Current, Released
from schemas.state.counting import BUILT_IN, FORMAT_1, Counting

log = logging.getLogger(__name__)
_CURRENT: Final = msgspec.json.Decoder(Current)
_RELEASED: Final = msgspec.json.Decoder(Released)


class LiveCounting:
    """The counting as read last. A state that cannot be read changes nothing, and is logged once."""

    def __init__(self, settings: Settings, client: Client) -> None:
        self._redis, self._state = client, settings.keyspace.control_state()
        self._counting = BUILT_IN
        self._current: bytes | None = None
        self._released: bytes | None = None
        self._release = ""

    def read(self) -> Counting:
        """The counting of the release that serves now: `BUILT_IN` where none does, `FORMAT_1` where it names
        none. One request, and one more when another release serves. Errors: Redis's."""
        current, released = self._redis.hmget(self._state, [CURRENT, f"release:{self._release}"])
        if (current, released) == (self._current, self._released):
            return self._counting
        try:
            self._release = _release_of(current)
            released = self._redis.hget(self._state, f"release:{self._release}")
            self._counting = _counting_of(released) if self._release else BUILT_IN
        except (msgspec.MsgspecError, ValueError) as error:
            log.warning(
                "the release that serves cannot be read, lists stay as they are: %s",
                type(error).__name__,
            )
        self._current, self._released = current, released
        return self._counting


def _release_of(current: bytes | None) -> str:
    """ "" where none serves."""
    if current is None:
        return ""
    return _CURRENT.decode(HELD_DECODER.decode(current).body).release


def _counting_of(released: bytes | None) -> Counting:
    """Errors: ValueError where there is no such release, or its counting is none."""
    if released is None:
        raise ValueError("no such release")
    counting = _RELEASED.decode(HELD_DECODER.decode(released).body).counting
    if counting is None:
        return FORMAT_1
    if counting.fault:
        raise ValueError(counting.fault)
    return counting
