"""`freshet bench`: what the loop does on this machine, as a table and as ``loop.json``."""

from __future__ import annotations

import shutil
import signal
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from infra.cli.console import DEFAULT_DIR, console, json_option, print_json, table

if TYPE_CHECKING:
    from infra.cli.bench_figures import Row
    from infra.cli.bench_load import Generator
    from infra.cli.bench_report import Results

PARTS: Final = ("replay", "lake", "rebuild", "verify", "freshness", "reads")
REPORT: Final = "loop.json"
Say = Callable[[str], None]


@click.command("bench")
@click.option(
    "--only",
    type=click.Choice(PARTS),
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
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=DEFAULT_DIR,
    envvar="FRESHET_DATA_DIR",
    show_default=True,
    help="The report goes to bench/loop.json in it.",
)
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
    from infra.cli import bench_cpu, bench_report
    from infra.cli.bench_services import clean_environment

    clean_environment()
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))  # tidy up first
    chosen, began, others = only or PARTS, time.monotonic(), bench_cpu.Neighbours()
    on = console(stderr=True)

    def say(line: str) -> None:
        on.print(f"[dim]{time.monotonic() - began:5.0f} s[/dim] {line}")

    folder = data_dir / "bench"
    with _scratch(folder) as scratch:
        results = _measure(chosen, data_dir, scratch, seconds, repeats, say)
    made = bench_report.report(results) | _about(seconds, repeats, time.monotonic() - began)
    made["machine"] = {**bench_cpu.machine(), "cores_used_by_others": others.cores()}
    _write(folder / REPORT, made)
    if as_json:
        print_json(made)
        return
    _show(bench_report.rows(results), made, folder / REPORT)


def _measure(
    chosen: tuple[str, ...], data_dir: Path, scratch: Path, seconds: float, repeats: int, say: Say
) -> Results:
    from infra.cli import bench_live, bench_turns, bench_verify
    from infra.cli.bench_report import Results

    turns = verified = fresh = reads = None
    generator = _generator(chosen, data_dir, scratch)
    if set(chosen) & set(bench_turns.PARTS):
        turns = bench_turns.measure(scratch / "replay", chosen, repeats, say)
    if "verify" in chosen:
        verified = bench_verify.measure(scratch / "verify", repeats, say)
    if generator and "freshness" in chosen:
        fresh = bench_live.freshness(scratch / "freshness", generator, seconds, repeats, say)
    if generator and "reads" in chosen:
        reads = bench_live.reads(scratch / "reads", generator, seconds, repeats, say)
    return Results(turns, verified, fresh, reads)


def _generator(chosen: tuple[str, ...], data_dir: Path, scratch: Path) -> Generator | None:
    """Compiled first of all: without a compiler nobody should wait for half a bench."""
    if not {"freshness", "reads"} & set(chosen):
        return None
    from infra.cli.bench_load import Generator, build

    return Generator(build(data_dir / "bin" / "load"), "", scratch)


def _about(seconds: float, repeats: int, took: float) -> dict[str, Any]:
    from infra.cli import bench_cpu, bench_report
    from infra.settings import Settings

    return {
        "versions": bench_cpu.versions(),
        "repeats": repeats,
        "seconds": seconds,
        "took_s": round(took, 1),
        "partitions": {
            "here": Settings().partitions,
            "production": bench_report.PRODUCTION_PARTITIONS,
        },
    }


@contextmanager
def _scratch(folder: Path) -> Iterator[Path]:
    """A new folder in `folder`, on the disk where a system would live; removed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    made = Path(tempfile.mkdtemp(prefix="run-", dir=folder)).resolve()
    try:
        yield made
    finally:
        shutil.rmtree(made, ignore_errors=True)


def _write(path: Path, made: dict[str, Any]) -> None:
    import msgspec

    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(made), indent=2) + b"\n")
    fresh.replace(path)


def _show(rows: list[Row], made: dict[str, Any], path: Path) -> None:
    from infra.cli import bench_report

    machine, partitions = made["machine"], made["partitions"]
    title = f"Freshet's loop on {machine['cores']} cores ({machine['processor']})"
    out = console()
    out.print(table(title, ("figure", "#floor", "#aim", "#measured", "#least to most", "ok"), rows))
    for line in bench_report.remarks(made):
        out.print(line)
    out.print(
        f"{partitions['here']} partitions here, {partitions['production']} in production."
        f" Report: {path}"
    )
