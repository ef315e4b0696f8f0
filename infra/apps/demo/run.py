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

from infra.apps.demo import crowd, panel, story, words
from infra.apps.demo import report as reports
from infra.apps.demo.measure import measure
from infra.apps.demo.report import Report
from infra.apps.evaluate.schedule import Schedule, schedule
from infra.datasets.movielens import Dataset
from infra.local import home
from infra.local.system import System, running
from infra.terminal.progress import Reporter

IGNORED_VARIABLES: Final = ("KAFKA_BOOTSTRAP", "REDIS_URL", "REDIS_URL_FILE")
"""The demo needs an empty broker and an empty Redis, so it starts its own."""


def run(
    found: Dataset,
    data_dir: Path,
    say: Reporter,
    *,
    sample: int,
    rate: float,
    population: int,
    seconds: float,
    limit: int | None,
    stay: bool,
) -> None:
    """The whole demo on the data `found`, and its report.json. Errors: `home.Unusable`, `SystemFailed`."""
    began = time.monotonic()
    planned = schedule(found.ratings, sample=sample, limit=limit)
    say.head("Data", found.source)
    say(
        f"  {len(found.items):,} films; {len(planned.history):,} ratings are history,"
        f" {len(planned.steps):,} are replayed, {len(planned.scored):,} of them are targets"
    )
    path = data_dir / "report.json"
    with _system(data_dir / "system", say) as system:
        report = measure(system, found, planned, rate, say)
        reports.write(path, report)  # kept where a later step fails
        _print_figures(report, found, planned, say)
        _story(system, found, planned, say)
        if population:
            _crowd(system, found, population, seconds, report, say)
        report.seconds["total"] = round(time.monotonic() - began, 1)
        reports.write(path, report)
        say(f"Report: {path}, after {report.seconds['total']:.0f} s")
        if stay:
            _stay(system, say)


@contextmanager
def _system(directory: Path, say: Reporter) -> Iterator[System]:
    """A new system in `directory`, which is emptied before. Errors: `home.Unusable`, `SystemFailed`."""
    if up := home.read(directory):
        raise home.Unusable(
            f"a demo still runs in {directory} (process {up.pid}): stop it first (Ctrl-C)"
        )
    if given := [name for name in IGNORED_VARIABLES if os.environ.pop(name, None)]:
        say(f"  {' and '.join(given)} ignored: the demo starts its own services")
    if directory.exists():
        shutil.rmtree(directory)
    began = time.monotonic()
    with running(directory) as system:
        say.head("System", f"up in {time.monotonic() - began:.1f} s at {system.url}")
        yield system


def _print_figures(report: Report, found: Dataset, planned: Schedule, say: Reporter) -> None:

    say()
    say(reports.as_table(report))
    real = found.source.startswith("MovieLens")
    for sentence in (
        words.verdict(report),
        words.release(report),
        words.caveat(planned, real),
        words.speed(report),
    ):
        say(sentence)


def _story(system: System, found: Dataset, planned: Schedule, say: Reporter) -> None:

    ratings = [*planned.history, *(step.rating for step in planned.steps)]
    played = asyncio.run(story.play(system.url, system.settings.token, ratings))
    before, after = story.words(played, found)
    say()
    say.head("One person", before)
    for shown in story.as_tables(played, found):
        say(shown)
    say(after)


def _crowd(
    system: System, found: Dataset, count: int, seconds: float, report: Report, say: Reporter
) -> None:
    """Runs after the story: from here on half of all people see popular items at the placement home."""

    say()
    say.head("Many people", words.BEFORE_CROWD.format(count=count, seconds=seconds))
    say(f"  beside it: `freshet tail experiments --data-dir {system.directory}`")
    began = time.monotonic()
    lived = crowd.live(system, found, count, seconds, say)
    crowd.add(report, lived)
    report.seconds["population"] = round(time.monotonic() - began, 1)
    say()
    say(panel.as_table("Click rates, as the experiment counted them", lived.seen, lived.metrics))
    for sentence in words.crowd(report):
        say(sentence)


def _stay(system: System, say: Reporter) -> None:
    """Waits until Ctrl-C, or until the system ends."""
    say()
    say.head(
        "Up",
        f"open {system.url}/docs to try it; `freshet status --data-dir"
        f" {system.directory}` shows its processes. Ctrl-C stops it.",
    )
    try:
        while system.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("stopping")
