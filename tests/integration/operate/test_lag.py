"""The lag of the flows: every server reports it, also for a flow that hangs or does not run."""

from __future__ import annotations

import math
import signal
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import msgspec
import pytest

from infra.apps.inspect.scrape import read
from infra.kafka import kafka_client
from infra.local import services
from infra.settings import Settings, signing_key
from infra.store import redis_client
from schemas.identity import partition_of, pseudonym
from schemas.keys import PLAIN
from schemas.state import fences
from schemas.state.fences import Fence
from schemas.topics import EVENTS
from serving.state.lag import MAX_LAG_RECORDS
from tests.integration.operate.test_scrape import flow, own_port, scraped, value
from tests.support.http import Server, serving
from tests.support.outage import Broker


def fill(settings: Settings, partition: int, n: int) -> None:
    producer = kafka_client.producer(settings, linger_ms=20)
    for _ in range(n):
        producer.send(EVENTS.name, value=b"{", key=b"k", partition=partition)
    producer.flush()
    producer.close()


def set_fence(settings: Settings, partition: int, offset: int, **more: bytes) -> None:
    with redis_client.connect(settings) as client:
        held = Fence("t", settings.partitions, offset, 1000, 2, 1000)
        client.set(PLAIN.fence("people", partition), fences.encode(held))
        for name, stored in more.items():
            client.set(getattr(PLAIN, name)("people", partition), stored)


def status_of(server: Server, partition: int) -> dict[str, Any]:
    rows = server.ask("GET", "/v1/status").json["stands"]
    (found,) = [it for it in rows if (it["flow"], it["partition"]) == ("people", partition)]
    return dict(found)


def degraded(server: Server) -> dict[str, str]:
    """Codes of degraded components by name, of a server that is ready."""
    answer = server.ask("GET", "/health/ready")
    assert answer.status == 200, answer.body
    faults = answer.json["degraded"]
    assert server.ask("GET", "/v1/status").json["ready"].keys() == answer.json["parts"].keys()
    return {it["part"]: it["code"] for it in faults}


def fresh(server: Server, user: str) -> dict[str, Any]:
    return dict(server.ask("GET", f"/v1/recommendations?user_id={user}").json["freshness"])


def test_a_status_counts_records_and_a_read_far_behind_says_that_it_is_stale(
    settings: Settings, tmp_path: Path
) -> None:
    """No flow runs, so no flow can report its lag."""
    settings = msgspec.structs.replace(settings, port=0)
    p = partition_of(pseudonym(*signing_key(settings), "ann").encode(), settings.partitions)
    with serving(settings, tmp_path / "log") as server:
        fill(settings, p, MAX_LAG_RECORDS + 1)
        set_fence(settings, p, 1)
        services.wait_until(
            lambda: status_of(server, p)["lag"] == MAX_LAG_RECORDS, 10, "no lag is reported"
        )
        assert not fresh(server, "ann")["stale"]
        fill(settings, p, 1)
        services.wait_until(lambda: fresh(server, "ann")["stale"], 10, "it is not stale")
        row = status_of(server, p)
        services.wait_until(
            lambda: degraded(server).get("flow_people") in ("behind", "hangs"),
            10,
            "no fault is reported",
        )
        assert (row["position"], row["end"], row["lag"]) == (
            f"{p}:0",
            MAX_LAG_RECORDS + 2,
            MAX_LAG_RECORDS + 1,
        )
        samples = read(server.ask("GET", "/metrics").body.decode())
        behind = {"flow": "people", "partition": str(p)}
        assert value(samples, "freshet_behind_records", **behind) == MAX_LAG_RECORDS + 1
        set_fence(settings, p, MAX_LAG_RECORDS + 2)
        assert not fresh(server, "ann")["stale"], "as soon as it is folded"


def test_flows_that_hang_are_reported_and_take_no_server_out(
    settings: Settings, tmp_path: Path
) -> None:
    """The flows run and fold nothing: all servers answer without the records that they lack."""
    settings = own_port(settings)
    names = ("people", "catalogue")
    hanging = {f"flow_{name}": "hangs" for name in names}
    with ExitStack() as stack:
        server = stack.enter_context(serving(settings, tmp_path / "log"))
        processes = [
            stack.enter_context(flow(own_port(settings), name, tmp_path / f"{name}.log"))
            for name in names
        ]
        send_view(server, 1)
        services.wait_until(
            lambda: all(folded(server, name) for name in names), 20, "it is not folded"
        )
        for process in processes:
            process.send_signal(signal.SIGSTOP)
        send_view(server, 2)
        services.wait_until(
            lambda: degraded(server) == hanging, 60, "no server reports that they hang"
        )
        samples = read(server.ask("GET", "/metrics").body.decode())
        assert [value(samples, "freshet_ready", part=it) for it in hanging] == [0, 0]
        status = server.ask("GET", "/v1/status").json
        assert hanging.keys() == {it["part"] for it in status["degraded"]}
        assert not any(status["ready"][component] for component in hanging)
        assert server.ask("GET", "/v1/recommendations?user_id=u1").status == 200
        processes[0].send_signal(signal.SIGCONT)
        # each flow has a fault of its own
        services.wait_until(
            lambda: degraded(server).keys() == {"flow_catalogue"}, 20, "the fault is still reported"
        )
        processes[1].send_signal(signal.SIGCONT)
        services.wait_until(lambda: not degraded(server), 20, "the fault is still reported")


def send_view(server: Server, n: int) -> None:
    event = {"user_id": "u1", "item_id": "i1", "action": "view", "event_id": f"e{n}"}
    for method, path, body in (("POST", "/v1/events", event), ("PUT", "/v1/items/i1", {})):
        assert server.ask(method, path, body).json["durable"] == "broker"


def folded(server: Server, flow: str) -> bool:
    rows = server.ask("GET", "/v1/status").json["stands"] or ()
    its = [it for it in rows if it["flow"] == flow]
    return sum(it["end"] or 0 for it in its) > 0 == sum(it["lag"] or 0 for it in its)


def test_a_status_names_the_partition_that_poison_has_paused(
    settings: Settings, tmp_path: Path
) -> None:
    settings = msgspec.structs.replace(settings, port=0)
    set_fence(settings, 1, 500, poison=b"%d" % settings.poison_limit)
    with serving(settings, tmp_path / "log") as server:
        services.wait_until(lambda: status_of(server, 1)["paused"], 10, "no pause is reported")
        assert not status_of(server, 0)["paused"]
        assert degraded(server)["flow_people"] == "paused"
        set_fence(settings, 1, 500, accepted=b"500")
        services.wait_until(
            lambda: not status_of(server, 1)["paused"], 10, "the pause is still reported"
        )
        assert "flow_people" not in degraded(server)


def test_without_the_broker_lag_is_unknown_and_no_gauge_shows_a_good_value(
    own: Settings, broker_of_my_own: Broker, tmp_path: Path
) -> None:
    with redis_client.connect(own) as client:
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
        client = redis_client.connect_async(settings)
        lag = Lag(settings, client, Generation(client, settings.keyspace), Metrics())
        lag._end_offsets = {(EVENTS.name, 0): MAX_LAG_RECORDS + (held.offset if held else 0) + 1}
        found = lag.is_late(0, held)
        await client.aclose()
        return found

    assert asyncio.run(late())
