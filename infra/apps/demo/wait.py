"""Waiting until every worker behind an address knows of something."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Final

from infra.client.http import Answer, Client

SECONDS: Final = 30.0
LOOKS: Final = 12
"""So many answers in a row, each over a connection of its own: each lands on some worker."""


class NotEverywhere(RuntimeError):
    """Some worker does not know of it; the text says what was looked for."""


async def everywhere(
    url: str, token: str, target: str, holds: Callable[[Answer], bool], what: str
) -> None:
    """Asks `target` until `holds` of every answer. Errors: `NotEverywhere`, `http.Broken`."""
    until, row = time.monotonic() + SECONDS, 0
    async with Client(url, token, connections=LOOKS) as client:
        while row < LOOKS:
            if holds(await client.get(target)):
                row += 1
                continue
            row = 0
            if time.monotonic() > until:
                raise NotEverywhere(f"{what} is not known everywhere after {SECONDS:g} s")
            await asyncio.sleep(0.05)
