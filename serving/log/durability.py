"""The answer to a write that neither the broker nor the spool took."""

from __future__ import annotations

from infra.kafka.produce.errors import NotDurable, RecordRefused, TimeRefused
from serving.http.errors import Problem
from serving.metrics import Metrics


def not_durable(metrics: Metrics, error: NotDurable) -> Problem:
    """The problem for `error`: 413 where the broker refuses the record, else 503."""
    if isinstance(error, RecordRefused):
        return Problem(
            413,
            "record_too_large",
            "The broker does not take a record of this size; send a smaller one.",
        )
    metrics.add("freshet_not_durable_total")
    if isinstance(error, TimeRefused):
        return Problem(
            503,
            "clock_off",
            "The clock of this server is more than an hour off, and the broker takes none of its records:"
            " retry with the same ids at another server, or once the clock is set.",
        )
    return Problem(
        503,
        "not_durable",
        "Neither the broker nor the spool has all of it; retry with the same ids.",
        headers={"Retry-After": "1"},
    )
