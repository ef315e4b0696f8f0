"""`control`: placements, experiments, releases and policies as they stand.

control ─ decode ─ dead_letters ─ apply ─ commit

A change that expects another version than the one that stands lost the race: it is skipped and counted.
"""

from __future__ import annotations

import logging
from typing import Final

import bytewax.operators as op
import msgspec
from bytewax.dataflow import Dataflow

from flows.kit.letters import split
from flows.kit.run import run as run_flow
from flows.kit.run import stop_on_signals
from flows.kit.sink import Committed
from flows.kit.source import Batch, Source
from flows.kit.worker import Worker
from infra.settings import Settings
from schemas import control, keys
from schemas.control import Change, Held
from schemas.dead_letter import DeadLetter
from schemas.topics import CONTROL
from schemas.write import StreamEntry, Write

log = logging.getLogger(__name__)
VERSION: Final = 1
KEEP: Final = 10_000

Decoded = tuple[Batch, list[tuple[int, int, Change]]]


class Control(Worker):
    """The one partition of `control`."""

    def __init__(self, settings: Settings) -> None:
        super().__init__(settings, "control", CONTROL, VERSION)

    def apply(self, decoded: Decoded) -> Write:
        """What stands after a batch: the log is the compare-and-set."""
        batch, changes = decoded
        p = batch.partition
        write = Write(self.name, p, batch.first, self.next_fence(p, batch.next, batch.stamps))
        standing = {
            name: msgspec.json.decode(value, type=Held)
            for name, value in self.redis.hgetall(keys.CONTROL_STATE).items()
        }
        for offset, _, change in changes:
            name = f"{change.subject}:{change.id}".encode()
            version = standing[name].version if name in standing else 0
            if change.expected_version != version:
                log.warning("change at %d expects version %d, %d stands: skipped", offset,
                            change.expected_version, version)  # fmt: skip
                continue
            standing[name] = Held(
                version=version + 1,
                body=bytes(change.body).decode(),
                offset=offset,
                actor=change.actor,
                reason=change.reason,
                received_at=change.received_at,
            )
            value = msgspec.json.encode(standing[name])
            write.fields.setdefault(keys.CONTROL_STATE, {})[name] = value
            write.entries.append(
                StreamEntry(
                    keys.CONTROL_CHANGES, b"%d-0" % (offset + 1), {b"s": name, b"v": value}, KEEP
                )
            )
        return write


def decode(batch: Batch) -> tuple[Decoded, list[DeadLetter]]:
    changes, letters = split(CONTROL.name, batch, control.decode)
    return (batch, changes), letters


def dataflow(worker: Control) -> Dataflow:
    flow = Dataflow("control")
    batches = op.input("control", flow, Source(worker.reader, worker.partitions))
    decoded = op.map("decode", batches, decode)
    good = op.map("dead_letters", decoded, worker.dead_letters)
    writes = op.map("apply", good, worker.apply)
    op.output("commit", writes, Committed(worker.commit))
    return flow


def run(settings: Settings) -> None:
    """Until SIGTERM."""
    worker = Control(settings)
    stop_on_signals(worker.reader.stop)
    try:
        run_flow(dataflow(worker))
    finally:
        worker.close()
