"""Waiting until every worker behind an address has a change."""

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
"""Successful answers required, each over a connection of its own, so from any worker."""


class NotEverywhere(FreshetError):
    """Some worker does not have the change; the text names it."""


async def everywhere(
    url: str, token: str, holds: Callable[[Client], Awaitable[bool]], what: str
) -> None:
    """Polls until `holds` is true for every worker. `what`: the name of the change, for the error.

    Errors: `NotEverywhere`; `ApiError` where nothing answers.
    """
    until, row = time.monotonic() + TIMEOUT_SECONDS, 0
    async with Client(url, token, connections=ANSWERS_IN_A_ROW) as client:
        while row < ANSWERS_IN_A_ROW:
            if await _holds(client, holds):
                row += 1
                continue
            row = 0
            if time.monotonic() > until:
                raise NotEverywhere(
                    f"{what} has not reached every worker after {TIMEOUT_SECONDS:g} s"
                )
            await asyncio.sleep(0.05)


async def _holds(client: Client, holds: Callable[[Client], Awaitable[bool]]) -> bool:
    """Whether it holds; False where the API refuses the request."""
    try:
        return await holds(client)
    except ApiError as error:
        if not error.status:
            raise
        return False
