"""The flow that a topic gets where a batch is applied in one step.

topic ─ decode ─ dead_letters ─ apply ─ commit
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import bytewax.operators as op
from bytewax.dataflow import Dataflow

from flows.kit.run import run as run_flow
from flows.kit.run import stop_on_signals
from flows.kit.sink import Committed
from flows.kit.source import Source
from flows.kit.worker import Worker
from infra.log import Batch
from schemas.dead_letter import DeadLetter
from schemas.write import Write

Decode = Callable[[Batch], tuple[Any, list[DeadLetter]]]


def plain(
    name: str, topic: str, worker: Worker, decode: Decode, apply: Callable[[Any], Write]
) -> Dataflow:
    """`decode` parts a batch into what `apply` takes and what no fold can."""
    flow = Dataflow(name)
    batches = op.input(topic, flow, Source(worker.reader, worker.partitions))
    decoded = op.map("decode", batches, decode)
    good = op.map("dead_letters", decoded, worker.dead_letters)
    writes = op.map("apply", good, apply)
    op.output("commit", writes, Committed(worker.commit))
    return flow


def run_worker(worker: Worker, flow: Dataflow) -> None:
    """Until SIGTERM; the worker is closed. Errors: the steps' own."""
    stop_on_signals(worker.reader.stop)
    try:
        run_flow(flow)
    finally:
        worker.close()
