"""The running system: processes, positions, lag, tables."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from infra.local.find import RunningSystem
from schemas.times import iso

if TYPE_CHECKING:
    from infra.settings import Settings


def gather(running: RunningSystem) -> dict[str, Any]:
    """The report of `freshet status`, as JSON. Errors: those of Kafka and Redis."""
    import asyncio

    status, serving = asyncio.run(_serving(running))
    return {
        "url": running.url,
        "kafka_bootstrap": running.settings.kafka_bootstrap,
        "data_dir": str(running.settings.data_dir),
        "serving": serving,
        "serving_status": status,
        "processes": _processes(running),
        "flows": _flows(running.settings),
        "metrics": _metrics(running),
        "paused": _paused(running.settings),
        "tables": _tables(running.settings),
    }


async def _serving(running: RunningSystem) -> tuple[int, dict[str, Any] | None]:
    """The HTTP status of the answer (0: no answer), and its body where the status is 200."""
    from infra.client import client
    from infra.client.errors import ApiError

    async with client.Client(running.url, running.token, connections=1) as asking:
        try:
            return 200, await asking.get(client.STATUS, dict[str, Any])
        except ApiError as error:
            return error.status, None


def _processes(running: RunningSystem) -> list[dict[str, Any]]:
    import msgspec

    return [msgspec.to_builtins(process) for process in running.up.processes] if running.up else []


def _metrics(running: RunningSystem) -> list[dict[str, Any]]:
    """Figures of each flow's process since its start, from its metrics; none of processes without metrics."""
    from infra.apps.inspect.scrape import flow_row, scrape
    from infra.local.plan import client_host
    from infra.metrics import LOOPBACK

    host = client_host(running.settings.metrics_host or LOOPBACK)
    rows = [
        flow_row(process.name, scrape(host, process.metrics_port))
        for process in (running.up.processes if running.up else ())
        if process.metrics_port and process.pid
    ]
    return [row for row in rows if row is not None]


def _flows(settings: Settings) -> list[dict[str, Any]]:
    from infra.kafka.offsets import offsets
    from infra.store import generation, redis_client
    from schemas.flows import FOLDS
    from schemas.state import fences

    end_offsets = offsets(settings, dict.fromkeys(flow.topic for flow in FOLDS))
    rows: list[dict[str, Any]] = []
    with redis_client.connect(settings) as client:
        live = generation.live_keys(client, settings)
        for flow in FOLDS:
            for partition, (_, end) in sorted(end_offsets.get(flow.topic, {}).items()):
                stored = client.get(live.for_flow(flow).fence(flow.name, partition))
                held = fences.decode(stored) if isinstance(stored, bytes) else None
                at = held.offset if held else 0
                rows.append(
                    {
                        "flow": flow.name,
                        "partition": partition,
                        "offset": at,
                        "end": end,
                        "lag": max(0, end - at),
                        "newest": iso(held.newest) if held else "",
                        "committed_at": iso(held.committed_at) if held else "",
                        "version": held.version if held else None,
                    }
                )
    return rows


def _paused(settings: Settings) -> list[dict[str, Any]]:
    from infra.store import redis_client
    from infra.store.paused import paused

    with redis_client.connect(settings) as client:
        return [it._asdict() for it in paused(client, settings)]


def _tables(settings: Settings) -> dict[str, Any] | None:
    from infra.store import generation, redis_client
    from schemas.state import tables

    with redis_client.connect(settings) as client:
        stored = client.get(generation.live_keys(client, settings).tables().meta)
    if not isinstance(stored, bytes):
        return None
    meta = tables.META_DECODER.decode(stored)
    return {"version": meta.version, "name": meta.name, "positions": meta.positions}
