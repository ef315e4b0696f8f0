"""Once the traffic is over: waiting until all of it is everywhere, and comparing."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterator
from typing import Final

import msgspec

from flows.offline import view
from flows.verify.run import verify
from infra.kafka.reader import Topics
from infra.lake.reader import Lake
from infra.log_reader import LogReader
from infra.settings import Settings, signing_key
from models.reference.dedupe import name_of
from schemas import events
from schemas.events import Listed, Merge
from schemas.topics import DEAD_LETTERS, EVENTS
from serving.edge.identity import People
from tests.chaos.accounts import Found, Pseudonyms, Row, check
from tests.chaos.crowd import Crowd
from tests.chaos.ledgers import Ledgers
from tests.chaos.watch import AWAY, Watch

QUIET_SECONDS: Final = 1.0
"""Seconds without a new record, after which spools and outboxes are empty."""


class NotQuiet(RuntimeError):
    """Some store lacks records of the log; the text names it."""


def await_quiet(watch: Watch, seconds: float) -> None:
    """Waits until every store has the whole log. Errors: `NotQuiet`."""
    until, still, since = time.monotonic() + seconds, "the log", time.monotonic()
    end_offsets: dict[int, int] = {}
    while time.monotonic() < until:
        try:
            now = watch.end_offsets()
            if now != end_offsets:
                end_offsets, since = now, time.monotonic()
            still = _behind(watch, end_offsets)
        except AWAY as error:
            still = type(error).__name__
        if not still and time.monotonic() - since >= QUIET_SECONDS:
            return
        time.sleep(0.1)
    raise NotQuiet(f"{still} is behind the log's end {end_offsets} after {seconds:g} s")


def _behind(watch: Watch, end_offsets: dict[int, int]) -> str:
    positions: dict[str, Callable[[], dict[int, int]]] = {
        "people": watch.folded,
        "published tables": watch.added,
        "stored tables": watch.stored,
        "lake": watch.laked,
    }
    for name, where in positions.items():
        if (there := where()) != end_offsets:
            return f"{name} ({there})"
    if watch.waiting():
        return "relay"
    letters = watch.end_offsets(DEAD_LETTERS.name, [0])
    return "" if watch.laked(DEAD_LETTERS.name, [0]) == letters else "lake of dead letters"


def accounts(settings: Settings, ledgers: Ledgers, crowd: Crowd) -> Found:
    """The ledgers against the lake, and the lake against the log."""
    lake, people = Lake.of(settings), People(signing_key(settings), settings.partitions)
    who = Pseudonyms(
        lambda raw: people.user(raw).pseudonym, lambda raw: people.anonymous(raw).pseudonym
    )
    letters = [key or b"" for key, _ in _keyed(lake, DEAD_LETTERS.name, 0)]
    found = check(ledgers, _rows(lake, settings), letters, who, crowd)
    for one, other in zip(_rows(lake, settings), _rows(Topics(settings), settings), strict=True):
        if one != other:
            found.wrong("lake_differs", f"events {other.partition}:{other.offset}")
    return found


def doubles(settings: Settings) -> dict[str, int]:
    """Records of the de-duplicated view that it has twice; and, where it lacks some that the log has,
    how many."""
    lake, found = Lake.of(settings), dict.fromkeys(("doubled", "lost_in_view"), 0)
    for p in range(settings.partitions):
        names = [identity(event) for event in _view(lake, settings, p)]
        there = {identity(event) for event in _decoded(lake, settings, p)}
        found["doubled"] += len(names) - len(set(names))
        found["lost_in_view"] += len(there - set(names))
    return found


def _view(lake: Lake, settings: Settings, p: int) -> Iterator[events.Event]:
    for batch in view.events(lake, settings, p, lake.bounds(EVENTS.name, p)[1]):
        yield from (event for _, _, event in batch.records)


def _decoded(lake: Lake, settings: Settings, p: int) -> Iterator[events.Event]:
    start, end = lake.bounds(EVENTS.name, p)
    for batch in lake.read(EVENTS.name, p, start, end):
        for value, timestamp in zip(batch.values, batch.timestamps, strict=True):
            with contextlib.suppress(msgspec.DecodeError):
                yield events.decode(value or b"", timestamp)


def identity(event: events.Event) -> tuple[str, object]:
    """The identity of an event, by which repeats are found. A mark that the roll-up sends again, as it does
    after a kill (`flows.rollup.marks`), is a record of its own, made at another time."""
    if isinstance(event, Merge):
        return event.person, (event.source, event.offset, event.n)
    if isinstance(event, Listed):
        return event.person, (event.items, event.received_at)
    return event.person, name_of(event)


def wrong_values(settings: Settings) -> dict[str, int]:
    """Everything in Redis against the slow definitions over the log: what is wrong, by kind."""
    report = verify(settings, Topics(settings))
    if not report.people_checked:
        raise NotQuiet("verify found no person to check")
    for mismatch in report.mismatches[:10]:
        print(f"  {mismatch}")
    return dict(report.wrong())


def _rows(log: LogReader, settings: Settings) -> Iterator[Row]:
    for p in range(settings.partitions):
        start, end = log.bounds(EVENTS.name, p)
        for batch in log.read(EVENTS.name, p, start, end):
            for record in zip(batch.offsets, batch.values, batch.timestamps, strict=True):
                yield Row(p, *record)


def _keyed(log: LogReader, topic: str, partition: int) -> Iterator[tuple[bytes | None, int]]:
    start, end = log.bounds(topic, partition)
    for batch in log.read(topic, partition, start, end):
        yield from zip(batch.keys, batch.offsets, strict=True)
