"""A member of a consumer group, and the answers that it waits for."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, field
from typing import NamedTuple


class Membership(NamedTuple):
    """The answer to a member's join when a generation begins."""

    member_id: str
    generation: int
    leader: str
    protocol: str
    members: list[Member]  # in the leader's answer only


@dataclass(slots=True, eq=False)
class Member:
    """A member; `protocols` in its order of preference."""

    id: str
    instance: str | None
    client: str
    host: str
    session_seconds: float
    rebalance_seconds: float
    protocols: dict[str, bytes] = field(default_factory=dict)
    assignment: bytes = b""
    join: asyncio.Future[Membership] | None = None
    sync: asyncio.Future[bytes] | None = None
    expiry: asyncio.TimerHandle | None = None

    def cancel_timer(self) -> None:
        """Cancels the session's expiry."""
        if self.expiry is not None:
            self.expiry.cancel()
            self.expiry = None

    def fail(self, error: Exception) -> None:
        """Answers a pending join or sync with `error`."""
        for future in (self.join, self.sync):
            if future is not None and not future.done():
                future.set_exception(error)
        self.join = self.sync = None
