"""How many imported events came after the limit of unknown items: the tables count them, once they have read
what was imported (`GET /v1/status`)."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from infra.client.answers import Status
from infra.client.client import Client
from infra.client.errors import ApiError
from infra.client.history import Summary

FOLD_SECONDS: Final = 30.0
"""How long the tables are waited for."""


def count_so_far(url: str, token: str = "") -> int | None:
    """The count before an import; None where the status is not to be had (a token of another scope)."""
    return asyncio.run(_count(url, token, {}, 0.0))


def count_of(
    summary: Summary,
    before: int | None,
    url: str,
    token: str = "",
    seconds: float = FOLD_SECONDS,
) -> int | None:
    """How many events of the import that `summary` is of came after the limit; `before`: `count_so_far`.

    None where that is not known: the tables have not read the import after `seconds`, some of it waits in
    a spool, or the status is not to be had. Events that others sent meanwhile count too, but never more than
    the import had on unknown items. Errors: none.
    """
    if not summary.unknown_items:
        return 0
    if before is None or summary.spooled:
        return None
    after = asyncio.run(_count(url, token, summary.positions, seconds))
    if after is None or after < before:
        return None
    return min(after - before, summary.unknown_items)


async def _count(url: str, token: str, positions: Mapping[int, int], seconds: float) -> int | None:
    until = time.monotonic() + seconds
    async with Client(url, token, connections=1) as api:
        while True:
            try:
                status = await api.status()
            except ApiError:
                return None
            if _has_read(status, positions):
                return status.unknown_over_limit
            if time.monotonic() > until:
                return None
            await asyncio.sleep(0.1)


def _has_read(status: Status, positions: Mapping[int, int]) -> bool:
    """Whether the tables hold the records at `positions`."""
    positions_read = [int(text) for text in status.tables.split(".")]
    return all(
        p < len(positions_read) and positions_read[p] > offset for p, offset in positions.items()
    )
