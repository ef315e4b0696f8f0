"""`freshet snapshot`: states after folding the log, made off line and kept in the lake."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.cli.options import json_option, print_json, system_option
from infra.local.find import find
from infra.terminal.text import console, table
from schemas.times import iso

if TYPE_CHECKING:
    from flows.snapshots.read import Listed
    from infra.settings import Settings
    from schemas.snapshots import Snapshot

ABANDONED_SECONDS = 86_400.0
"""A snapshot that is unfinished and was not written to for so long will not be finished."""


@click.group("snapshot")
def snapshot_command() -> None:
    """Make, list and prune snapshots: states after folding the log, kept in the lake.

    \b
    freshet snapshot make                                from the newest snapshot to the log's end
    freshet snapshot make --from beginning
    freshet snapshot make --until 2026-11-24T00:00:00Z   as it was then
    freshet snapshot list
    freshet snapshot show 20261124T101500042-3fa2c1
    freshet snapshot prune --keep 3
    """


@snapshot_command.command("make")
@click.option(
    "--from",
    "start",
    default="latest",
    show_default=True,
    help="Begin at: latest, beginning, or a snapshot's id.",
)
@click.option(
    "--until",
    "text",
    help="End before: a time (RFC 3339), or an offset of each partition (120,340,...)."
    "  [default: the log's end]",
)
@system_option
@json_option
def make(start: str, text: str | None, data_dir: Path | None, as_json: bool) -> None:
    """Make a snapshot, without the running flows."""
    from flows.snapshots import make
    from flows.snapshots.until import parse_until
    from infra.lake.log import open_log
    from infra.local.home import prepare_folder
    from infra.terminal.progress import Reporter, SilentReporter

    settings = find(data_dir).settings
    prepare_folder(settings.data_dir, needed=False)
    log, out = open_log(settings), console()
    until = parse_until(settings, log, text)
    base = None if start == "beginning" else _base(settings, start, until)
    if base is not None and base.offsets == until:
        if not as_json:
            out.print(f"{base.id} is at these offsets already: nothing to do.")
        return print_json(_document(base)) if as_json else None
    reporter = (SilentReporter if as_json else Reporter)(out)
    begins = base.id if base else "the beginning"
    reporter.head("snapshot", f"from {begins} to {','.join(map(str, until))}")
    with reporter.work("fold", sum(until) - (sum(base.offsets) if base else 0)) as progress:
        made = make.make(settings, log, until, base, progress)
    if as_json:
        return print_json(_document(made))
    return out.print(f"{made.id}: {made.events:,} events, {_size(made.bytes)}.")


def _base(settings: Settings, start: str, until: list[int]) -> Snapshot | None:
    from flows.snapshots import read

    if start == "latest":
        return read.latest(settings, within=until)
    return read.find(settings, start)


@snapshot_command.command("list")
@system_option
@json_option
def list_(data_dir: Path | None, as_json: bool) -> None:
    """List the snapshots, the newest first."""
    from flows.snapshots import read

    held = read.listed(find(data_dir).settings)
    if as_json:
        print_json([_row(it) for it in held])
        return
    rows = [
        (it["id"], iso(it["made_at"]), it["base"], ",".join(map(str, it["offsets"])),
         f"{it['events']:,}", _size(it["bytes"]), it["state"])
        for it in map(_row, held)
    ]  # fmt: skip
    columns = ("snapshot", "made", "from", "offsets", "#events", "#size", "state")
    console().print(table("", columns, rows))


@snapshot_command.command("show")
@click.argument("snapshot")
@system_option
@json_option
def show(snapshot: str, data_dir: Path | None, as_json: bool) -> None:
    """Show the manifest of SNAPSHOT, after a check of its files."""
    import msgspec

    from flows.snapshots import read

    settings = find(data_dir).settings
    held = read.find(settings, snapshot)
    read.verify(settings, held)
    document = msgspec.to_builtins(held)
    if as_json:
        print_json(document)
        return
    console().print_json(data=document)


@snapshot_command.command("remove")
@click.argument("snapshot")
@system_option
def remove(snapshot: str, data_dir: Path | None) -> None:
    """Remove SNAPSHOT, finished or not."""
    from flows.snapshots import read

    read.remove(find(data_dir).settings, snapshot)
    console().print(f"{snapshot} is removed.")


@snapshot_command.command("prune")
@click.option(
    "--keep",
    type=click.IntRange(min=1),
    default=3,
    show_default=True,
    help="Number of snapshots to keep.",
)
@system_option
def prune(keep: int, data_dir: Path | None) -> None:
    """Remove all but the newest snapshots.

    Unfinished ones without a write for a day are removed too. A snapshot that cannot be used stays, and is
    named.
    """
    import time

    from flows.snapshots import read

    settings, out = find(data_dir).settings, console()
    held = read.listed(settings)
    old = [it.id for it in held if not it.why][keep:]
    ended = [it.id for it in held if it.half and it.newest_at < time.time() - ABANDONED_SECONDS]
    for name in [*old, *ended]:
        read.remove(settings, name)
        out.print(f"{name} is removed.")
    for it in held:
        if it.why and it.id not in ended:
            out.print(f"stays: {it.why}")


def _row(it: Listed) -> dict[str, Any]:
    """A row of the list, also as JSON."""
    if it.snapshot is None:
        return {"id": it.id, "made_at": 0, "base": "", "offsets": [], "events": 0, "bytes": 0,
                "state": it.why}  # fmt: skip
    return {**_document(it.snapshot), "state": it.why or "ready"}


def _document(held: Snapshot) -> dict[str, Any]:
    return {"id": held.id, "made_at": held.made_at, "base": held.base, "offsets": held.offsets,
            "events": held.events, "dead_letters": sum(p.dead_letters for p in held.partitions),
            "bytes": held.bytes}  # fmt: skip


def _size(count: int) -> str:
    return f"{count / 1e6:,.1f} MB"
