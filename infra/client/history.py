"""Sends items and events to a running system over HTTP, for `freshet import` and the demo.

Lines go out as NDJSON over a few keep-alive connections. All lines of a key (a person, an item) use one
connection, so the history of each person arrives in order. A line that was refused for the moment (503, a
broken connection) is sent again with the same event id, which the fold counts once.
"""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from infra.client import client
from infra.client.answers import Accepted
from infra.client.client import Client
from infra.client.errors import ApiError
from infra.client.http import address
from infra.client.senders import LineBatch, NotSent, Senders

EVENTS: Final = client.HISTORY
ITEMS: Final = client.ITEMS
Progress = Callable[[int], None]
"""Called with the number of lines that were acknowledged."""


class Line(NamedTuple):
    """One item or event as JSON. Lines of one `key` arrive in order."""

    key: str
    json: bytes


@dataclass
class Summary:
    """Counts of a send. `rejected`: by (field, code); `positions`: partition -> last offset acknowledged;
    `duplicates` and `unknown_items` as `Accepted`'s; `spooled`: some waited in a spool for the broker.
    `unknown_over_limit`: how many of `unknown_items` came after the limit, so that they never count; None
    where that is not known (`infra.client.over_limit`)."""

    sent: int = 0
    accepted: int = 0
    retries: int = 0
    seconds: float = 0.0
    duplicates: int = 0
    unknown_items: int = 0
    unknown_over_limit: int | None = None
    spooled: bool = False
    rejected: Counter[tuple[str, str]] = field(default_factory=Counter)
    positions: dict[int, int] = field(default_factory=dict)

    @property
    def per_second(self) -> float:
        """Lines sent a second."""
        return self.sent / self.seconds if self.seconds else 0.0

    def count(self, size: int, answer: Accepted) -> None:
        """Adds the answer to a batch of `size` lines."""
        self.sent += size
        self.accepted += answer.accepted
        self.duplicates += answer.duplicates
        self.unknown_items += answer.unknown_items
        self.spooled = self.spooled or answer.durable == "spool"
        for it in answer.rejected:
            self.rejected[it.field, it.code] += 1
        for position in answer.positions:
            partition, _, offset = position.partition(":")
            if partition.isdigit() and offset.isdigit():
                at = int(partition)
                self.positions[at] = max(int(offset), self.positions.get(at, -1))


def send(
    url: str,
    path: str,
    lines: Iterable[Line],
    *,
    token: str = "",
    connections: int = 4,
    batch: int = 500,
    progress: Progress = lambda count: None,
) -> Summary:
    """Posts every line to `path`; returns when all are acknowledged. Errors: `NotSent`."""
    began, summary = time.monotonic(), Summary()

    def taken(sent: LineBatch, answer: Accepted) -> None:
        summary.count(len(sent.lines), answer)
        progress(len(sent.lines))

    with Senders(url, path, taken, token=token, connections=connections, batch=batch) as senders:
        for line in lines:
            senders.put(line.key, line.json)
    summary.retries = senders.retries
    summary.seconds = time.monotonic() - began
    return summary


def check_answers(url: str) -> None:
    """Checks that the API answers at `url`, before a long import starts. Errors: `NotSent`."""
    if not asyncio.run(_answers(url)):
        to = address(url)
        shown = f"{'https' if to.tls else 'http'}://{to.authority}"
        raise NotSent(f"nothing answers at {shown}: is the system up? (`freshet status`, or --url)")


async def _answers(url: str) -> bool:
    async with Client(url) as api:
        try:
            await api.get("/health/live", dict)
        except ApiError as error:
            return error.status > 0
    return True


def await_items(url: str, item_ids: list[str], token: str = "", seconds: float = 60.0) -> None:
    """Waits until serving's index holds each of `item_ids`. Errors: `NotSent`."""
    asyncio.run(_await_items(url, item_ids, token, seconds))


async def _await_items(url: str, item_ids: list[str], token: str, seconds: float) -> None:
    until = time.monotonic() + seconds
    # one connection, so one worker
    async with Client(url, token, connections=1) as api:
        for item_id in item_ids:
            while not await _indexed(api, item_id):
                if time.monotonic() > until:
                    raise NotSent(f"serving does not show the last items after {seconds:g} s")
                await asyncio.sleep(0.05)


async def _indexed(api: Client, item_id: str) -> bool:
    try:
        return (await api.item(item_id)).indexed
    except ApiError:
        return False
