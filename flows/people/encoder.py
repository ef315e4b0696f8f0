"""Follows the current release, whose encoder makes people's vectors.

Vectors are a cache (law 4): the moment at which the release changes does not depend on the log, and nothing
waits for it.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Final

import msgspec

from infra.store.redis_client import Client
from models.release.person import Encoder
from models.release.release import Release
from schemas.control import CURRENT, HELD_DECODER, Current, Released, release_order
from schemas.keys import Keyspace

log = logging.getLogger(__name__)
POLL_SECONDS: Final = 2.0
RETRY_SECONDS: Final = 30.0
"""A release that could not be loaded is tried again after this: its files may still arrive."""

Load = Callable[[Path, str], Release]
"""(directory, SHA-256 of its manifest in `control`, or "") -> release. Errors: any, for a broken release."""


class CurrentRelease:
    """The encoder of the release that `control` names, loaded from `directory`/<release>.

    A new release is loaded in a background thread. A release that cannot be loaded is logged once, and the
    one before it stays in use.
    """

    def __init__(
        self,
        client: Client,
        keyspace: Keyspace,
        directory: Path,
        load: Load,
        poll_seconds: float = POLL_SECONDS,
        retry_seconds: float = RETRY_SECONDS,
    ) -> None:
        self._redis, self._directory, self._load = client, directory, load
        self._state = keyspace.control_state()
        self._poll_seconds, self._retry_seconds = poll_seconds, retry_seconds
        self._threads = ThreadPoolExecutor(1, "release")
        self._loading: Future[Encoder] | None = None
        self._named = self._logged = ""
        self._polled_at, self._failed = -poll_seconds, math.inf
        self._encoder: Encoder | None = None

    def encoder(self) -> Encoder | None:
        """The encoder in use, or None; reads Redis every `poll_seconds`. Errors: Redis's."""
        now = time.monotonic()
        if now - self._polled_at >= self._poll_seconds:
            self._polled_at = now
            self._poll(now)
        if self._loading is not None and self._loading.done():
            loaded, self._loading = self._loading, None
            self._finish_loading(loaded, now)
        return self._encoder

    def _poll(self, now: float) -> None:
        named = _current(self._redis.hget(self._state, CURRENT.encode()))
        if named == self._named and now - self._failed < self._retry_seconds:
            return
        self._named, self._failed, self._loading = named, math.inf, None
        if named:
            published = self._redis.hget(self._state, f"release:{named}".encode())
            self._loading = self._threads.submit(self._load_encoder, named, _sha256(published))
        else:
            self._encoder = None

    def _load_encoder(self, release: str, sha256: str) -> Encoder:
        release_order(release)  # an invalid name must not become a path
        return Encoder(release, self._load(self._directory / release, sha256).space)

    def _finish_loading(self, loaded: Future[Encoder], now: float) -> None:
        error = loaded.exception()  # broken files make a library raise anything
        if error is None:
            self._encoder = loaded.result()
            log.info("people's vectors are made by release %s", self._named)
            return
        self._failed = now
        if self._logged != self._named:
            log.warning("release %s cannot be loaded: %s", self._named, error)
            self._logged = self._named

    def close(self) -> None:
        self._threads.shutdown(wait=False, cancel_futures=True)


def _current(held: bytes | None) -> str:
    """Id of the release; "" where there is none, or where the value cannot be read."""
    with suppress(msgspec.MsgspecError):
        if held:
            return msgspec.json.decode(_body(held), type=Current).release
    return ""


def _sha256(held: bytes | None) -> str:
    """SHA-256 of the release's manifest, as published; "" where it is unknown."""
    with suppress(msgspec.MsgspecError):
        if held:
            return msgspec.json.decode(_body(held), type=Released).manifest_sha256
    return ""


def _body(held: bytes) -> str:
    return HELD_DECODER.decode(held).body
