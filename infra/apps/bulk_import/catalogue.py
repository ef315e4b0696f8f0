"""Sends a data set that is in memory, without a memory of it: for benchmarks and tests."""

from __future__ import annotations

from collections.abc import Iterable

import msgspec

from infra.apps.bulk_import.program import ITEMS_AWAITED
from infra.apps.bulk_import.system import Endpoint
from infra.client import history
from infra.client.history import Line, Summary
from infra.datasets.movielens import Dataset


def send_catalogue(target: Endpoint, catalogue: Dataset) -> dict[str, Summary]:
    """Sends the items and, once they are indexed, every rating. Errors: `NotSent`."""
    films = [Line(it.item_id, msgspec.json.encode(it.body)) for it in catalogue.items]
    sent = _send(target, history.ITEMS, films)
    history.await_items(target.url, [it.key for it in films[-ITEMS_AWAITED:]], target.token)
    ratings = (Line(it.user_id, msgspec.json.encode(it.body)) for it in catalogue.ratings)
    return {"items": sent, "events": _send(target, history.EVENTS, ratings)}


def _send(target: Endpoint, path: str, lines: Iterable[Line]) -> Summary:
    return history.send(
        target.url,
        path,
        lines,
        token=target.token,
        connections=target.connections,
        batch=target.batch,
    )
