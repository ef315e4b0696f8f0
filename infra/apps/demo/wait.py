"""Waiting until every worker behind an address knows of something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from typing import Final

from infra.client.client import Client
from infra.client.errors import ApiError
from schemas.errors import FreshetError

TIMEOUT_SECONDS: Final = 30.0
ANSWERS_IN_A_ROW: Final = 12
"""So many answers in a row, each over a connection of its own: each lands on some worker."""


class NotEverywhere(FreshetError):
    """Some worker does not know of it; the text says what was looked for."""


async def everywhere(
    url: str, token: str, holds: Callable[[Client], Awaitable[bool]], what: str
) -> None:
    """Asks until it `holds` of every worker. Errors: `NotEverywhere`, `ApiError` of no answer."""
    until, row = time.monotonic() + TIMEOUT_SECONDS, 0
    async with Client(url, token, connections=ANSWERS_IN_A_ROW) as client:
        while row < ANSWERS_IN_A_ROW:
            if await _holds(client, holds):
                row += 1
                continue
            row = 0
            if time.monotonic() > until:
                raise NotEverywhere(f"{what} is not known everywhere after {TIMEOUT_SECONDS:g} s")
            await asyncio.sleep(0.05)


async def _holds(client: Client, holds: Callable[[Client], Awaitable[bool]]) -> bool:
    """Not where it is refused."""
    try:
        return await holds(client)
    except ApiError as error:
        if not error.status:
            raise
        return False
