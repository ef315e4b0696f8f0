"""Partitions that are paused because no fold could take a long row of their records, and resuming one."""

from __future__ import annotations

from typing import NamedTuple

from infra.settings import Settings
from infra.store import generation, redis_client
from infra.store.redis_client import Client
from schemas.flows import FOLDS, flows_of_topic
from schemas.keys import Keyspace
from schemas.state import fences, poison


class Paused(NamedTuple):
    """A paused partition. `row`: how many records in a row, before offset `stands`, no fold could take."""

    topic: str
    flow: str
    partition: int
    row: int
    stands: int


def paused(client: Client, settings: Settings) -> list[Paused]:
    """All paused partitions, flow by flow. Errors: Redis's own."""
    live = generation.live_keys(client, settings)
    places = [(flow, p) for flow in FOLDS for p in range(flow.partitions(settings.partitions))]
    names = []
    for flow, p in places:
        keys = live.for_flow(flow)
        names += [keys.poison(flow.name, p), keys.fence(flow.name, p), keys.accepted(flow.name, p)]
    held = redis_client.mget(client, names)
    found = []
    each = zip(*[iter(held)] * 3, strict=True)
    for (flow, p), (row, fence, accepted) in zip(places, each, strict=True):
        n, at = poison.number(row), fences.decode(fence).offset if fence else 0
        if poison.paused(n, at, poison.number(accepted), settings.poison_limit):
            found.append(Paused(flow.topic, flow.name, p, n, at))
    return found


def accept(client: Client, keyspace: Keyspace, topic: str, partition: int, until: int) -> None:
    """Lets every flow that folds the topic go on past poison before offset `until`. Errors: Redis's own."""
    for flow in flows_of_topic(topic):
        client.set(keyspace.accepted(flow.name, partition), b"%d" % until)
