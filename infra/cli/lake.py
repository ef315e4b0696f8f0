"""`freshet lake`: its contents, compaction of a day into one file, and the deletion of old files."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.options import every_option, json_option, print_json, system_option
from infra.local.find import own_settings, settings_of
from infra.terminal.text import console, table
from schemas.times import iso

if TYPE_CHECKING:
    from infra.lake.reader import Lake

TORN_STATUS: Final = 1
"""Exit status where ``status --check`` finds a file that differs from what was written."""


def opened(data_dir: Path | None) -> Lake:
    from infra.lake.reader import Lake

    return Lake.of(settings_of(data_dir))


@click.group("lake")
def lake_command() -> None:
    """Show and maintain the lake: every topic as Parquet, kept for ever.

    The lake lies at FRESHET_LAKE_URL, by default in the data folder.

    \b
    freshet lake status --check
    freshet lake compact --all && freshet lake sweep
    freshet sql "SELECT action, count(*) FROM events_distinct GROUP BY action"
    """


@lake_command.command("status")
@click.option("--check", "checks", is_flag=True, help="Read every file and check its hash.")
@system_option
@json_option
def status(checks: bool, data_dir: Path | None, as_json: bool) -> None:
    """Show what the lake holds, a line for each topic. Exit status 1 where --check finds a torn file."""
    from schemas.lake import TABLES

    lake = opened(data_dir)
    rows = [_of_topic(lake, it.topic, checks) for it in TABLES]
    if as_json:
        print_json(rows)
    else:
        columns = ("topic", "#records", "#files", "#compacted", "#bytes", "#B/record", "from", "to")
        console().print(table(lake.store.root, columns, map(_row, rows)))
        for line in (line for it in rows for line in it["torn"]):
            console(stderr=True).print(line, markup=False)
    if any(it["torn"] for it in rows):
        raise click.exceptions.Exit(TORN_STATUS)


def _of_topic(lake: Lake, topic: str, checks: bool) -> dict[str, Any]:
    positions, files, torn = {}, [], []
    for partition in lake.partitions(topic):
        manifest = lake.manifest(topic, partition)
        chain = manifest.chain()
        positions[partition] = [chain[0].start, chain[-1].end] if chain else [0, 0]
        files += manifest.entries(chain)
    if checks:
        torn = list(_torn(lake, files))
    return {
        "topic": topic,
        "positions": positions,
        "records": sum(it.rows for it in files),
        "files": len(files),
        "compacted": sum(it.clustered for it in files),
        "bytes": sum(it.bytes for it in files),
        "first_at": min((it.first_at for it in files), default=0),
        "last_at": max((it.last_at for it in files), default=0),
        "torn": torn,
    }


def _torn(lake: Lake, files: Sequence[Any]) -> Iterator[str]:
    from infra.lake.compact import check
    from infra.lake.errors import LakeTorn

    for entry in files:
        try:
            check(lake.store, entry)
        except LakeTorn as error:
            yield str(error)


def _row(it: dict[str, Any]) -> tuple[object, ...]:
    each = f"{it['bytes'] / it['records']:.1f}" if it["records"] else ""
    numbers = [f"{it[name]:,}" for name in ("records", "files", "compacted", "bytes")]
    return (it["topic"], *numbers, each, iso(it["first_at"]), iso(it["last_at"]))


@lake_command.command("compact")
@click.option(
    "--all",
    "all_",
    is_flag=True,
    help="Compact today too, except for the last file of each partition.",
)
@system_option
@json_option
def compact(all_: bool, data_dir: Path | None, as_json: bool) -> None:
    """Compact each past day of a partition into one file, and each past hour of today.

    A compacted file holds the records of a person and of an hour together. `freshet lake keep` compacts by
    itself. The command may run beside the flow, and beside another one of its kind.
    """
    from infra.lake.compact import compact as run
    from schemas.lake import TABLES

    lake, now = opened(data_dir), time.time_ns() // 1_000_000
    for it in TABLES:
        for partition in lake.partitions(it.topic):
            for entry, replaced in run(lake, it.topic, partition, now, all_=all_):
                if as_json:
                    print_json({"name": entry.name, "rows": entry.rows, "replaced": replaced})
                else:
                    click.echo(f"{entry.name}: {entry.rows:,} records of {replaced} files")


@lake_command.command("sweep")
@click.option(
    "--grace",
    type=click.FloatRange(0),
    default=60.0,
    show_default=True,
    help="Minutes that a replaced file stays: longer than any reader takes.",
)
@system_option
@json_option
def sweep(grace: float, data_dir: Path | None, as_json: bool) -> None:
    """Delete files that are no longer in use.

    These are files that were compacted, and those that a killed writer left unfinished.
    """
    from infra.lake.sweep import sweep as run
    from schemas.lake import TABLES

    lake, now = opened(data_dir), time.time()
    swept = [run(lake, it.topic, now, grace * 60) for it in TABLES]
    objects, size = sum(it.objects for it in swept), sum(it.bytes for it in swept)
    if as_json:
        entries = sum(it.entries for it in swept)
        print_json({"objects": objects, "bytes": size, "entries": entries})
    else:
        click.echo(f"{objects} files deleted, {size:,} bytes")


@lake_command.command("keep")
@every_option(
    "--every", help="Seconds between two rounds.  [default: 600, or FRESHET_LAKE_KEEP_SECONDS]"
)
@system_option
def keep(every: float | None, data_dir: Path | None) -> None:
    """Compact and sweep at an interval, until SIGTERM. `freshet up` runs a process for it."""
    from infra.lake import keep as lake_keep
    from infra.local.home import prepare_folder
    from infra.settings import Settings

    settings = own_settings(data_dir) or settings_of(data_dir)
    prepare_folder(settings.data_dir, needed=False)
    lake_keep.run(settings, every or settings.lake_keep_seconds or Settings().lake_keep_seconds)
