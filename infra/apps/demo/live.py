"""The replay: events and reads against a running system, people in parallel, each in order."""

from __future__ import annotations

import asyncio
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

from infra.apps.demo.schedule import ScheduledEvent
from infra.apps.replay.recipe import PLACEMENT, SLATE_SIZE
from infra.client.answers import Answer
from infra.client.client import Client, Timed
from infra.client.errors import ApiError
from schemas.errors import FreshetError
from schemas.times import iso

MAX_PEOPLE: Final = 64
"""People who are replayed at the same time."""
MAX_EVENTS_AHEAD: Final = 2_000
"""An event waits for all events that are so many places earlier: the order of time nearly holds."""
MAX_BURST: Final = 10
"""Events that may follow at once after a delay."""
MAX_WAIT_MS: Final = 2_000
RETRY_SECONDS: Final = (0.1, 0.2, 0.5, 1.0, 2.0, 5.0, 5.0, 5.0)
"""Delays before each further attempt."""
Progress = Callable[[int], None]


class EventNotTaken(FreshetError):
    """The system refused an event in every attempt; the text has its last answer."""


@dataclass
class Scored:
    """The answer just before a target. `ms`: from the first byte of the request to the last of the answer."""

    step: ScheduledEvent
    slate: Answer
    ms: float


@dataclass
class ReplayOutcome:
    """`freshness_ms`: from a POST's first byte to the end of a read that includes it. `errors`
    counts failures by kind, also those that a further attempt made good."""

    reads: list[Scored] = field(default_factory=list)
    freshness_ms: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    events: int = 0
    seconds: float = 0.0

    @property
    def events_per_s(self) -> float:
        return self.events / self.seconds if self.seconds else 0.0


class Pacer:
    """At most `rate` returns of `wait` a second, save `MAX_BURST` that make up for a delay."""

    def __init__(self, rate: float) -> None:
        self._gap, self._next = 1 / rate, 0.0

    async def wait(self) -> None:
        now = time.monotonic()
        at = max(self._next, now - MAX_BURST * self._gap)
        self._next = at + self._gap
        if at > now:
            await asyncio.sleep(at - now)


class LiveReplay:
    """One replay over `client`."""

    def __init__(self, client: Client, rate: float, progress: Progress) -> None:
        self.outcome = ReplayOutcome()
        self._client, self._pace, self._progress = client, Pacer(rate), progress
        self._lanes: dict[str, deque[ScheduledEvent]] = {}
        self._positions: dict[str, str] = {}
        self._done: set[int] = set()
        self._oldest = 0
        self._advanced = asyncio.Event()

    async def run(self, steps: Sequence[ScheduledEvent]) -> ReplayOutcome:
        """Errors: `EventNotTaken`, in an ExceptionGroup."""
        began = time.monotonic()
        async with asyncio.TaskGroup() as lanes:
            for step in steps:
                user = step.rating.user_id
                while not self._room(step, user):
                    self._advanced.clear()
                    await self._advanced.wait()
                if user in self._lanes:
                    self._lanes[user].append(step)
                else:
                    self._lanes[user] = deque([step])
                    lanes.create_task(self._lane(user))
        self.outcome.seconds = time.monotonic() - began
        return self.outcome

    def _room(self, step: ScheduledEvent, user: str) -> bool:
        ahead = step.at - self._oldest >= MAX_EVENTS_AHEAD
        return not ahead and (user in self._lanes or len(self._lanes) < MAX_PEOPLE)

    async def _lane(self, user: str) -> None:
        """Plays the events of one person, in order, until none is left."""
        steps = self._lanes[user]
        while steps:
            step = steps.popleft()
            await self._play(step)
            self._done.add(step.at)
            while self._oldest in self._done:
                self._done.discard(self._oldest)
                self._oldest += 1
            self._progress(1)
            self._advanced.set()
        del self._lanes[user]
        self._advanced.set()

    async def _play(self, step: ScheduledEvent) -> None:
        if step.scored and (read := await self._read(step)):
            self.outcome.reads.append(Scored(step, read.value, read.ms))
        await self._pace.wait()
        sent = await self._send(step)
        probe = await self._read(step) if step.probed else None
        if probe and not probe.value.stale:
            self.outcome.freshness_ms.append((probe.ended - sent) * 1000)

    async def _send(self, step: ScheduledEvent) -> float:
        """Sends an event until acknowledged. Gives when its first byte left (s). Errors: `EventNotTaken`."""
        first, last = time.perf_counter(), ""
        for n, pause in enumerate(RETRY_SECONDS):
            try:
                sent = await self._client.send_events([step.rating.body], history=True)
            except ApiError as error:
                last = error.problem
                self.outcome.errors[f"event: {last}"] += 1
                await asyncio.sleep(pause)
                continue
            # without a position the event waits in a spool, and no read can wait for it
            for at in sent.value.positions:
                self._positions[step.rating.user_id] = at
            self.outcome.events += 1
            return sent.began if n == 0 else first
        raise EventNotTaken(
            f"an event was refused in {len(RETRY_SECONDS)} attempts, at last with: {last}"
        )

    async def _read(self, step: ScheduledEvent) -> Timed[Answer] | None:
        """The recommendations for the person now, which include all their events so far."""
        after = self._positions.get(step.rating.user_id)
        try:
            read = await self._client.recommendations(
                step.rating.user_id,
                placement=PLACEMENT,
                count=SLATE_SIZE,
                after=after,
                max_wait_ms=MAX_WAIT_MS if after else None,
                now=iso(step.rating.at),
            )
        except ApiError as error:
            self.outcome.errors[f"read: {error.problem}"] += 1
            return None
        if read.value.stale:
            self.outcome.errors["read: stale"] += 1
        return read


async def replay(
    url: str, token: str, steps: Sequence[ScheduledEvent], rate: float, progress: Progress
) -> ReplayOutcome:
    """Sends `steps` at most `rate` a second. Errors: `EventNotTaken`."""
    async with Client(url, token) as client:
        try:
            return await LiveReplay(client, rate, progress).run(steps)
        except* EventNotTaken as group:
            raise group.exceptions[0] from None
