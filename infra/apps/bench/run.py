"""The bench: its benchmarks one after the other, in folders of their own, and their report."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    from infra.apps.bench.figures import Row
    from infra.apps.bench.load import Generator
    from infra.apps.bench.results import Results

RESULT: Final = {
    "replay": "rounds",
    "lake": "rounds",
    "rebuild": "rounds",
    "verify": "verified",
    "post": "posts",
    "door": "attacks",
    "freshness": "fresh",
    "cpu": "components",
    "rollup": "rollup",
    "strangers": "strangers",
    "reads": "reads",
    "import": "imports",
}
"""Benchmark -> the field of `results.Results` that it fills."""
BENCHMARKS: Final = tuple(RESULT)
READ: Final = "read"
"""The benchmark of one read by a catalogue's size: it runs alone, with a report of its own."""
READ_REPORT: Final = "read.json"
READ_ITEMS: Final = 10_000
LOADED: Final = {"post", "door", "freshness", "cpu", "reads"}
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
    busy loops beside which freshness and reads are measured again. Gives the report and its table's rows;
    `not_measured` of the report has a sentence for each benchmark without a figure.
    Errors: `NoService`, `NotInstalled`, `home.Unusable`."""
    from infra.apps.bench import cpu, report
    from infra.apps.bench.services import clean_environment
    from infra.local.home import prepare_folder

    clean_environment()
    began, others = time.monotonic(), cpu.Neighbours()
    data_dir = prepare_folder(data_dir)
    folder, failed = data_dir / "bench", list[str]()
    with _scratch(folder) as scratch:
        results = _measure(
            chosen, data_dir, scratch, seconds, repeats, neighbours, failed, announce
        )
    document = report.report(results) | _context(seconds, repeats, time.monotonic() - began)
    document |= {"neighbours": neighbours, "not_measured": failed}
    document["machine"] = {**cpu.machine(), "cores_used_by_others": others.cores()}
    _write(folder / REPORT, document)
    return document, list(report.rows(results))


def run_read(
    items: int, data_dir: Path, seconds: float, repeats: int, announce: Announce
) -> tuple[list[dict[str, Any]], list[Row]]:
    """Runs the benchmark `READ` on a generated catalogue of `items` items, and writes `bench/read.json` in
    `data_dir`. Gives what it holds, and the table's rows.
    Errors: `load.NotMeasured`, `NoService`, `NotInstalled`, `home.Unusable`."""
    from infra.apps.bench.load import Generator, build
    from infra.apps.bench.read import measure
    from infra.apps.bench.services import clean_environment
    from infra.apps.train.needs import check_installed
    from infra.local.home import prepare_folder

    check_installed()
    clean_environment()
    data_dir = prepare_folder(data_dir)
    folder = data_dir / "bench"
    with _scratch(folder) as scratch:
        generator = Generator(build(data_dir / "bin" / "load"), "", scratch)
        made, rows = measure.measure(scratch / READ, generator, items, seconds, repeats, announce)
    _write(folder / READ_REPORT, made)
    return made, rows


def _measure(
    chosen: tuple[str, ...],
    data_dir: Path,
    scratch: Path,
    seconds: float,
    repeats: int,
    neighbours: int,
    failed: list[str],
    announce: Announce,
) -> Results:
    from infra.apps.bench import door, freshness, imports, reads, rounds, verify
    from infra.apps.bench.results import Results
    from infra.apps.bench.writes import components, post, rollup, strangers
    from infra.apps.train.needs import check_installed

    if "reads" in chosen:  # a missing package is reported before anything is measured
        check_installed()
    generator = _generator(chosen, data_dir, scratch)
    steps: dict[str, Callable[[], Any]] = {
        "verified": lambda: verify.measure(scratch / "verify", repeats, announce),
        "rollup": lambda: rollup.measure(repeats, announce),
        "strangers": lambda: strangers.measure(scratch / "strangers", announce),
        "imports": lambda: imports.measure(scratch / "import", repeats, announce),
    }
    if set(chosen) & set(rounds.ONE_LOG):
        replay = scratch / "replay"
        steps["rounds"] = lambda: rounds.measure(replay, chosen, repeats, announce)
    if generator:
        each = (generator, seconds, repeats)
        steps |= {
            "posts": lambda: post.measure(scratch / "post", *each, announce),
            "attacks": lambda: door.measure(scratch / "door", *each, announce),
            "fresh": lambda: freshness.freshness(
                scratch / "freshness", *each, neighbours, announce
            ),
            "components": lambda: components.measure(scratch / "cpu", *each, announce),
            "reads": lambda: reads.reads(scratch / "reads", *each, neighbours, announce),
        }
    wanted = dict.fromkeys(field for name, field in RESULT.items() if name in chosen)
    return Results(**measured({name: steps[name] for name in wanted}, failed, announce))


def measured(
    steps: Mapping[str, Callable[[], Any]], failed: list[str], announce: Announce
) -> dict[str, Any]:
    """What each step gives, by its name. A step that measures nothing is left out, and `failed` gets its
    sentence: the others go on, since all of them take a while."""
    from infra.apps.bench.load import NotMeasured
    from infra.apps.bench.rate import NeverHeld

    made = {}
    for name, step in steps.items():
        try:
            made[name] = step()
        except (NotMeasured, NeverHeld) as error:
            failed.append(str(error))
            announce(f"not measured: {error}")
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


def _write(path: Path, document: dict[str, Any] | list[dict[str, Any]]) -> None:
    import msgspec

    fresh = path.with_suffix(".new")
    fresh.write_bytes(msgspec.json.format(msgspec.json.encode(document), indent=2) + b"\n")
    fresh.replace(path)
