"""The demo's minute of traffic: simulated people read, look, click and buy through the HTTP API.

A day of theirs takes seconds, so a minute has several days. A session is a sequence of slates, and each
slate includes the clicks on the one before (`after`).
"""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable
from typing import Final

from infra.apps.demo.audience import Audience
from infra.apps.demo.live import MAX_WAIT_MS, RETRY_SECONDS, Pacer
from infra.apps.demo.seen import Seen
from infra.apps.replay.recipe import SLATE_SIZE
from infra.client.answers import Answer
from infra.client.client import Client, Timed
from infra.client.errors import ApiError
from models.simulator.people import Look
from schemas.events import EventIn

SLATES_PER_SECOND: Final = 80.0
"""Of all people together."""
SLATES_PER_SESSION: Final = 5
"""On average."""
SLATE_GAP_SECONDS: Final = 0.2
"""Between two slates of a session, on average."""
PROBED_SHARE: Final = 0.2
"""Share of the slates with a click whose next read comes at once, to measure freshness."""
PLACEMENT: Final = "home"


class CrowdDrive:
    """The sessions of all people over `client`, for `seconds`."""

    def __init__(self, client: Client, audience: Audience, seconds: float, seed: int) -> None:
        self.seen = Seen(len(audience.names), seconds, len(audience.item_ids))
        self._client, self._audience, self._seconds = client, audience, seconds
        self._pace, self._chance = Pacer(SLATES_PER_SECOND), random.Random(seed)
        self._day = len(audience.names) * SLATES_PER_SESSION / SLATES_PER_SECOND
        """s of a day, in which each person has one session on average."""
        self._positions: dict[int, str] = {}

    async def run(self) -> Seen:
        self.seen.began = time.monotonic()
        async with asyncio.TaskGroup() as tasks:
            for person in range(len(self._audience.names)):
                tasks.create_task(self._live(person))
        return self.seen

    @property
    def _over(self) -> bool:
        return time.monotonic() - self.seen.began >= self._seconds

    async def _live(self, person: int) -> None:
        apart = self._day / self._audience.people.activity[person]
        while True:
            remaining = self.seen.began + self._seconds - time.monotonic()
            wait = self._chance.expovariate(1 / apart)
            if wait >= remaining:
                return
            await asyncio.sleep(wait)
            await self._session(person)

    async def _session(self, person: int) -> None:
        day = (time.monotonic() - self.seen.began) / self._day
        slates, clicked_at = self._audience.people.start(person, day), None
        for _ in range(slates):
            await self._pace.wait()
            if self._over:
                return
            if (read := await self._read(person)) is None:
                return
            slate = read.value
            if clicked_at is not None and not slate.stale:
                self.seen.freshness_ms.append((read.ended - clicked_at) * 1000)
            look = self._look(person, slate)
            sent = await self._send_events(person, slate, look)
            probed = look.clicked.any() and self._chance.random() < PROBED_SHARE
            clicked_at = sent if probed else None
            if not probed:
                await asyncio.sleep(self._chance.expovariate(1 / SLATE_GAP_SECONDS))

    async def _read(self, person: int) -> Timed[Answer] | None:
        after = self._positions.get(person)
        try:
            read = await self._client.recommendations(
                self._audience.names[person],
                placement=PLACEMENT,
                count=SLATE_SIZE,
                after=after,
                max_wait_ms=MAX_WAIT_MS if after else None,
            )
        except ApiError as error:
            self.seen.errors[f"read: {error.problem}"] += 1
            return None
        if read.value.slate_id is None:  # it was shed: the experiment does not count it either
            self.seen.errors["read: overload"] += 1
            return None
        return read

    def _look(self, person: int, slate: Answer) -> Look:
        slots = [self._audience.slots[item.item_id] for item in slate.items]
        look = self._audience.people.look(person, slots)
        tally = self.seen.variants[variant(slate)]
        tally.slates += 1
        tally.served += len(slots)
        tally.displayed += int(look.examined.sum())
        tally.clicked += int(look.clicked.sum())
        tally.converted += int(look.bought.sum())
        tally.explored += sum(item.explore for item in slate.items)
        tally.expected += float(look.expected.sum())
        tally.people.add(person)
        self.seen.shown.update(item.item_id for item in slate.items)
        if slate.stale:
            self.seen.errors["read: stale"] += 1
        return look

    async def _send_events(self, person: int, slate: Answer, look: Look) -> float | None:
        """Sends the events of a look until acknowledged. Gives when their first byte left, in s."""
        events = events_of(self._audience.names[person], slate, look)
        if not events:
            return None
        first = time.perf_counter()
        for n, pause in enumerate(RETRY_SECONDS):
            try:
                sent = await self._client.send_events(events)
            except ApiError as error:
                self.seen.errors[f"events: {error.problem}"] += 1
                await asyncio.sleep(pause)
                continue
            # without a position the event waits in a spool, and no read can wait for it
            for at in sent.value.positions:
                self._positions[person] = at
            self.seen.events += len(events)
            return sent.began if n == 0 else first
        self.seen.errors["events: lost"] += len(events)
        return None


def variant(slate: Answer) -> str:
    """The variant of a slate; "" without an experiment."""
    return next((it.variant for it in slate.served_by.experiments), "")


def events_of(name: str, slate: Answer, look: Look) -> list[EventIn]:
    """The events of a look; their ids make each count once."""
    did = (("display", look.examined), ("click", look.clicked), ("purchase", look.bought))
    return [
        EventIn(
            event_id=f"{slate.slate_id}-{rank}-{action}",
            user_id=name,
            item_id=item.item_id,
            action=action,
            slate_id=slate.slate_id,
            rank=rank,
        )
        for rank, item in enumerate(slate.items, 1)
        for action, mask in did
        if mask[rank - 1]
    ]


async def act(
    url: str,
    token: str,
    audience: Audience,
    seconds: float,
    seed: int,
    watch: Callable[[Client, Seen], Awaitable[None]],
) -> Seen:
    """Runs all people for `seconds`. `watch(client, seen)` runs beside them and is cancelled at the end."""
    async with Client(url, token) as client:
        drive = CrowdDrive(client, audience, seconds, seed)
        watching = asyncio.ensure_future(watch(client, drive.seen))
        try:
            return await drive.run()
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
