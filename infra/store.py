"""Redis as Freshet uses it: one way to connect, and a check that it keeps what it is given."""

from __future__ import annotations

from typing import Any

import redis
import redis.asyncio
from redis.backoff import ExponentialBackoff
from redis.retry import Retry

from infra.settings import Settings

# redis-py types each reply for both of its decoding modes; ours always answers bytes
Client = Any


class StoreMisconfigured(RuntimeError):
    """Redis would drop keys by itself; the text says which setting and the remedy."""


def connect(settings: Settings, **options: Any) -> Client:
    """A blocking client that returns bytes."""
    return redis.Redis.from_url(
        settings.redis_url,
        protocol=2,
        socket_connect_timeout=5,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 3),
        **options,
    )


def connect_async(settings: Settings, **options: Any) -> Client:
    return redis.asyncio.Redis.from_url(
        settings.redis_url, protocol=2, socket_connect_timeout=5, **options
    )


def check(client: Client) -> None:
    """Law 6: a missing record means "never seen", so Redis must run `noeviction`.

    Errors: `StoreMisconfigured`. A store that forbids CONFIG is taken at its word.
    """
    try:
        policy = client.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
    except redis.ResponseError:
        return
    if policy != "noeviction":
        raise StoreMisconfigured(
            "Redis may evict keys (maxmemory-policy is not noeviction), and a record that is missing"
            " means a person never seen: set maxmemory-policy noeviction"
        )
