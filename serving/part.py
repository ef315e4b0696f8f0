"""What a serving process keeps current in the background, and how it is started and stopped."""

from __future__ import annotations

import asyncio
import contextlib
from typing import Protocol


class Part(Protocol):
    """Something that loads at the start and is kept current in the background."""

    name: str

    @property
    def ready(self) -> bool:
        """Loaded, and heard of lately."""

    async def start(self) -> None:
        """Returns soon: loading may go on in the background until `ready`."""

    async def stop(self) -> None: ...


class Background:
    """A part that is one task: a subclass says in `run` what it does until it is stopped."""

    _task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        self._task = asyncio.create_task(self.run())

    async def stop(self) -> None:
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task

    async def run(self) -> None:
        raise NotImplementedError
