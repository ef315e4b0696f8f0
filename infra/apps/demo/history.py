"""The demo's history: sent over HTTP, until all flows have applied it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

import msgspec

from infra.client import history
from infra.client.answers import Status
from infra.client.client import Client
from infra.client.errors import ApiError
from infra.client.history import Line, Summary
from infra.client.senders import NotSent
from infra.datasets.movielens import Dataset, Rating
from infra.kafka.offsets import offsets
from schemas.topics import EVENTS

if TYPE_CHECKING:
    from infra.local.system import System
    from infra.terminal.progress import Reporter

STALL_SECONDS: Final = 120.0
"""s without progress of the flows after which the demo gives up."""
ITEM_CHECKS: Final = 12
"""Checks that the items are there, each over a connection of its own, so to any worker."""
LAST_ITEMS_CHECKED: Final = 16


def load(
    system: System, dataset: Dataset, ratings: Sequence[Rating], reporter: Reporter
) -> list[int]:
    """Imports, and gives the end offset of each partition of `events`. Errors: `NotSent`."""
    url, token = system.url, system.token
    with reporter.work("import films", len(dataset.items)) as progress:
        lines = (Line(it.item_id, msgspec.json.encode(it.body)) for it in dataset.items)
        check_accepted(history.send(url, history.ITEMS, lines, token=token, progress=progress))
        last = [it.item_id for it in dataset.items[-LAST_ITEMS_CHECKED:]]
        for _ in range(ITEM_CHECKS):
            history.await_items(url, last, token)
    with reporter.work("import history", len(ratings)) as progress:
        lines = (Line(it.user_id, msgspec.json.encode(it.body)) for it in ratings)
        check_accepted(history.send(url, history.EVENTS, lines, token=token, progress=progress))
    with reporter.work("wait until it is folded and the tables are published"):
        return settle(system)


def settle(system: System) -> list[int]:
    """Waits until all records in `events` are folded and their tables are published; gives the end offset
    of each partition. Errors: `NotSent`, `KafkaError`."""
    held = offsets(system.settings, [EVENTS.name])["events"]
    end_offsets = [end for _, (_, end) in sorted(held.items())]
    asyncio.run(_await(system.url, system.token, end_offsets))
    return end_offsets


def check_accepted(summary: Summary) -> None:
    """Errors: `NotSent` where a line was rejected."""
    if summary.rejected:
        (name, code), count = summary.rejected.most_common(1)[0]
        raise NotSent(f"{count} lines were rejected: {name} {code}")


async def _await(url: str, token: str, end_offsets: Sequence[int]) -> None:
    until, before = time.monotonic() + STALL_SECONDS, None
    async with Client(url, token, connections=1) as client:
        while True:
            if status := await _status(client):
                if _reached(status, end_offsets):
                    return
                if (now := (_folded(status), status.tables)) != before:
                    before, until = now, time.monotonic() + STALL_SECONDS  # slow is not stuck
            if time.monotonic() > until:
                raise NotSent(
                    f"the events are not folded and published: no progress for {STALL_SECONDS:g} s"
                    " (`freshet status` shows the flows)"
                )
            await asyncio.sleep(0.05)


async def _status(client: Client) -> Status | None:
    """The status of the system; None where it does not answer."""
    try:
        return await client.status()
    except ApiError:
        return None


def _reached(status: Status, end_offsets: Sequence[int]) -> bool:
    """Whether people and tables have reached `end_offsets`."""
    folded = _folded(status)
    tables = [int(text) for text in status.tables.split(".")]
    return len(tables) == len(end_offsets) and all(
        folded.get(p, 0) >= end and tables[p] >= end for p, end in enumerate(end_offsets)
    )


def _folded(status: Status) -> dict[int, int]:
    """By partition, the next offset of the flow people."""
    return {
        it.partition: int((it.position or "0:-1").partition(":")[2]) + 1
        for it in status.stands or ()
        if it.flow == "people"
    }
