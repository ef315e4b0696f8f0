"""The demo's measurement: import, train, replay, the same in process, and their report."""

from __future__ import annotations

import itertools
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING

import uvloop

from flows.offline import history
from flows.offline.history import Log
from infra.apps.demo import history as demo_import
from infra.apps.demo import report, train
from infra.apps.demo.arms import Read, play
from infra.apps.demo.live import ReplayOutcome, Scored, replay
from infra.apps.demo.numbers import settle_heap
from infra.apps.demo.report import Report
from infra.apps.demo.schedule import Schedule
from infra.datasets.movielens import Dataset
from infra.settings import Settings, signing_key
from schemas.alphabet import Position
from schemas.events import Action
from serving.edge.identity import People

if TYPE_CHECKING:
    from infra.local.system import System
    from infra.terminal.progress import Reporter


def measure(
    system: System, dataset: Dataset, planned: Schedule, rate: float, reporter: Reporter
) -> Report:
    """Measures the system on the data, and gives the report.

    Errors: `history.NotSent`, `live.EventNotTaken`, `KafkaError`, those of training.
    """
    times = [time.monotonic()]
    split = demo_import.load(system, dataset, planned.history, reporter)
    times.append(time.monotonic())
    trained = train.serve(system, reporter)
    times.append(time.monotonic())
    with reporter.work("replay the rest through the system", len(planned.steps)) as progress:
        settings = system.settings
        settle_heap()
        # the client shares the machine with the system: uvloop is the lighter one
        outcome = uvloop.run(replay(system.url, system.token, planned.steps, rate, progress))
    times.append(time.monotonic())
    with reporter.work("read the log back"):
        log = history.read(settings)
    with reporter.work("decide again in process", 6 * len(outcome.reads)) as progress:
        reads = knowledge(outcome.reads, settings, len(split))
        arms = play(log, reads, split, settings, progress, train.load_release(system, trained))
    times.append(time.monotonic())
    made = report.report(outcome, arms, planned, dataset, lost(log, planned, outcome))
    made.unknown_items = _unknown(log)
    made.release = trained
    spent = [round(end - begun, 1) for begun, end in itertools.pairwise(times)]
    made.seconds = dict(zip(("import", "train", "replay", "in_process"), spent, strict=True))
    return made


def knowledge(scored: Sequence[Scored], settings: Settings, partitions: int) -> list[Read]:
    """The state that each live answer was made from, by its own account."""
    people = People(signing_key(settings), partitions)
    return [_read(it, people, partitions) for it in scored]


def _read(scored: Scored, people: People, partitions: int) -> Read:
    rating, slate = scored.step.rating, scored.slate
    person, position = people.user(rating.user_id), slate.position
    tables = tuple(int(text) for text in slate.served_by.tables.split("."))
    return Read(
        item_id=rating.item_id,
        person=person.pseudonym,
        partition=person.partition,
        now=rating.at,
        offset=Position.parse(position).offset + 1 if position else 0,
        # before the first publication the version is "0"
        tables=tables if len(tables) == partitions else (0,) * partitions,
    )


def lost(log: Log, planned: Schedule, outcome: ReplayOutcome) -> Counter[str]:
    """Counts of acknowledged events that are not in the log, and of records that do not decode."""
    ids = {e.event_id for records in log.events for _, _, e in records if isinstance(e, Action)}
    sent = [*planned.history, *(step.rating for step in planned.steps)]
    missing = sum(rating.body["event_id"] not in ids for rating in sent)
    return +Counter({"event: lost": missing, "record: undecodable": log.undecodable})


def _unknown(log: Log) -> int:
    return sum(
        not event.known
        for records in log.events
        for _, _, event in records
        if isinstance(event, Action)
    )
