"""The system that an import is for: where it answers, which log its events go to, which items it has."""

from __future__ import annotations

import asyncio
import hashlib
import re
import threading
import time
from collections.abc import Sequence
from typing import Final, NamedTuple

from infra.client.client import Client
from infra.client.errors import ApiError
from infra.client.http import address
from infra.client.senders import NotSent, Senders, Taken

MAX_ASKED: Final = 1000
"""Ids of items that a dry run asks the system about."""
ASKED_AT_ONCE: Final = 16
_SAFE: Final = re.compile(r"\w[\w-]{0,63}", re.ASCII)
BROKER_SECONDS: Final = 30.0
"""How long a system is waited for that has not heard of its broker since its start."""
_NO_TOPIC_IDS: Final = frozenset(
    {"-", "None", "AAAAAAAAAAAAAAAAAAAAAA", "00000000-0000-0000-0000-000000000000"}
)
"""What an older system, and a broker without ids of topics, answers."""


class Endpoint(NamedTuple):
    """Where to send lines, over how many connections, in batches of how many lines."""

    url: str
    token: str = ""
    connections: int = 4
    batch: int = 500

    def senders(self, path: str, taken: Taken, stop: threading.Event | None = None) -> Senders:
        """Connections to a path of the API."""
        return Senders(
            self.url,
            path,
            taken,
            token=self.token,
            connections=self.connections,
            batch=self.batch,
            stop=stop,
        )


def log_name(target: Endpoint) -> str:
    """A name for the log that the events of `target` go to, fit for a folder: the id of the topic, or a hash
    of the address where the id is not to be had (a token of another scope, an older system).

    Errors: `NotSent` where the system does not know it: another name would let everything count again.
    """
    topic = asyncio.run(_events_topic(target))
    if topic in _NO_TOPIC_IDS:
        return f"address-{_hashed(address(target.url).authority.lower())}"
    return topic if _SAFE.fullmatch(topic) else f"topic-{_hashed(topic)}"


def held_items(target: Endpoint, item_ids: Sequence[str]) -> set[str] | None:
    """Those of the ids (at most `MAX_ASKED`) that the system has as items; None where it does not answer."""
    return asyncio.run(_held_items(target, item_ids[:MAX_ASKED]))


async def _events_topic(target: Endpoint) -> str:
    until = time.monotonic() + BROKER_SECONDS
    async with Client(target.url, target.token, connections=1) as api:
        while True:
            try:
                if topic := (await api.status()).events_topic:
                    return topic
            except ApiError as error:
                if error.status in (401, 403, 404):
                    return "-"
            if time.monotonic() > until:
                raise NotSent(
                    "the system does not say which log its events go to",
                    remedy="import again once its broker is back (`freshet status`)",
                )
            await asyncio.sleep(0.1)


async def _held_items(target: Endpoint, item_ids: Sequence[str]) -> set[str] | None:
    async with Client(target.url, target.token, connections=ASKED_AT_ONCE) as api:

        async def is_item(item_id: str) -> bool:
            try:
                await api.item(item_id)
            except ApiError as error:
                if error.status == 404:
                    return False
                raise
            return True

        try:
            found = await asyncio.gather(*map(is_item, item_ids))
        except ApiError:
            return None
    return {item_id for item_id, is_there in zip(item_ids, found, strict=True) if is_there}


def _hashed(text: str) -> str:
    return hashlib.blake2b(text.encode(), digest_size=8).hexdigest()
