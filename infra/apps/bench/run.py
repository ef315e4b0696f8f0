"""The bench: its benchmarks one after the other, in folders of their own, and their report."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from infra.apps.bench.figures import Row
    from infra.apps.bench.load import Generator
    from infra.apps.bench.report import Results

BENCHMARKS: Final = (
    "replay",
    "lake",
    "rebuild",
    "verify",
    "post",
    "freshness",
    "cpu",
    "rollup",
    "reads",
    "import",
)
LOADED: Final = {"post", "freshness", "cpu", "reads"}
"""Benchmarks under the load generator."""
NEIGHBOURS: Final = 2
REPORT: Final = "loop.json"
Announce = Callable[[str], None]


def run(
    chosen: tuple[str, ...],
    data_dir: Path,
    seconds: float,
    repeats: int,
    announce: Announce,
    neighbours: int = NEIGHBOURS,
) -> tuple[dict[str, Any], list[Row]]:
    """Runs the `chosen` benchmarks and writes the report to `bench/loop.json` in `data_dir`. `neighbours`:
    busy loops beside which freshness and reads are measured again. Gives the report and its table's rows.
    Errors: `NoService`, `NotMeasured`, `NotInstalled`, `home.Unusable`."""
    from infra.apps.bench import cpu, report
    from infra.apps.bench.services import clean_environment
    from infra.local.home import prepare_folder

    clean_environment()
    began, others = time.monotonic(), cpu.Neighbours()
    data_dir = prepare_folder(data_dir)
    folder = data_dir / "bench"
    with _scratch(folder) as scratch:
        results = _measure(chosen, data_dir, scratch, seconds, repeats, neighbours, announce)
    document = report.report(results) | _context(seconds, repeats, time.monotonic() - began)
    document["neighbours"] = neighbours
    document["machine"] = {**cpu.machine(), "cores_used_by_others": others.cores()}
    _write(folder / REPORT, document)
    return document, list(report.rows(results))


def _measure(
    chosen: tuple[str, ...],
    data_dir: Path,
    scratch: Path,
    seconds: float,
    repeats: int,
    neighbours: int,
    announce: Announce,
) -> Results:
    from infra.apps.bench import freshness, imports, reads, rounds, verify
    from infra.apps.bench.report import Results
    from infra.apps.bench.writes import components, post, rollup
    from infra.apps.train.needs import check_installed

    made = Results()
    if "reads" in chosen:  # a missing package is reported before anything is measured
        check_installed()
    generator = _generator(chosen, data_dir, scratch)
    if set(chosen) & set(rounds.ONE_LOG):
        measured = rounds.measure(scratch / "replay", chosen, repeats, announce)
        made = made._replace(rounds=measured)
    if "verify" in chosen:
        made = made._replace(verified=verify.measure(scratch / "verify", repeats, announce))
    if generator and "post" in chosen:
        posts = post.measure(scratch / "post", generator, seconds, repeats, announce)
        made = made._replace(posts=posts)
    if generator and "freshness" in chosen:
        fresh = freshness.freshness(
            scratch / "freshness", generator, seconds, repeats, neighbours, announce
        )
        made = made._replace(fresh=fresh)
    if generator and "cpu" in chosen:
        by_component = components.measure(scratch / "cpu", generator, seconds, repeats, announce)
        made = made._replace(components=by_component)
    if "rollup" in chosen:
        made = made._replace(rollup=rollup.measure(repeats, announce))
    if generator and "reads" in chosen:
        of_reads = reads.reads(scratch / "reads", generator, seconds, repeats, neighbours, announce)
        made = made._replace(reads=of_reads)
    if "import" in chosen:
        made = made._replace(imports=imports.measure(scratch / "import", repeats, announce))
    return made


def _generator(chosen: tuple[str, ...], data_dir: Path, scratch: Path) -> Generator | None:
    """The load generator, compiled first: a missing compiler is reported before anything is measured."""
    if not LOADED & set(chosen):
        return None
    from infra.apps.bench.load import Generator, build

    return Generator(build(data_dir / "bin" / "load"), "", scratch)


def _context(seconds: float, repeats: int, took: float) -> dict[str, Any]:
    from infra.apps.bench import cpu as bench_cpu
    from infra.apps.bench import report as bench_report
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
    """A new folder in `folder`, on the disk of the data folder; removed at the end."""
    folder.mkdir(parents=True, exist_ok=True)
    scratch = Path(tempfile.mkdtemp(prefix="run-", dir=folder)).resolve()
    try:
        yield scratch
    finally:
        shutil.rmtree(scratch, ignore_errors=True)


def _write(path: Path, document: dict[str, Any]) -> None:
    import msgspec

    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    fresh.replace(path)
