"""`freshet status`: processes, lag and tables of the running system."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import click

from infra.apps.inspect.system import gather
from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find
from infra.terminal.text import console, table


@click.command("status")
@system_option
@json_option
def status_command(data_dir: Path | None, as_json: bool) -> None:
    """Show the running system: processes, the lag of each flow, tables.

    Positions come from Redis and Kafka themselves, so they are right also while serving is down.

    \b
    freshet status
    freshet status --json | jq '.flows[] | select(.lag > 0)'
    """
    running = find(data_dir)
    report = gather(running)
    if as_json:
        print_json(report)
    else:
        _show(report)


def _show(report: dict[str, Any]) -> None:
    out = console()
    answers = (
        "answers"
        if report["serving"]
        else f"does not answer ({report['serving_status'] or 'no connection'})"
    )
    out.print(f"API {report['url']} {answers}   Kafka {report['kafka_bootstrap']}")
    if report["processes"]:
        rows = [
            (it["name"], it["state"], it["pid"] or "", it["restarts"], it["last_exit"])
            for it in report["processes"]
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
        for it in report["flows"]
    ]
    out.print(table("", ("flow", "#partition", "#next offset", "#lag", "committed"), lags))
    if report["metrics"]:
        columns = ("flow", "#records", "#a batch", "#commit p95 ms", "#fresh p95 ms")
        did = [
            (
                it["process"],
                f"{it['records']:,}",
                *(_short(it[name]) for name in ("batch", "commit_p95_ms", "fresh_p95_ms")),
                it["dead_letters"],
                it["fenced"],
                it["out"],
            )
            for it in report["metrics"]
        ]
        out.print(table("", (*columns, "#dead letters", "#fenced", "#out"), did))
    for it in report["paused"]:
        out.print(
            f"PAUSED: {it['flow']} partition {it['partition']} at {it['stands']:,}, after {it['row']:,}"
            " records in a row that could not be decoded: `freshet dead-letters list` has the reasons"
        )
    tables = report["tables"]
    out.print(
        f"tables version {tables['version']}, at {tables['name']}" if tables else "no tables yet"
    )
    for currency, it in (report["serving"] or {}).get("money", {}).items():
        out.print(f"{currency}: {it['amount']:,} minor units of {it['purchases']:,} purchases")
    for reason, n in ((report["serving"] or {}).get("not_counted") or {}).items():
        out.print(f"not counted: {n:,} records ({reason})")
    for kind, names in ((report["serving"] or {}).get("in_python") or {}).items():
        for name in names:
            out.print(f"in Python: {kind} ({name})")
    for kind in ("fails", "degraded"):
        for it in (report["serving"] or {}).get(kind, ()):
            out.print(f"{kind.upper()}: {it['part']} ({it['code']}): {it['detail']}")
    for name, value in (report["serving"] or {}).items():
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
