"""From the replies of a read to its response: the same for a route and for what answers before the router."""

from __future__ import annotations

from typing import Final

from serving.context import Serving
from serving.read.answer import AssignedOut
from serving.read.reply import Reply

RawHeaders = list[tuple[bytes, bytes]]
PRIVATE: Final = (b"cache-control", b"private, no-store")
"""Of every read: no cache keeps what one person gets."""


def count(serving: Serving, route: str, replies: list[Reply]) -> None:
    """Counts the replies of one request. `route`: the name of the kind of read."""
    for reply in replies:
        answer = reply.answer
        serving.metrics.count_answer(
            route,
            reply.watch.stage_ms,
            reply.decision,
            answer.placement,
            answer.fallback,
            reply.slate.experiments,
        )
        if answer.freshness is not None and answer.freshness.stale:
            serving.metrics.add("freshet_stale_reads_total")


def headers(replies: list[Reply]) -> RawHeaders:
    """The headers that a read has beside those of every response."""
    made = [
        (b"x-slate-id", ", ".join([reply.slate.slate_id for reply in replies]).encode()),
        (b"server-timing", _timing(replies).encode()),
        PRIVATE,
    ]
    assigned = [each for reply in replies for each in reply.answer.served_by.experiments]
    if assigned:
        # each once: the rows of a page may share an experiment
        said = dict.fromkeys(map(_experiment, assigned))
        made.append((b"x-experiments", ", ".join(said).encode("latin-1")))
    return made


def _timing(replies: list[Reply]) -> str:
    """The value of Server-Timing: the milliseconds of each stage, summed over all rows."""
    stage_ms = dict(replies[0].watch.stage_ms)
    for reply in replies[1:]:
        for stage, ms in reply.watch.stage_ms.items():
            stage_ms[stage] = stage_ms.get(stage, 0.0) + ms
    return ", ".join([f"{stage};dur={ms:.3f}" for stage, ms in stage_ms.items()])


def _experiment(assigned: AssignedOut) -> str:
    # both ids are tokens of a header: `schemas.control_checks` allows no others
    return f"{assigned.id}={assigned.variant};v={assigned.version}"
