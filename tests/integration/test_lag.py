"""How far the flows are behind: told by whoever is asked, also where the flow cannot tell it itself."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.apps.inspect.scrape import read
from infra.kafka import client as kafka
from infra.local import services
from infra.settings import Settings
from infra.store import client as store
from schemas import fence, keys
from schemas.fence import Fence
from schemas.topics import EVENTS
from serving.state.lag import LATE
from tests.integration.http import Server, serving
from tests.integration.outage import Broker
from tests.integration.test_scrape import flow, own_port, scraped, value


def fill(settings: Settings, partition: int, n: int) -> None:
    producer = kafka.producer(settings, linger_ms=20)
    for _ in range(n):
        producer.send(EVENTS.name, value=b"{", key=b"k", partition=partition)
    producer.flush()
    producer.close()


def stand(settings: Settings, partition: int, offset: int, **more: bytes) -> None:
    with store.connect(settings) as client:
        held = Fence("t", settings.partitions, offset, 1000, 2, 1000)
        client.set(keys.fence("people", partition), fence.encode(held))
        for name, stored in more.items():
            client.set(getattr(keys, name)("people", partition), stored)


def stands(server: Server, partition: int) -> dict[str, Any]:
    told = server.ask("GET", "/v1/status").json["stands"]
    (found,) = [it for it in told if (it["flow"], it["partition"]) == ("people", partition)]
    return dict(found)


def fresh(server: Server, user: str) -> dict[str, Any]:
    return dict(server.ask("GET", f"/v1/recommendations?user_id={user}").json["freshness"])


def test_a_status_counts_records_and_a_read_far_behind_says_that_it_is_stale(
    settings: Settings, tmp_path: Path
) -> None:
    """No flow runs at all, so none could say so."""
    settings = msgspec.structs.replace(settings, port=0)
    with serving(settings, tmp_path / "log") as server:
        for p in range(settings.partitions):
            fill(settings, p, LATE + 1)
            stand(settings, p, 1)
        services.wait_until(lambda: stands(server, 0)["lag"] == LATE, 10, "it is not told")
        assert not fresh(server, "ann")["stale"]
        for p in range(settings.partitions):
            fill(settings, p, 1)
        services.wait_until(lambda: fresh(server, "ann")["stale"], 10, "it is not stale")
        told = stands(server, 3)
        assert (told["position"], told["end"], told["lag"]) == ("3:0", LATE + 2, LATE + 1)
        samples = read(server.ask("GET", "/metrics").body.decode())
        behind = {"flow": "people", "partition": "2"}
        assert value(samples, "freshet_behind_records", **behind) == LATE + 1
        for p in range(settings.partitions):
            stand(settings, p, LATE + 2)
        assert not fresh(server, "ann")["stale"], "as soon as it is folded"


def test_a_status_tells_what_poison_has_paused(settings: Settings, tmp_path: Path) -> None:
    settings = msgspec.structs.replace(settings, port=0)
    stand(settings, 1, 500, poison=b"%d" % settings.poison_limit)
    with serving(settings, tmp_path / "log") as server:
        services.wait_until(lambda: stands(server, 1)["paused"], 10, "it is not told")
        assert not stands(server, 0)["paused"]
        stand(settings, 1, 500, accepted=b"500")
        services.wait_until(lambda: not stands(server, 1)["paused"], 10, "it is still told")


def test_without_the_broker_nobody_knows_and_no_gauge_shows_a_good_value(
    own: Settings, broker_of_my_own: Broker, tmp_path: Path
) -> None:
    with store.connect(own) as client:
        client.flushall()
    own = own_port(own)
    here = {"flow": "catalogue", "partition": "0"}
    with flow(own, "catalogue", tmp_path / "flow.log"):
        assert value(scraped(own), "freshet_flow_lag", **here) == 0
        broker_of_my_own.kill()
        services.wait_until(
            lambda: math.isnan(value(scraped(own), "freshet_flow_lag", **here)), 15, "it is frozen"
        )


@pytest.mark.parametrize("held", [None, Fence("t", 4, 3, 0, 2)])
def test_a_partition_that_was_never_folded_is_behind_by_all_of_it(
    settings: Settings, held: Fence | None
) -> None:
    import asyncio

    from serving.metrics import Metrics
    from serving.state.generation import Generation
    from serving.state.lag import Lag

    async def late() -> bool:
        client = store.connect_async(settings)
        lag = Lag(settings, client, Generation(client), Metrics())
        lag._ends = {(EVENTS.name, 0): LATE + (held.offset if held else 0) + 1}
        found = lag.late(0, held)
        await client.aclose()
        return found

    assert asyncio.run(late())
