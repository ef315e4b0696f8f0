"""Redis as Freshet uses it, one server or a cluster: one way to connect, and a check that it evicts nothing.

``redis+cluster://host:port,host:port`` names a cluster by some of its nodes. All keys of a partition lie in
one slot; a read of several partitions at once goes through `mget` here.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Sequence
from typing import Any, Final

import redis
import redis.asyncio
from redis.asyncio.cluster import ClusterNode as AsyncClusterNode
from redis.backoff import ExponentialBackoff
from redis.cluster import ClusterNode
from redis.crc import key_slot
from redis.retry import Retry

from infra.settings import Settings
from schemas.errors import ConfigurationError

# redis-py types each reply for both of its decoding modes; ours always answers bytes
Client = Any
CLUSTER_SCHEME: Final = "redis+cluster://"
_CLUSTERS: Final = redis.RedisCluster, redis.asyncio.RedisCluster


class StoreMisconfigured(ConfigurationError):
    """Redis cannot be used as it is set up; the text says why, and what to set."""


def connect(settings: Settings, **options: Any) -> Client:
    """A blocking client that returns bytes. Errors: Redis's own, of a cluster at once."""
    retry = Retry(ExponentialBackoff(cap=0.5, base=0.05), 3)
    return open_url(settings.redis_url, retry=retry, **{"socket_connect_timeout": 5, **options})


def open_url(url: str, **options: Any) -> Client:
    """A blocking client of the server or cluster at `url`; a cluster has to answer at once."""
    options.setdefault("protocol", 2)
    if not url.startswith(CLUSTER_SCHEME):
        return redis.Redis.from_url(url, **options)
    startup = [
        ClusterNode(host, port)  # type: ignore[no-untyped-call]
        for host, port in nodes(url)
    ]
    try:
        return redis.RedisCluster(startup_nodes=startup, **options)
    except (
        redis.exceptions.RedisClusterException
    ) as error:  # redis-py's error where no node answers
        raise redis.ConnectionError(str(error)) from error


def _reporting_loss(kind: Any) -> Any:
    """A class of connection whose writes fail with Redis's own error under uvloop too.

    uvloop raises a RuntimeError for a connection that was reset a moment ago, which no caller expects.
    """

    class Connection(kind):  # type: ignore[misc]
        async def send_packed_command(self, *arguments: Any, **options: Any) -> None:
            try:
                await super().send_packed_command(*arguments, **options)
            except RuntimeError as error:
                raise redis.ConnectionError("the connection was closed") from error

    return Connection


def connect_async(settings: Settings, **options: Any) -> Client:
    """An asynchronous client that returns bytes; connects at its first command."""
    options = {"protocol": 2, "socket_connect_timeout": 5, **options}
    if not settings.redis_url.startswith(CLUSTER_SCHEME):
        pool = redis.asyncio.ConnectionPool.from_url(settings.redis_url, **options)
        pool.connection_class = _reporting_loss(pool.connection_class)
        return redis.asyncio.Redis.from_pool(pool)
    startup = [AsyncClusterNode(host, port) for host, port in nodes(settings.redis_url)]
    return redis.asyncio.RedisCluster(startup_nodes=startup, **options)


def nodes(url: str) -> list[tuple[str, int]]:
    """Host and port of each node that the URL of a cluster names."""
    hosts = url.removeprefix(CLUSTER_SCHEME).partition("/")[0].split(",")
    return [(host, int(port or 6379)) for host, _, port in (it.rpartition(":") for it in hosts)]


def is_cluster(client: Client) -> bool:
    return isinstance(client, _CLUSTERS)


def mget(client: Client, names: Sequence[bytes]) -> list[Any]:
    """The values of keys of any partitions, in order. On a cluster those of one slot are of one moment."""
    if not names or not is_cluster(client):
        return list(client.mget(names)) if names else []
    slots = _by_slot(names)
    with client.pipeline(transaction=False) as pipe:
        for places in slots:
            pipe.execute_command("MGET", *(names[n] for n in places))
        return _in_order(len(names), slots, pipe.execute())


async def mget_async(client: Client, names: Sequence[bytes]) -> list[Any]:
    """`mget` for an asynchronous client."""
    if not is_cluster(client):
        return list(await client.mget(names))
    slots = _by_slot(names)
    found = await asyncio.gather(*(client.mget([names[n] for n in places]) for places in slots))
    return _in_order(len(names), slots, found)


def is_away(error: BaseException) -> bool:
    """Whether Redis was unreachable: it does not run, is loading, or closed the connection.

    Where that was in a transaction, it is unknown whether the transaction was applied.
    """
    if isinstance(error, redis.WatchError) and error.__context__ is not None:
        error = error.__context__  # redis-py wraps a connection lost under WATCH
    away = redis.ConnectionError | redis.TimeoutError | redis.exceptions.ClusterDownError
    refused = redis.AuthenticationError | redis.exceptions.AuthorizationError
    return isinstance(error, away) and not isinstance(error, refused)


def fields(reply: Any) -> dict[bytes, bytes]:
    """The reply to HGETALL in a transaction as a dict: on a cluster redis-py leaves it a flat list."""
    return dict(reply) if isinstance(reply, dict) else dict(zip(*[iter(reply)] * 2, strict=True))


def _by_slot(names: Sequence[bytes]) -> list[list[int]]:
    """Indexes of the names, a list for each slot."""
    slots: dict[int, list[int]] = {}
    for place, name in enumerate(names):
        slots.setdefault(key_slot(name), []).append(place)
    return list(slots.values())


def _in_order(count: int, slots: list[list[int]], replies: Iterable[Any]) -> list[Any]:
    values: list[Any] = [None] * count
    for places, reply in zip(slots, replies, strict=True):
        for place, value in zip(places, reply, strict=True):
            values[place] = value
    return values


def servers(client: Client) -> list[Client]:
    """A client for each server that holds keys: the one server, or each primary of a cluster."""
    if not is_cluster(client):
        return [client]
    return [client.get_redis_connection(node) for node in client.get_primaries()]


def server_of(client: Client, name: bytes) -> Client:
    """A client for the server that holds a key."""
    if not is_cluster(client):
        return client
    return client.get_redis_connection(client.get_node_from_key(name))


def look_up_slots(client: Client) -> None:
    """Asks a cluster which server holds which keys. Errors: Redis's."""
    client.nodes_manager.initialize()


def moved_as_away(error: redis.ResponseError) -> redis.RedisError:
    """`error`, or what `is_away` knows where a cluster answers that a slot is elsewhere, or on its way."""
    if isinstance(error, redis.exceptions.AskError | redis.exceptions.TryAgainError):
        return redis.exceptions.ClusterDownError(f"a slot moves ({error})")
    return error


def check(client: Client) -> None:
    """Checks law 6: a missing record means "never seen", so Redis must run `noeviction`.

    Errors: `StoreMisconfigured`. A server that forbids CONFIG passes unchecked.
    """
    for server in servers(client):
        try:
            policy = server.config_get("maxmemory-policy").get("maxmemory-policy", "noeviction")
        except redis.ResponseError:
            continue
        if policy != "noeviction":
            raise StoreMisconfigured(
                "Redis may evict keys (maxmemory-policy is not noeviction), and a record that is"
                " missing means a person never seen",
                remedy="set maxmemory-policy noeviction",
            )
