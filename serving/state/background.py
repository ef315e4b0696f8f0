"""The components that a serving process keeps current in the background: how they start and stop."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterable
from contextlib import AsyncExitStack, asynccontextmanager
from typing import Final, Protocol

import msgspec

CANCEL_RETRY_SECONDS: Final = 1.0
STALE_AFTER_SECONDS: Final = 5.0
"""An answer of a service is used for this long."""


class Fault(msgspec.Struct, frozen=True):
    """What is wrong with the component `part`. `code` is a stable word; `detail` is a sentence that names
    the consequence or the remedy."""

    part: str
    code: str
    detail: str


class Component(Protocol):
    """Something that loads at the start and is kept current in the background."""

    name: str

    @property
    def ready(self) -> bool:
        """Loaded, and its source answered within `STALE_AFTER_SECONDS`."""

    async def start(self) -> None:
        """Returns soon: loading may continue in the background until `ready`."""

    async def stop(self) -> None:
        """Called also where `start` failed."""


@asynccontextmanager
async def running(components: Iterable[Component]) -> AsyncIterator[None]:
    """Starts `components` in their order, and stops them in reverse at the end.

    Where a component fails to start, it and those before it are stopped. All are stopped even where one
    of them fails to stop. Errors: those of the component that failed.
    """
    async with AsyncExitStack() as stack:
        for component in components:
            stack.push_async_callback(component.stop)
            await component.start()
        yield


class Background:
    """A component that is one task. A subclass implements `run`, which is cancelled at the end."""

    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.run())

    async def stop(self) -> None:
        # a client that is cancelled while it returns a reply may swallow the cancellation: cancel again
        while self._task is not None and not self._task.done():
            self._task.cancel()
            await asyncio.wait([self._task], timeout=CANCEL_RETRY_SECONDS)

    async def run(self) -> None:
        raise NotImplementedError
