"""What a serving process keeps current in the background, and how it is started and stopped."""

from __future__ import annotations

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
