"""Idempotency-Key: what a caller said with a key stays with it for a day, so another body is noticed."""

from __future__ import annotations

import asyncio
import hashlib
from typing import Any, Final

from redis.exceptions import RedisError

from infra.settings import Settings
from infra.store.redis_client import Client
from schemas.identity import partition_of
from schemas.keys import IDEMPOTENCY_SECONDS
from serving.http.errors import Problem
from serving.metrics import Metrics

WAIT_SECONDS: Final = 0.5
"""How long a write waits for a store that does not answer."""


class IdempotencyKeys:
    """The keys of this installation, in Redis for `IDEMPOTENCY_SECONDS` from their first use."""

    def __init__(self, redis: Client, settings: Settings, metrics: Metrics) -> None:
        self._redis, self._settings, self._metrics = redis, settings, metrics

    async def keep(self, caller: str, key: str, fingerprint: bytes) -> None:
        """Keeps the fingerprint of a request's body, if the caller's key has none yet, in one round trip.

        Where the store is away the request is taken and counted: its names still make a retry count once.
        Errors: `Problem` 422 where the key has the fingerprint of another body.
        """
        name = self._name(caller, key)
        try:
            async with (
                asyncio.timeout(WAIT_SECONDS),
                self._redis.pipeline(transaction=False) as pipe,
            ):
                pipe.set(name, fingerprint, nx=True, ex=IDEMPOTENCY_SECONDS)
                pipe.get(name)
                replies: list[Any] = await pipe.execute()
        except (RedisError, OSError, TimeoutError):
            self._metrics.add("freshet_idempotency_unchecked_total")
            return
        if replies[1] not in (None, fingerprint):  # None: it expired between the two
            raise Problem(
                422,
                "idempotency_key_reused",
                "This key came with another body within 24 hours: send a new request with a new key.",
                [("Idempotency-Key", "idempotency_key_reused")],
            )

    def _name(self, caller: str, key: str) -> bytes:
        # a hash: no text of a client is in the name of a key
        request = hashlib.blake2b(f"{caller}\0{key}".encode(), digest_size=16).hexdigest()
        partition = partition_of(request.encode(), self._settings.partitions)
        return self._settings.keyspace.idempotency(partition, request)
