"""One step of the roll-up: what it reads, publishes, sends and stores, and when."""

from __future__ import annotations

import time
from collections import Counter
from typing import TYPE_CHECKING, Final

from flows.kit.metrics import FlowMetrics
from flows.rollup.marks import Marks
from flows.rollup.readouts import Readouts
from infra.settings import Settings

if TYPE_CHECKING:
    from flows.rollup.tables import Rollup

IDLE_SECONDS: Final = 10.0
"""An idle roll-up makes a step so often: what was lost of marks and readouts is sent again."""


class Cycle:
    """Runs the roll-up's steps: tables, readouts, metrics, the stored base."""

    def __init__(
        self,
        rollup: Rollup,
        readouts: Readouts | None,
        metrics: FlowMetrics,
        settings: Settings,
        marks: Marks | None = None,
    ) -> None:
        """`readouts`, `marks`: None where these tables are not the live ones; then neither are sent."""
        self._rollup, self._readouts, self._metrics = rollup, readouts, metrics
        self._marks = marks
        self._settings = settings
        self._stored, self._dirty = time.monotonic(), False
        self._published = False
        self._ignored: Counter[str] = Counter()
        self._over_limit = list(rollup.tables.waiting.over_limit)

    def step(self) -> float:
        """Reads and publishes, and stores where it is due. Returns the seconds until the next step at the
        earliest: meanwhile entries gather, and a look adds all of them at once.
        """
        begun, every = time.monotonic(), self._settings.rollup_seconds
        self._metrics.seen()
        self._rollup.catch_up(every)
        read = time.monotonic()
        self._published = self._rollup.publish()
        if self._published:
            self._dirty = True
            self._metrics.published(time.monotonic() - read)
        self._send_readouts()
        if self._marks is not None:
            self._marks.step(self._rollup.tables)
        self._count()
        if self._dirty and time.monotonic() - self._stored >= self._settings.base_seconds:
            self._store()
        return max(0.0, every - (time.monotonic() - begun))

    @property
    def idle_seconds(self) -> float:
        """So long after a step the next one may come where nothing happens."""
        meta, due = self._rollup.published, [IDLE_SECONDS]
        if self._published:  # its readouts may be due only later
            due.append(self._settings.readout_seconds)
        if self._dirty:
            due.append(self._stored + self._settings.base_seconds - time.monotonic())
        if meta is not None and meta.lists_waiting:
            due.append(0.0)
        return min(due)

    def finish(self) -> None:
        """Sends the last readouts, and stores the base."""
        self._send_readouts(now=True)
        if self._dirty:
            self._store()

    def _send_readouts(self, *, now: bool = False) -> None:
        if self._readouts is not None and (meta := self._rollup.published):
            self._readouts.step(self._rollup.tables, meta, self._rollup.as_of, now=now)

    def _count(self) -> None:
        self._metrics.tables(self._rollup.behind(), self._rollup.rows())
        if self._readouts is not None:
            self._metrics.readouts(self._readouts.sender.sent, self._readouts.sender.failed)
        ignored = self._rollup.tables.arms.ignored
        for why, n in (ignored - self._ignored).items():
            self._metrics.ignored(why, n)
        self._ignored = ignored.copy()
        over_limit = self._rollup.tables.waiting.over_limit
        for at, why in enumerate(("unknown_over_limit", "pairs_over_limit")):
            if over_limit[at] > self._over_limit[at]:
                self._metrics.ignored(why, over_limit[at] - self._over_limit[at])
        self._over_limit = list(over_limit)

    def _store(self) -> None:
        self._rollup.store()
        self._stored, self._dirty = time.monotonic(), False
