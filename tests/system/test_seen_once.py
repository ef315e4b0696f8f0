"""A small shop: what was looked at once comes back, by the whole system and its own client."""

from __future__ import annotations

import asyncio
import time
from typing import Any

import pytest

from infra.client.answers import Answer
from infra.client.client import Client
from infra.local.system import System
from schemas.times import DAY_MS, render

SHELF = {"coffee", "tea"}
SECONDS = 30.0


async def opened(client: Client) -> None:
    """Puts the shelf, and returns once it is served."""
    await client.send_items([{"item_id": name} for name in sorted(SHELF)])
    deadline = time.monotonic() + SECONDS
    while {it.item_id for it in (await client.recommendations("stranger")).value.items} != SHELF:
        assert time.monotonic() < deadline, "the catalogue is not served"
        await asyncio.sleep(0.05)


async def act(client: Client, person: str, *actions: str) -> str:
    """The position of the last of these actions on the coffee."""
    for action in actions:
        event = {"user_id": person, "item_id": "coffee", "action": action}
        sent = await client.send_events([event])
    return str(sent.value.positions[0])


async def shown(
    client: Client, person: str, after: str, wanted: set[str], relaxed: tuple[str, ...], **more: Any
) -> Answer:
    """The first answer with these items and relaxed rules: each worker follows the catalogue by itself."""
    deadline = time.monotonic() + SECONDS
    while True:
        read = await client.recommendations(person, after=after, max_wait_ms=5000, **more)
        answer = read.value
        if ({it.item_id for it in answer.items}, answer.rules_relaxed) == (wanted, relaxed):
            return answer
        assert time.monotonic() < deadline, (person, answer.items, answer.rules_relaxed)
        await asyncio.sleep(0.05)


async def lived(client: Client) -> None:
    await opened(client)
    at = await act(client, "gina", "view")
    answer = await shown(client, "gina", at, SHELF, ("seen",))
    assert [item.item_id for item in answer.items] == ["tea", "coffee"]
    tomorrow = render(int(time.time() * 1000) + DAY_MS + 60_000)
    await shown(client, "gina", at, SHELF, (), now=tomorrow)
    for person, actions, wanted in (
        ("hal", ("hide",), {"tea"}),
        ("ida", ("hide", "unhide"), SHELF),
        ("jo", ("purchase",), {"tea"}),
        ("kim", ("dislike",), {"tea"}),
    ):
        at = await act(client, person, *actions)
        await shown(client, person, at, wanted, (), now=tomorrow)


@pytest.mark.check
def test_an_item_viewed_once_comes_back_in_a_small_shop(system: System) -> None:
    async def run() -> None:
        async with Client(system.url, system.token) as client:
            await lived(client)

    asyncio.run(run())
