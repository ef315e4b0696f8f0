"""`freshet verify`: compare Redis with the log, once or at an interval."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

from flows.verify.run import SAMPLED_PEOPLE
from infra.cli.options import (
    every_option,
    json_option,
    partitions_option,
    print_json,
    system_option,
)
from infra.local.find import find, own_settings
from infra.terminal.text import console, table

if TYPE_CHECKING:
    from flows.verify.report import Report

MAX_SHOWN: Final = 40
"""Mismatches in the printed table; ``--json`` lists more."""


@click.command("verify")
@click.option(
    "--people",
    type=click.IntRange(1),
    metavar="N",
    help=f"Check N people.  [default: {SAMPLED_PEOPLE}]",
)
@click.option("--seed", default=0, show_default=True, help="Seed of the sample of people.")
@click.option("--sums", is_flag=True, help="Check every table, and no people without --people.")
@partitions_option("Check this partition (repeatable), all people of it without --people.")
@every_option(
    "--every", help="Check at this interval, until SIGTERM, and export the result to Prometheus."
)
@system_option
@json_option
def verify_command(
    people: int | None,
    seed: int,
    sums: bool,
    partitions: tuple[int, ...],
    every: float | None,
    data_dir: Path | None,
    as_json: bool,
) -> None:
    """Compare what Redis holds with what the log says, in a running system.

    Everything is computed again from the log, slowly and plainly: by default a sample of people and all
    tables. Where the log's beginning is gone, the newest snapshot that the log still reaches back to takes
    its place. Nothing is written. Exit status 1 where a value is wrong.

    \b
    freshet verify
    freshet verify --people 5000 --seed 7
    freshet verify --partition 3
    freshet verify --sums --json | jq '.mismatches | length'
    """
    if every is not None:
        if people or sums or partitions:
            raise click.UsageError(
                "--every checks a sample of people and all tables: omit --people, --sums and --partition"
            )
        _repeat(data_dir, every)
        return
    running = find(data_dir)
    if any(partition >= running.settings.partitions for partition in partitions):
        raise click.UsageError(f"partitions are 0 to {running.settings.partitions - 1}")
    from flows.verify.run import verify
    from infra.lake.log import open_log

    everything = not (people or sums or partitions)
    report = verify(
        running.settings,
        open_log(running.settings),
        people=people or (None if partitions else SAMPLED_PEOPLE if everything else 0),
        sums=sums or everything,
        partitions=partitions or None,
        seed=seed,
    )
    if as_json:
        import msgspec

        print_json(msgspec.to_builtins(report))
    else:
        show(report)
    if report.mismatches:
        raise click.exceptions.Exit(1)


def _repeat(data_dir: Path | None, seconds: float) -> None:
    from flows.verify import repeat

    repeat.run(own_settings(data_dir) or find(data_dir).settings, seconds, SAMPLED_PEOPLE)


def show(report: Report) -> None:
    """Prints the mismatches and a summary."""
    wrong = report.mismatches
    if wrong:
        columns = ("what", "field", "stored", "expected", "key")
        rows = [(it.what, it.field, it.stored, it.expected, it.key) for it in wrong[:MAX_SHOWN]]
        console().print(table("Values that differ from the log", columns, rows))
    if len(wrong) > MAX_SHOWN:
        click.echo(f"… and {len(wrong) - MAX_SHOWN} more (--json lists them)")
    many = f"{len(report.partitions)} partition" + "s" * (len(report.partitions) != 1)
    since = f" from snapshot {report.snapshot} on" if report.snapshot else ""
    click.echo(
        f"{many}, {report.events:,} records of the log{since} at {report.rate:,.0f}/s,"
        f" {report.people_checked:,} people, {report.fields_checked:,} fields:"
        + (f" {len(wrong)} are wrong" if wrong else " all as the log says")
    )
