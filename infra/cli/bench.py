"""`freshet bench`: what the loop does on this machine, as a table and as ``loop.json``."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.apps.bench.run import BENCHMARKS, REPORT, run
from infra.cli.options import folder_option, json_option, print_json
from infra.terminal.text import console, table

if TYPE_CHECKING:
    from infra.apps.bench.figures import Row


@click.command("bench")
@click.option(
    "--only",
    type=click.Choice(BENCHMARKS),
    multiple=True,
    help="This part (repeatable).  [default: all]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=5,
    show_default=True,
    help="How long each load is kept up.",
)
@click.option("--repeats", type=click.IntRange(1, 50), default=3, show_default=True)
@folder_option("The report goes to bench/loop.json in it.")
@json_option
def bench_command(
    only: tuple[str, ...], seconds: float, repeats: int, data_dir: Path, as_json: bool
) -> None:
    """Measure the loop on this machine, from the log to reads. About 8 minutes.

    Everything runs in folders of its own, on broker and Redis of its own, and is gone afterwards;
    KAFKA_BOOTSTRAP and REDIS_URL are not looked at. Figures are medians over --repeats, beside the
    least and the most. Leave the machine alone meanwhile: load generator and services share it.

    \b
    replay     a log through the flow `people`, roll-up and relay beside it; refused unless exact
    lake       the same with the flow `lake` beside it: what its writing costs
    rebuild    the same log off line, from the lake into a new generation of keys; so exact, too
    verify     a live system held against its log: a sample of people, every table
    freshness  from a POST's first byte to a read that includes it, at 1,000 and 5,000 events/s
    reads      recommendations on MovieLens with everything on (a trained release, every source and
               rule, exploration, an experiment, slates logged): at 300/s, while releases are swapped,
               and the best rate with p95 below 50 ms

    \b
    freshet bench
    freshet bench --only reads --seconds 8 --repeats 5
    """
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # tidy up first
    began, on = time.monotonic(), console(stderr=True)

    def say(line: str) -> None:
        on.print(f"[dim]{time.monotonic() - began:5.0f} s[/dim] {line}")

    made, rows = run(only or BENCHMARKS, data_dir, seconds, repeats, say)
    if as_json:
        print_json(made)
        return
    _show(rows, made, data_dir / "bench" / REPORT)


def _show(rows: list[Row], made: dict[str, Any], path: Path) -> None:
    from infra.apps.bench import report

    machine, partitions = made["machine"], made["partitions"]
    title = f"Freshet's loop on {machine['cores']} cores ({machine['processor']})"
    out = console()
    out.print(table(title, ("figure", "#floor", "#aim", "#measured", "#least to most", "ok"), rows))
    for line in report.remarks(made):
        out.print(line)
    out.print(
        f"{partitions['here']} partitions here, {partitions['production']} in production."
        f" Report: {path}"
    )
