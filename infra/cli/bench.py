"""`freshet bench`: figures of the loop on this machine, as a table and as ``loop.json``."""

from __future__ import annotations

import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from infra.apps.bench.run import (
    BENCHMARKS,
    NEIGHBOURS,
    READ,
    READ_ITEMS,
    READ_REPORT,
    REPORT,
    run,
    run_read,
)
from infra.cli.options import folder_option, json_option, print_json
from infra.terminal.text import console, table

if TYPE_CHECKING:
    from infra.apps.bench.figures import Row


@click.command("bench")
@click.option(
    "--only",
    type=click.Choice((*BENCHMARKS, READ)),
    multiple=True,
    help="Run only this benchmark (repeatable).  [default: all but read]",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1, 600),
    default=5,
    show_default=True,
    help="Duration of each load.",
)
@click.option(
    "--repeats",
    type=click.IntRange(1, 50),
    default=3,
    show_default=True,
    help="Runs of each benchmark.",
)
@click.option(
    "--neighbours",
    type=click.IntRange(0, 64),
    default=NEIGHBOURS,
    show_default=True,
    help="Busy loops beside which freshness and reads are measured again; 0: they are not.",
)
@click.option(
    "--items",
    type=click.IntRange(100, 5_000_000),
    default=READ_ITEMS,
    show_default=True,
    help="With --only read: items of the generated catalogue.",
)
@folder_option("Folder for the report, bench/loop.json.")
@json_option
def bench_command(
    only: tuple[str, ...],
    seconds: float,
    repeats: int,
    neighbours: int,
    items: int,
    data_dir: Path,
    as_json: bool,
) -> None:
    """Measure the loop on this machine, from the log to reads. About 25 minutes.

    The bench starts a broker and a Redis of its own in a temporary folder and removes them at the end; it
    ignores KAFKA_BOOTSTRAP and REDIS_URL. A figure is the median over --repeats, printed with its least and
    its most. Run nothing else meanwhile: load generator and services share the machine.

    \b
    replay     fold a log through `people`, with roll-up and relay; refused unless the result is exact
    lake       the same with the flow `lake`: the cost of writing it
    rebuild    the same log from the lake into a new generation of keys; refused unless exact
    verify     compare a live system with its log: a sample of people, every table
    post       a single POST on one worker, at 300/s without reads, beside a bare route of FastAPI and a
               bare guarded one: CPU; and the best rate with p99 below 100 ms
    door       attacks on one worker (half-sent heads, slow bodies, endless headers, a URL of 32 MB): p99 of
               other requests beside each, and the memory that it takes
    freshness  from a POST's first byte to a read that includes it, at 1,000 and 5,000 events/s, alone
               and beside busy loops; by stage (POST, commit, read)
    cpu        CPU by component: without work, and at 1,000 POSTs/s that nobody reads
    rollup     the roll-up's work for an entry, with 10,000 and with 1,000,000 items
    strangers  what 100,000 and 1,000,000 reads of ids that nobody has seen leave in Redis
    reads      recommendations on MovieLens with everything on (a trained release, every source and
               rule, exploration, an experiment, logged slates): at 300/s, alone and beside busy loops,
               while releases are swapped, and the best rate with p95 below 50 ms; what a served slate
               costs the broker and the flows
    read       alone, by name: one read of a generated catalogue with everything on and a ranker of trees,
               by each retrieval, beside a bare route; bench/read.json
    import     a million events through `freshet import` with the whole system up, and the same file
               again, each beside a bare consumer; the memory of an import of MovieLens

    \b
    freshet bench
    freshet bench --only reads --seconds 8 --repeats 5
    freshet bench --only post --only freshness --neighbours 0
    freshet bench --only read --items 100000
    """
    from infra.apps.bench.load import NotMeasured

    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # tidy up first
    began, on = time.monotonic(), console(stderr=True)

    def announce(line: str) -> None:
        on.print(f"[dim]{time.monotonic() - began:5.0f} s[/dim] {line}")

    if READ in only:
        if set(only) != {READ}:
            raise click.UsageError(f"{READ} runs alone")
        made, lines = run_read(items, data_dir, seconds, repeats, announce)
        if as_json:
            print_json(made)
        else:
            _show_read(lines, made, data_dir / "bench" / READ_REPORT)
        return
    document, rows = run(only or BENCHMARKS, data_dir, seconds, repeats, announce, neighbours)
    if as_json:
        print_json(document)
    else:
        _show(rows, document, data_dir / "bench" / REPORT)
    if why := document["not_measured"]:
        raise NotMeasured("; ".join(why))


def _show(rows: list[Row], document: dict[str, Any], path: Path) -> None:
    from infra.apps.bench import report

    machine, partitions = document["machine"], document["partitions"]
    title = f"Freshet's loop on {machine['cores']} cores ({machine['processor']})"
    out = console()
    out.print(table(title, ("figure", "#floor", "#aim", "#measured", "#least to most", "ok"), rows))
    for line in report.remarks(document):
        out.print(line)
    out.print(
        f"{partitions['here']} partitions here, {partitions['production']} in production."
        f" Report: {path}"
    )


def _show_read(rows: list[Row], made: list[dict[str, Any]], path: Path) -> None:
    from infra.apps.bench import cpu
    from infra.apps.bench.read import figures

    machine, out = cpu.machine(), console()
    title = f"One read on {machine['cores']} cores ({machine['processor']})"
    out.print(table(title, ("figure", "#floor", "#aim", "#measured", "#least to most", "ok"), rows))
    for it in made:
        for line in figures.remarks(it):
            out.print(line)
    out.print(f"Report: {path}")
