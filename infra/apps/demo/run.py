"""The demo from beginning to end: a new system, its measurement, one person, simulated people."""

from __future__ import annotations

import asyncio
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from infra.apps.demo import crowd, panel, recipes, story, words
from infra.apps.demo import report as reports
from infra.apps.demo.measure import measure
from infra.apps.demo.report import Report
from infra.apps.demo.schedule import Schedule, schedule
from infra.apps.replay import recipe
from infra.datasets.movielens import Dataset
from infra.local import home
from infra.local.system import System, running
from infra.settings import FILES, VARIABLES
from infra.terminal.progress import Reporter

IGNORED_VARIABLES: Final = tuple(
    names[field]
    for names in (VARIABLES, FILES)
    for field in names
    if field.startswith("kafka_") or field == "redis_url"
)
"""The demo needs an empty broker and an empty Redis, so it starts its own."""


def run(
    dataset: Dataset,
    data_dir: Path,
    reporter: Reporter,
    *,
    sample: int,
    rate: float,
    population: int,
    seconds: float,
    limit: int | None,
    stay: bool,
) -> None:
    """The whole demo on `dataset`, and its report.json. Errors: `home.Unusable`, `SystemFailed`."""
    began = time.monotonic()
    planned = schedule(dataset.ratings, sample=sample, limit=limit)
    reporter.head("Data", dataset.source)
    reporter(
        f"  {len(dataset.items):,} films; {len(planned.history):,} ratings are history,"
        f" {len(planned.steps):,} are replayed, {len(planned.scored):,} of them are targets"
    )
    path = data_dir / "report.json"
    with _system(data_dir / "system", reporter) as system:
        report = measure(system, dataset, planned, rate, reporter)
        reports.write(path, report)  # kept where a later step fails
        _print_figures(report, dataset, planned, reporter)
        asyncio.run(recipes.put(system.url, system.token))
        _story(system, dataset, planned, reporter)
        if population:
            _crowd(system, dataset, population, seconds, report, reporter)
        report.seconds["total"] = round(time.monotonic() - began, 1)
        reports.write(path, report)
        reporter(f"Report: {path}, after {report.seconds['total']:.0f} s")
        if stay:
            _stay(system, reporter)


@contextmanager
def _system(directory: Path, reporter: Reporter) -> Iterator[System]:
    """A new system in `directory`, which is emptied before. Errors: `home.Unusable`, `SystemFailed`."""
    if up := home.read(directory):
        raise home.Unusable(
            f"a demo still runs in {directory} (process {up.pid}): stop it first (Ctrl-C)"
        )
    if given := [name for name in IGNORED_VARIABLES if os.environ.pop(name, None)]:
        reporter(f"  {' and '.join(given)} ignored: the demo starts its own services")
    if directory.exists():
        shutil.rmtree(directory)
    began = time.monotonic()
    with running(directory) as system:
        reporter.head("System", f"up in {time.monotonic() - began:.1f} s at {system.url}")
        yield system


def _print_figures(report: Report, dataset: Dataset, planned: Schedule, reporter: Reporter) -> None:

    reporter()
    reporter(reports.as_table(report))
    real = dataset.source.startswith("MovieLens")
    for sentence in (
        words.verdict(report),
        recipe.sentence(report.repeat),
        words.release(report),
        words.caveat(planned, real),
        words.speed(report),
    ):
        reporter(sentence)


def _story(system: System, dataset: Dataset, planned: Schedule, reporter: Reporter) -> None:

    ratings = [*planned.history, *(step.rating for step in planned.steps)]
    played = asyncio.run(story.play(system.url, system.token, ratings))
    before, after = story.words(played, dataset)
    reporter()
    reporter.head("One person", before)
    for shown in story.as_tables(played, dataset):
        reporter(shown)
    reporter(after)


def _crowd(
    system: System, dataset: Dataset, count: int, seconds: float, report: Report, reporter: Reporter
) -> None:
    """Runs after the story: from here on half of all people see popular items at the placement home."""

    reporter()
    reporter.head("Many people", words.BEFORE_CROWD.format(count=count, seconds=seconds))
    reporter(f"  beside it: `freshet tail experiments --data-dir {system.directory}`")
    began = time.monotonic()
    lived = crowd.live(system, dataset, count, seconds, reporter)
    crowd.add(report, lived)
    report.seconds["population"] = round(time.monotonic() - began, 1)
    reporter()
    reporter(
        panel.as_table("Click rates, as the experiment counted them", lived.seen, lived.metrics)
    )
    for sentence in words.crowd(report):
        reporter(sentence)


def _stay(system: System, reporter: Reporter) -> None:
    """Waits until Ctrl-C, or until the system ends."""
    reporter()
    reporter.head(
        "Up",
        f"open {system.url}/docs to try it; `freshet status --data-dir"
        f" {system.directory}` shows its processes. Ctrl-C stops it.",
    )
    try:
        while system.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        reporter("stopping")
