"""`control`: the current placements, experiments, releases and policies.

control ─ decode ─ dead_letters ─ apply ─ commit

A change that expects another version than the stored one lost the race: it is skipped and counted. A change
that is malformed, or does not fit the stored definitions, is a dead letter. Both depend on the log alone, so
a replay gives the same state.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from typing import Final

import msgspec
from bytewax.dataflow import Dataflow

from flows.kit.dead_letters import letter, split
from flows.kit.single_step import run_worker, single_step_flow
from flows.kit.source import Reader
from flows.kit.worker import Worker
from infra import logs
from infra.log_reader import Batch
from infra.settings import Settings
from schemas import control
from schemas.control import Body, Change, Current, Experiment, Held
from schemas.control_checks import check_fits, decode_body, definitions
from schemas.dead_letters import DeadLetter
from schemas.reject import Rejected
from schemas.state.write import StreamEntry, Write
from schemas.topics import CONTROL

log = logs.paced(__name__)
VERSION: Final = 3
MAX_CHANGE_ENTRIES: Final = 10_000
"""Of the stream of changes; a reader further behind loads the whole state again."""

Good = tuple[int, Change, Body]
"""Offset, change, and its body within its limits."""
Decoded = tuple[Batch, list[Good]]


class ControlState:
    """The stored definitions by ``subject:id``, and how a change modifies them. Pure."""

    def __init__(self, stored: Mapping[bytes, bytes]) -> None:
        self.held = {
            name.decode(): control.HELD_DECODER.decode(value) for name, value in stored.items()
        }
        self._bodies = {name: _body(name, held.body) for name, held in self.held.items()}

    def apply_change(self, offset: int, change: Change, body: Body) -> bool:
        """Applies a change; False where it expects another version than the stored one.

        Errors: `Rejected` where the body does not fit the other definitions.
        """
        name = f"{change.subject}:{change.id}"
        version = self.held[name].version if name in self.held else 0
        if change.expected_version != version:
            return False
        if isinstance(body, Experiment | Current):
            check_fits(change.id, body, definitions(self._bodies))
        self._bodies[name] = body
        self.held[name] = Held(
            version=version + 1,
            body=bytes(change.body).decode(),
            offset=offset,
            actor=change.actor,
            reason=change.reason,
            received_at=change.received_at,
        )
        return True


class Control(Worker):
    """The one partition of `control`."""

    def __init__(self, settings: Settings, reader: Reader | None = None) -> None:
        super().__init__(settings, "control", CONTROL, VERSION, reader=reader)

    def apply(self, decoded: Decoded) -> Write:
        """The definitions after a batch: the order of the log is the compare-and-set."""
        batch, changes = decoded
        p = batch.partition
        fence = self.next_fence(p, batch.next, batch.timestamps)
        write = Write(self.name, p, batch.first, fence, self.keyspace)
        state = ControlState(self.redis.hgetall(self.keyspace.control_state()))
        letters = []
        counts = write.counts = {"taken": 0, "stale": 0}
        for offset, change, body in changes:
            try:
                taken = state.apply_change(offset, change, body)
            except Rejected as error:
                letters.append(_letter(batch, offset, error.code))
                continue
            counts["taken" if taken else "stale"] += 1
            if taken:
                name = f"{change.subject}:{change.id}"
                _store(write, offset, name.encode(), msgspec.json.encode(state.held[name]))
            else:
                log.warning("change at %d expects version %d, another is stored: skipped", offset,
                            change.expected_version)  # fmt: skip
        self.send(letters)
        return write


def _store(write: Write, offset: int, name: bytes, value: bytes) -> None:
    write.fields.setdefault(write.keyspace.control_state(), {})[name] = value
    fields = {b"s": name, b"v": value}
    changes = write.keyspace.control_changes()
    write.entries.append(StreamEntry(changes, b"%d-0" % (offset + 1), fields, MAX_CHANGE_ENTRIES))


def decode(batch: Batch) -> tuple[Decoded, list[DeadLetter]]:
    """The valid changes, and a dead letter ``bad_<subject>:<field>:<code>`` for each other record."""
    changes, letters = split(CONTROL.name, batch, lambda values, _: map(control.decode, values))
    good: list[Good] = []
    for offset, _, change in changes:
        try:
            good.append(
                (offset, change, decode_body(change.subject, change.id, bytes(change.body)))
            )
        except Rejected as error:
            why = f"bad_{change.subject}:{error.field}:{error.code}"
            letters.append(_letter(batch, offset, why))
    return (batch, good), letters


def _body(name: str, text: str) -> Body:
    subject, _, identifier = name.partition(":")
    return decode_body(subject, identifier, text.encode())


def _letter(batch: Batch, offset: int, why: str) -> DeadLetter:
    return letter(CONTROL.name, batch, batch.offsets.index(offset), why)


def dataflow(worker: Control) -> Dataflow:
    return single_step_flow("control", CONTROL.name, worker, decode, worker.apply)


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    run_worker(settings, CONTROL, partial(Control, settings), dataflow)
