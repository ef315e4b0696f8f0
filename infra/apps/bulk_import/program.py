"""The import: files are read, events are named, what is new goes to the API, what it took is remembered."""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from itertools import repeat
from pathlib import Path
from types import TracebackType
from typing import Any, Final, NamedTuple, Protocol

import msgspec
import numpy as np

from infra.apps.bulk_import import names
from infra.apps.bulk_import.findings import Findings, Origin, Show
from infra.apps.bulk_import.gather import gathered
from infra.apps.bulk_import.memory import Memory, NotRemembered
from infra.apps.bulk_import.names import NamedEvents
from infra.apps.bulk_import.outcome import Outcome
from infra.client import client
from infra.client.answers import Accepted
from infra.client.senders import LineBatch, Taken
from infra.datasets import values
from infra.datasets.rows import Chunk, Notes, NotReadable, Source
from schemas import times
from schemas.items import ItemIn
from schemas.reject import Rejected

ITEMS_AWAITED: Final = 32
"""So many of the last items must be indexed before events follow: some of every partition."""
_ITEM: Final = msgspec.json.Decoder(ItemIn)
Progress = Callable[[int], None]
"""Called with the number of bytes that were read."""
Bar = Callable[[str, int], Progress]
"""Makes the progress of a file, from its name and its size in bytes."""


class Destination(Protocol):
    """Where lines go: `infra.client.senders.Senders`, or a rehearsal."""

    def __enter__(self) -> Any: ...

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        at: TracebackType | None,
    ) -> None: ...

    @property
    def retries(self) -> int: ...

    def put(self, key: str, line: bytes, origin: Any) -> None: ...

    def put_all(
        self, keys: Sequence[str], lines: Sequence[bytes], origins: Sequence[Any]
    ) -> None: ...


Opening = Callable[[str, Taken, threading.Event], Destination]
"""Opens a destination of a path of the API; it ends early once the event is set."""


class Job(NamedTuple):
    """What is to be imported, items before events. `strict`: stop at the first line that is refused.
    `again`: send also what is remembered."""

    items: Sequence[Source]
    events: Sequence[Source]
    strict: bool = False
    again: bool = False


class BulkImport:
    """One import. `outcomes` gets what became of ``items`` and of ``events``, also of what an error ended.
    `await_items` waits until the last items are indexed; None: nothing is sent, so it is a dry run."""

    def __init__(
        self,
        job: Job,
        memory: Memory,
        opening: Opening,
        bar: Bar,
        show: Show,
        outcomes: dict[str, Outcome],
        await_items: Callable[[list[str]], None] | None = None,
    ) -> None:
        self.outcomes = outcomes
        self._job, self._memory, self._opening = job, memory, opening
        self._bar, self._show, self._await_items = bar, show, await_items
        self._stop = threading.Event()

    def run(self) -> None:
        """Sends everything. Errors: `NotSent`, `NotRemembered`."""
        if self._job.items:
            self._send("items", client.ITEMS, self._put_items, self._job.items)
        if self._job.events and not self._stop.is_set():
            self._send("events", client.HISTORY, self._put_events, self._job.events)

    def _send(
        self,
        name: str,
        path: str,
        put: Callable[[Destination, Source, Outcome], None],
        sources: Sequence[Source],
    ) -> None:
        stop = self._stop.set if self._job.strict else None
        outcome = self.outcomes[name] = Outcome(
            Findings(self._show, stop), dry_run=self._await_items is None
        )
        began = time.monotonic()
        last: deque[str] = deque(maxlen=ITEMS_AWAITED)
        taken = _Taken(outcome, self._memory if name == "events" else None, last)
        destination = self._opening(path, taken, self._stop)
        try:
            with destination:
                for source in sources:
                    if not self._stop.is_set():
                        put(destination, source, outcome)
        except NotRemembered as error:
            raise self._explained(error) from None
        finally:
            outcome.sent.seconds = time.monotonic() - began
            outcome.sent.retries = destination.retries
            if taken.dropped:
                text = f"{taken.dropped:,} attributes are not kept: numbers beyond 2^53, lists or objects"
                outcome.findings.warn("attributes_dropped", text, taken.dropped)
            outcome.stopped = self._job.strict and outcome.findings.any_refused
        if last and self._await_items:
            self._await_items([*last])

    def _put_items(self, destination: Destination, source: Source, outcome: Outcome) -> None:
        for chunk in self._chunks(source, outcome):
            outcome.findings.add_faults(source.path, chunk.faults)
            for body, line in zip(chunk.bodies, chunk.lines, strict=True):
                try:
                    body, item_id = _item(body, source.notes)
                except Rejected as error:
                    outcome.findings.faults.add(Origin(source.path, line), error.field, error.code)
                else:
                    if self._stop.is_set():
                        return
                    destination.put(item_id, body, (source.path, line, item_id))

    def _put_events(self, destination: Destination, source: Source, outcome: Outcome) -> None:
        order = _Order()
        for chunk in self._chunks(source, outcome):
            read = names.read(chunk, source.notes)
            outcome.findings.add_faults(source.path, read.faults)
            order.add(read)
            found = self._memory.look_up(read.days, read.hashes, read.unnamed)
            outcome.already_sent += int(found.remembered.sum())
            chosen = np.ones(len(read.events), bool) if self._job.again else ~found.remembered
            if self._stop.is_set():
                return
            new = read.chosen(chosen)
            origins = zip(
                repeat(source.path),
                new.lines.tolist(),
                new.days.tolist(),
                found.keys[chosen].tolist(),
                found.remembered[chosen].tolist(),
                strict=False,
            )
            destination.put_all(
                names.people(new.events),
                names.with_ids(new, found.numbers[chosen]),
                list(origins),
            )
        order.report(source.path, outcome.findings)

    def _chunks(self, source: Source, outcome: Outcome) -> Iterator[Chunk]:
        """The rows of a source until it ends or the import stops; an end too early is a finding."""
        outcome.findings.notes.append((source.path, source.notes))
        progress, before = self._bar(source.path.name, source.size), 0
        try:
            for chunk in gathered(source.chunks()):
                outcome.read += len(chunk.bodies) + len(chunk.faults)
                yield chunk
                if self._stop.is_set():
                    return
                progress(source.read - before)
                before = source.read
        except NotReadable as error:
            outcome.findings.add_unreadable(source.path, str(error))

    def _explained(self, error: NotRemembered) -> NotRemembered:
        lost = self._memory.unwritten
        if not lost:
            return error
        return NotRemembered(
            f"{error.sentence}: {lost:,} events were accepted and are not remembered, so they count once only"
            " if they are sent again within the de-duplication window",
            remedy=error.remedy,
        )


class _Taken:
    """Counts the answers, and remembers the accepted events or the last accepted items. `dropped`: attributes
    with a value that the API does not keep."""

    def __init__(self, outcome: Outcome, memory: Memory | None, last: deque[str]) -> None:
        self._outcome, self._memory, self._last = outcome, memory, last
        self.dropped = 0

    def __call__(self, batch: LineBatch, answer: Accepted) -> None:
        self._outcome.sent.count(len(batch.lines), answer)
        self.dropped += sum(it.code != "null" for it in answer.dropped)
        refused = {it.index for it in answer.rejected}
        for it in answer.rejected:
            if it.index < len(batch.origins):
                path, line, *_ = batch.origins[it.index]
                self._outcome.findings.rejected.add(Origin(path, line), it.field or "body", it.code)
        if not answer.accepted:
            return
        accepted = batch.origins
        if refused:
            accepted = [it for index, it in enumerate(batch.origins) if index not in refused]
        if self._memory is None:
            self._last.extend(item_id for _, _, item_id in accepted[-ITEMS_AWAITED:])
            return
        _, _, days, keys, remembered = zip(*accepted, strict=True)
        new = ~np.array(remembered)
        self._memory.append(np.array(days, np.int64)[new], np.array(keys, np.uint64)[new])


class _Order:
    """How many events of a file are older than the one before them."""

    def __init__(self) -> None:
        self._last, self._count, self._first = -(2**62), 0, 0

    def add(self, read: NamedEvents) -> None:
        if not read.times.size:
            return
        older = np.flatnonzero(np.diff(read.times, prepend=self._last) < 0)
        if older.size and not self._count:
            self._first = int(read.lines[older[0]])
        self._count += older.size
        self._last = int(read.times[-1])

    def report(self, path: Path, findings: Findings) -> None:
        if self._count:
            findings.warn(
                "out_of_order",
                f"{path} is not in order of time (earlier than the line before: {self._count:,} lines,"
                f" first: line {self._first}): sort it, so that sessions and sequences are right",
                self._count,
            )


def _item(body: bytes, notes: Notes) -> tuple[bytes, str]:
    """The body, repaired where it was refused, and the id in it. Errors: `Rejected`."""
    try:
        item = _ITEM.decode(body)
        _check_times(item)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError, Rejected):
        body = values.repair_item(body, notes)
        item = names.decoded(body, _ITEM.decode)
    if item.item_id is None:
        raise Rejected("item_id", "required")
    return body, item.item_id


def _check_times(item: ItemIn) -> None:
    """Errors: `Rejected` where the API would refuse one."""
    for field, text in (("published_at", item.published_at), ("expires_at", item.expires_at)):
        if text is not None:
            times.parse_any_year(text, field)
