"""The keys of the issuers of tokens, fetched in the background."""

from __future__ import annotations

import asyncio
from typing import Final

from serving.access.access import Access
from serving.access.keys import REFRESH_SECONDS, RETRY_SECONDS, KeySet
from serving.state.background import Background, Fault

_FIRST_RETRY_SECONDS: Final = 1.0


class IssuerKeys(Background):
    """Keeps the keys of `access` current. A process serves without them: it answers what needs no token of
    that issuer."""

    name = "issuer"

    def __init__(self, access: Access) -> None:
        self._sets = [it.keys for it in access.issuers.values() if it.keys.where]

    @property
    def ready(self) -> bool:
        return True

    def faults(self) -> list[Fault]:
        """Of keys that could not be fetched lately."""
        return [
            Fault(self.name, "unavailable", f"The keys of the issuer of tokens: {keys.failure}.")
            for keys in self._sets
            if keys.failure
        ]

    async def run(self) -> None:
        await asyncio.gather(*map(_keep, self._sets))


async def _keep(keys: KeySet) -> None:
    pause = _FIRST_RETRY_SECONDS
    while True:
        await keys.refresh(at_once=True)
        pause = min(2 * pause, RETRY_SECONDS) if keys.failure else REFRESH_SECONDS
        await asyncio.sleep(pause)
        if pause == REFRESH_SECONDS:
            pause = _FIRST_RETRY_SECONDS
