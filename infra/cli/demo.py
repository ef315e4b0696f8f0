"""`freshet demo`: a click on real data changes the next recommendation, and what that is worth."""

from __future__ import annotations

import os
import shutil
import signal
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Final

import click

if TYPE_CHECKING:
    from infra.cli.demo_report import Report
    from infra.cli.movielens import Catalogue
    from infra.cli.replay_schedule import Schedule
    from infra.supervise import System
    from infra.terminal.progress import Said

DEFAULT: Final = Path(".freshet/demo")
OWN: Final = ("KAFKA_BOOTSTRAP", "REDIS_URL")
"""The demo starts from nothing, so on a broker and a Redis of its own."""


@click.command("demo")
@click.option(
    "--data",
    type=click.Path(path_type=Path, exists=True, file_okay=False),
    help="Folder of MovieLens.  [default: $DATA, ./data, ./shared/data, ../shared/data]",
)
@click.option("--sample", type=click.IntRange(1), default=2_000, show_default=True, help="Targets.")
@click.option(
    "--rate", type=click.FloatRange(1), default=500, show_default=True, help="Events a second."
)
@click.option(
    "--population",
    type=click.IntRange(0, 9_999),
    default=300,
    show_default=True,
    help="Simulated people; 0: none.",
)
@click.option(
    "--seconds",
    type=click.FloatRange(1),
    default=60,
    show_default=True,
    help="How long they act.",
)
@click.option("--limit", type=click.IntRange(10), help="Of the latest ratings only so many.")
@click.option(
    "--stay/--no-stay", default=None, help="Stay up afterwards.  [default: at a terminal]"
)
@click.option(
    "--data-dir",
    type=click.Path(path_type=Path),
    default=DEFAULT,
    show_default=True,
    help="For the report, and for the system that is made anew in it.",
)
def demo_command(
    data: Path | None,
    sample: int,
    rate: float,
    population: int,
    seconds: float,
    limit: int | None,
    stay: bool | None,
    data_dir: Path,
) -> None:
    """See a click change the next recommendation, on real data.

    Starts everything from nothing, imports the first 80 % of MovieLens, learns a release of it, sends
    the rest through the running system, and asks it before 2,000 of the films that people liked next.
    Compares with popularity, and with the same recommender knowing less. Then simulated people, whose
    truth is known, live with it for a minute: half of them see what is popular, half what is theirs.
    Writes report.json.
    """
    from infra.cli import demo_report
    from infra.cli.console import console
    from infra.cli.demo_data import catalogue
    from infra.cli.demo_measure import measure
    from infra.cli.replay_schedule import schedule
    from infra.terminal.progress import Said

    say, began = Said(console()), time.monotonic()
    signal.signal(signal.SIGTERM, _leave)
    found = catalogue(data, data_dir.parent / "data")
    planned = schedule(found.ratings, sample=sample, limit=limit)
    say.head("Data", found.source)
    say(
        f"  {len(found.items):,} films; {len(planned.history):,} ratings are history,"
        f" {len(planned.steps):,} are replayed, {len(planned.scored):,} of them are targets"
    )
    path = data_dir / "report.json"
    with _system(data_dir / "system", say) as system:
        report = measure(system, found, planned, rate, say)
        demo_report.write(path, report)  # what comes after it can fail without it
        _tell(report, found, planned, say)
        _story(system, found, planned, say)
        if population:
            _crowd(system, found, population, seconds, report, say)
        report.seconds["total"] = round(time.monotonic() - began, 1)
        demo_report.write(path, report)
        say(f"Report: {path}, after {report.seconds['total']:.0f} s")
        if sys.stdin.isatty() if stay is None else stay:
            _stay(system, say)


@contextmanager
def _system(directory: Path, say: Said) -> Iterator[System]:
    """A new system in `directory`, from nothing. Errors: `home.Unusable`, RuntimeError."""
    from infra import home
    from infra.supervise import running

    if up := home.read(directory):
        raise home.Unusable(
            f"a demo is still up in {directory} (process {up.pid}): stop that one first (Ctrl-C)"
        )
    if given := [name for name in OWN if os.environ.pop(name, None)]:
        say(f"  {' and '.join(given)} left alone: the demo has its own")
    if directory.exists():
        shutil.rmtree(directory)
    began = time.monotonic()
    with running(directory) as system:
        say.head("System", f"up in {time.monotonic() - began:.1f} s at {system.url}")
        yield system


def _tell(report: Report, found: Catalogue, planned: Schedule, say: Said) -> None:
    from infra.cli import demo_report, demo_words

    say()
    say(demo_report.as_table(report))
    real = found.source.startswith("MovieLens")
    for sentence in (
        demo_words.verdict(report),
        demo_words.release(report),
        demo_words.flatters(planned, real),
        demo_words.speed(report),
    ):
        say(sentence)


def _story(system: System, found: Catalogue, planned: Schedule, say: Said) -> None:
    import asyncio

    from infra.cli import demo_story

    ratings = [*planned.history, *(step.rating for step in planned.steps)]
    story = asyncio.run(demo_story.tell(system.url, system.settings.token, ratings))
    before, after = demo_story.words(story, found)
    say()
    say.head("One person", before)
    for shown in demo_story.as_tables(story, found):
        say(shown)
    say(after)


def _crowd(
    system: System, found: Catalogue, count: int, seconds: float, report: Report, say: Said
) -> None:
    """After the story: from here on home is an experiment, and half of all people see the popular."""
    from infra.cli import demo_crowd, demo_panel, demo_words

    say()
    say.head("Many people", demo_words.BEFORE_CROWD.format(count=count, seconds=seconds))
    say(f"  beside it: `freshet tail experiments --data-dir {system.directory}`")
    began = time.monotonic()
    crowd = demo_crowd.live(system, found, count, seconds, say)
    demo_crowd.add(report, crowd)
    report.seconds["population"] = round(time.monotonic() - began, 1)
    say()
    say(demo_panel.as_table("Click rates, as the experiment counted them", crowd.seen, crowd.told))
    for sentence in demo_words.crowd(report):
        say(sentence)


def _stay(system: System, say: Said) -> None:
    """Until Ctrl-C, or until the system has gone."""
    say()
    say.head(
        "Up",
        f"open {system.url}/docs and try it; `freshet status --data-dir"
        f" {system.directory}` shows how it does. Ctrl-C stops it.",
    )
    try:
        while system.process.poll() is None:
            time.sleep(0.5)
    except KeyboardInterrupt:
        say("stopping")


def _leave(number: int, frame: object) -> None:
    sys.exit(128 + number)
