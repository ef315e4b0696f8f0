"""What a serving process keeps current in the background, and how it is started and stopped."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import msgspec

CANCEL_RETRY_SECONDS: Final = 1.0
STALE_AFTER_SECONDS: Final = 5.0
"""What was heard longer ago is no longer counted on."""


class Fault(msgspec.Struct, frozen=True):
    """Something that `part` does not do as it should: `code` is a stable word, `detail` a sentence that
    says what holds meanwhile, or the remedy."""

    part: str
    code: str
    detail: str


class Component(Protocol):
    """Something that loads at the start and is kept current in the background."""

    name: str

    @property
    def ready(self) -> bool:
        """Loaded, and heard of lately."""

    async def start(self) -> None:
        """Returns soon: loading may go on in the background until `ready`."""

    async def stop(self) -> None:
        """Also where `start` failed."""


@asynccontextmanager
async def running(parts: Iterable[Component]) -> AsyncIterator[None]:
    """Starts `parts` in their order, and stops them in reverse at the end.

    Where one fails to start, it and those before it are stopped. One that fails to stop keeps none of the
    others from it. Errors: those of the part that failed.
    """
    async with AsyncExitStack() as begun:
        for part in parts:
            begun.push_async_callback(part.stop)
            await part.start()
        yield


class Background:
    """A part that is one task: a subclass says in `run` what it does until it is stopped."""

    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.run())

    async def stop(self) -> None:
        # a client that is cancelled while it gives a reply back may swallow that: it is told again
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_RETRY_SECONDS)

    async def run(self) -> None:
        raise NotImplementedError
