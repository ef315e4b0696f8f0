"""A member of a consumer group, and what it waits for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple


class Membership(NamedTuple):
    """What a member learns when a generation begins."""

    member: str
    generation: int
    leader: str
    protocol: str
    members: list[Member]  # of the leader's answer only


@dataclass(slots=True, eq=False)
class Member:
    """Times in seconds; `protocols` in the member's order of preference."""

    id: str
    instance: str | None
    client: str
    host: str
    session: float
    rebalance: float
    protocols: dict[str, bytes] = field(default_factory=dict)
    assignment: bytes = b""
    join: asyncio.Future[Membership] | None = None
    sync: asyncio.Future[bytes] | None = None
    expiry: asyncio.TimerHandle | None = None

    def forget_timer(self) -> None:
        """Stops the clock of the session."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def fail(self, error: Exception) -> None:
        """Answers whatever it waits for with `error`."""
        for future in (self.join, self.sync):
            if future is not None and not future.done():
                future.set_exception(error)
        self.join = self.sync = None
