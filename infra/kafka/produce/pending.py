"""Appends whose records are under way, in their order, and what becomes of each."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from typing import Final

from infra.kafka.produce.errors import NotDurable
from infra.kafka.produce.outcome import AppendOutcome, Done

_NONE: Final[Mapping[PendingAppend, NotDurable]] = {}


class PendingAppend:
    """One append until its outcome. `since`: when it came, in s of the monotonic clock."""

    __slots__ = ("done", "offsets", "remaining", "since")

    def __init__(self, done: Done) -> None:
        self.done = done
        self.remaining = 0
        """Batches that have records of it and are not acknowledged."""
        self.offsets: dict[int, int] = {}
        self.since = time.monotonic()


class PendingAppends:
    """All appends under way, the oldest first. `heard`: when the broker last acknowledged a batch, in s of
    the monotonic clock."""

    def __init__(self) -> None:
        self.heard = time.monotonic()
        self._appends: dict[PendingAppend, None] = {}
        self._emptied: asyncio.Future[None] | None = None

    def __len__(self) -> int:
        return len(self._appends)

    @property
    def oldest(self) -> float | None:
        """When the oldest append came; None where there is none."""
        return next(iter(self._appends)).since if self._appends else None

    def add(self, append: PendingAppend) -> None:
        self._appends[append] = None

    def acknowledge(self, append: PendingAppend, partition: int, offset: int) -> None:
        """A batch with records of `append` is in the log; the last of them has `offset`. Batches of a
        partition are acknowledged in order."""
        append.offsets[partition] = offset
        append.remaining -= 1
        if not append.remaining and append in self._appends:
            del self._appends[append]
            _finish(append, AppendOutcome(append.offsets))
            self._report_empty()

    def fail(self, errors: Mapping[PendingAppend, NotDurable] = _NONE) -> None:
        """Fails all, the oldest first, with its error in `errors`, else `NotDurable`."""
        appends, self._appends = self._appends, {}
        for append in appends:
            _finish(append, AppendOutcome(None, errors.get(append) or NotDurable()))
        self._report_empty()

    async def emptied(self) -> None:
        """Returns once none is under way."""
        if self._appends:
            self._emptied = asyncio.get_running_loop().create_future()
            await self._emptied

    def _report_empty(self) -> None:
        if self._emptied is not None and not self._appends:
            if not self._emptied.done():
                self._emptied.set_result(None)
            self._emptied = None


def _finish(append: PendingAppend, outcome: AppendOutcome) -> None:
    """Tells who waits. An error of theirs is not one of the broker: it is logged, and the others go on."""
    try:
        append.done(outcome)
    except Exception as error:
        asyncio.get_running_loop().call_exception_handler(
            {"message": "an outcome was not taken", "exception": error}
        )
