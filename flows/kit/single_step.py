"""The dataflow of a topic whose batches are applied in one step.

topic ─ decode ─ dead_letters ─ apply ─ commit
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any, TypeVar

import bytewax.operators as op
from bytewax.dataflow import Dataflow, Stream

from flows.kit.run import run_flow, run_with_retries, stop_on_signals
from flows.kit.sink import Committed
from flows.kit.source import Reader, Source
from flows.kit.worker import Worker
from infra.log_reader import Batch
from infra.settings import Settings
from schemas.dead_letters import DeadLetter
from schemas.state.write import Write
from schemas.topics import Topic

Decode = Callable[[Batch], tuple[Any, list[DeadLetter]]]
W = TypeVar("W", bound=Worker)


def single_step_flow(
    name: str, topic: str, worker: Worker, decode: Decode, apply: Callable[[Any], Write]
) -> Dataflow:
    """`decode` splits a batch into what `apply` takes, the batch first, and dead letters; `apply` makes the
    write, and what it cannot read takes its partition out."""
    flow = Dataflow(name)
    batches = op.input(topic, flow, Source(worker.reader))
    decoded = op.map("decode", batches, decode)
    good = op.map("dead_letters", decoded, worker.dead_letters)
    writes: Stream[Write] = op.filter_map("apply", good, worker.guarded(apply, _partition))
    op.output("commit", writes, Committed(worker.commit))
    return flow


def _partition(decoded: Any) -> int:
    batch: Batch = decoded[0]
    return batch.partition


def run_worker(
    settings: Settings, topic: Topic, make: Callable[[Reader], W], flow: Callable[[W], Dataflow]
) -> None:
    """Runs `flow` of the worker that `make` builds, until SIGTERM. Errors: those of `make` and the steps."""
    stop = threading.Event()
    stop_on_signals(stop)

    def run_once() -> None:
        worker = make(Reader(settings, topic.name, stop))
        try:
            run_flow(flow(worker))
        finally:
            worker.close()

    run_with_retries(settings, stop, run_once)
