"""`freshet status`: how the running system does."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.console import Found, console, find, json_option, print_json, system_option, table
from schemas.times import iso

if TYPE_CHECKING:
    from infra.settings import Settings


@click.command("status")
@system_option
@json_option
def status_command(data_dir: Path | None, as_json: bool) -> None:
    """How the running system does: processes, how far each flow is, tables.

    Positions come from Redis and Kafka themselves, so they are true also while serving is down.

    \b
    freshet status
    freshet status --json | jq '.flows[] | select(.lag > 0)'
    """
    found = find(data_dir)
    told = gather(found)
    if as_json:
        print_json(told)
    else:
        _show(told)


def gather(found: Found) -> dict[str, Any]:
    """Everything that `status` tells, as JSON. Errors: those of Kafka and Redis."""
    from infra.cli.history import Connection

    connection = Connection(found.url, found.settings.token)
    status, serving = connection.get("/v1/status")
    connection.close()
    return {
        "url": found.url,
        "kafka_bootstrap": found.settings.kafka_bootstrap,
        "data_dir": str(found.settings.data_dir),
        "serving": serving if status == 200 else None,
        "serving_status": status,
        "processes": _processes(found),
        "flows": _flows(found.settings),
        "metrics": _metrics(found),
        "paused": _paused(found.settings),
        "tables": _tables(found.settings),
    }


def _processes(found: Found) -> list[dict[str, Any]]:
    import msgspec

    return [msgspec.to_builtins(process) for process in found.up.processes] if found.up else []


def _metrics(found: Found) -> list[dict[str, Any]]:
    """Since each flow's process started, by what it says itself; nothing of those that say nothing."""
    from infra.cli.scrape import flow_row, scrape
    from infra.plan import reachable
    from infra.telemetry import LOOPBACK

    host = reachable(found.settings.metrics_host or LOOPBACK)
    told = [
        flow_row(process.name, scrape(host, process.metrics_port))
        for process in (found.up.processes if found.up else ())
        if process.metrics_port and process.pid
    ]
    return [row for row in told if row is not None]


def _flows(settings: Settings) -> list[dict[str, Any]]:
    from infra import generation, store
    from infra.cli.offsets import offsets
    from schemas import fence, keys
    from schemas.flows import FOLDS

    ends = offsets(settings, dict.fromkeys(flow.topic for flow in FOLDS))
    rows: list[dict[str, Any]] = []
    with store.connect(settings) as client:
        live = generation.live(client)
        for flow in FOLDS:
            for partition, (_, end) in sorted(ends.get(flow.topic, {}).items()):
                stored = client.get(keys.fence(flow.name, partition, flow.generation(live)))
                held = fence.decode(stored) if isinstance(stored, bytes) else None
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
    from infra import store
    from infra.paused import paused

    with store.connect(settings) as client:
        return [it._asdict() for it in paused(client, settings)]


def _tables(settings: Settings) -> dict[str, Any] | None:
    from infra import generation, store
    from schemas import keys, tables

    with store.connect(settings) as client:
        stored = client.get(keys.tables(generation.live(client)).meta)
    if not isinstance(stored, bytes):
        return None
    meta = tables.META_DECODER.decode(stored)
    return {"version": meta.version, "name": meta.name, "positions": meta.positions}


def _show(told: dict[str, Any]) -> None:
    out = console()
    answers = (
        "answers"
        if told["serving"]
        else f"does not answer ({told['serving_status'] or 'no connection'})"
    )
    out.print(f"API {told['url']} {answers}   Kafka {told['kafka_bootstrap']}")
    if told["processes"]:
        rows = [
            (it["name"], it["state"], it["pid"] or "", it["restarts"], it["last_exit"])
            for it in told["processes"]
        ]
        out.print(table("", ("process", "state", "#pid", "#restarts", "last exit"), rows))
    lags = [
        (
            it["flow"],
            it["partition"],
            f"{it['offset']:,}",
            f"{it['lag']:,}",
            _ago(it["committed_at"]),
        )
        for it in told["flows"]
    ]
    out.print(table("", ("flow", "#partition", "#next offset", "#lag", "committed"), lags))
    if told["metrics"]:
        columns = ("flow", "#records", "#a batch", "#commit p95 ms", "#fresh p95 ms")
        did = [
            (
                it["process"],
                f"{it['records']:,}",
                *(_short(it[name]) for name in ("batch", "commit_p95_ms", "fresh_p95_ms")),
                it["dead_letters"],
                it["fenced"],
            )
            for it in told["metrics"]
        ]
        out.print(table("", (*columns, "#dead letters", "#fenced"), did))
    for it in told["paused"]:
        out.print(
            f"PAUSED: {it['flow']} partition {it['partition']} at {it['stands']:,}, after {it['row']:,}"
            " records in a row that could not be decoded (freshet dead-letters list)"
        )
    tables = told["tables"]
    out.print(
        f"tables version {tables['version']}, at {tables['name']}" if tables else "no tables yet"
    )
    for name, value in (told["serving"] or {}).items():
        if isinstance(value, str | int | float | bool):
            out.print(f"{name}: {value}")


def _short(value: float | None) -> str:
    return "" if value is None else f"{value:,.1f}"


def _ago(committed: str) -> str:
    if not committed:
        return "never"
    from datetime import datetime

    seconds = time.time() - datetime.fromisoformat(committed.replace("Z", "+00:00")).timestamp()
    for unit, size in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit} ago"
    return f"{max(0.0, seconds):.1f} s ago"
