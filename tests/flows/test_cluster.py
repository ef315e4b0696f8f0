"""A Redis Cluster whose slots move while events are folded: a worker restarts from its fence."""

from __future__ import annotations

import random
from pathlib import Path

import msgspec
import pytest
from redis.crc import key_slot

from flows.kit.commit import commit_all
from infra.settings import Settings
from infra.store import redis_client
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.state.fences import Fence
from schemas.state.write import Write
from tests.flows.faults import Flow, behind, produce, traffic, wait, wrong
from tests.flows.slates import with_slates
from tests.support.cluster import NODES, Cluster

pytestmark = [pytest.mark.check, pytest.mark.timeout(120)]
EVENTS_SENT = 6_000


def test_slots_that_move_under_the_flows_lose_and_double_nothing(
    settings: Settings, redis_cluster: Cluster, tmp_path: Path
) -> None:
    mine = msgspec.structs.replace(
        settings, redis_url=redis_cluster.url, rollup_seconds=0.2, base_seconds=0.5, batch=100
    )
    slots = [key_slot(PLAIN.fence("people", p)) for p in (0, 1)]
    slots.append(key_slot(PLAIN.tables().meta))
    with redis_client.connect(mine) as client:
        client.flushall()
    flows = [Flow(mine, name, tmp_path / f"{name}.log") for name in ("people", "rollup")]
    moves = iter(slots)

    def meanwhile(n: int) -> None:
        for flow in flows:
            flow.revive()
        if n % (EVENTS_SENT // 4) == EVENTS_SENT // 8 and (slot := next(moves, None)) is not None:
            source = redis_cluster.owner(slot)
            redis_cluster.move(slot, source, (source + 1) % NODES)

    rnd = random.Random(11)
    try:
        with redis_client.connect(mine) as client:
            # the keys have to be there when their slot moves
            produce(mine, traffic(500, 100, rnd), rnd, lambda n: None)
            wait(lambda: behind(mine, client), lambda: meanwhile(-1))
            produce(mine, with_slates(traffic(EVENTS_SENT, 400, rnd), rnd), rnd, meanwhile)
            wait(lambda: behind(mine, client), lambda: meanwhile(-1))
        assert next(moves, None) is None
        found = wrong(mine)
        assert found == dict.fromkeys(found, 0)
    finally:
        for flow in flows:
            flow.kill()


def test_a_commit_follows_a_slot_that_moved(redis_cluster: Cluster) -> None:
    """The client does not know of the move: the node that it asks refuses the transaction as a whole."""
    url = Settings(redis_url=redis_cluster.url)
    writes = [Write("people", p, 0, Fence("t", 4, 5, 0, 1), PLAIN) for p in range(4)]
    slot = key_slot(PLAIN.fence("people", 2))
    with redis_client.connect(url) as client:
        client.flushall()
        source = redis_cluster.owner(slot)
        redis_cluster.move(slot, source, (source + 1) % NODES)
        assert commit_all(client, writes) == {}
        held = redis_client.mget(client, [PLAIN.fence("people", p) for p in range(4)])
        assert [fences.decode(it).offset for it in held] == [5] * 4
