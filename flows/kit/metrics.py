"""What one flow's process counts, by the names of `infra.metrics`'s table."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter, deque
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

from flows.kit.clock import ClockWatch
from infra.log_reader import Batch
from infra.metrics import ProcessMetrics, observe_all
from infra.settings import Settings
from schemas.dead_letters import DeadLetter

log = logging.getLogger(__name__)
END_REASONS: Final = ("fenced", "torn", "full")

MAX_UNCOUNTED_ROUNDS: Final = 64
"""Rounds that are counted together: one by one, four batches would cost 30 µs a round."""


class _Round(NamedTuple):
    """What was committed together; an entry a batch, but for the time that the commit took."""

    commit_seconds: float
    records: list[int]
    batch_seconds: list[float]
    fresh_seconds: list[float]
    counts: list[Mapping[str, int]]


class FlowMetrics:
    """Metrics of the flow `flow`. `process_name` distinguishes its processes that share a data folder.

    Errors of a method: KeyError for a name that is not in the table.
    """

    def __init__(self, settings: Settings, flow: str, process_name: str = "") -> None:
        self.flow = flow
        self.process = ProcessMetrics("flows")
        self._settings = settings
        self._reasons_path = (
            settings.data_dir / "ends" / f"{flow}{process_name and '-' + process_name}"
        )
        self._clock = ClockWatch(settings)
        self.at_scrape(self._report_clock)
        self._uncounted = deque[_Round]()
        self.at_scrape(self._count_rounds)
        noted = _read_reasons(self._reasons_path)
        # each reason starts at 0: Prometheus sees no increase in a series that starts above 0
        for why in END_REASONS:
            self._series(f"freshet_flow_{why}_total").inc(noted[why])

    @contextlib.contextmanager
    def exposed(self) -> Iterator[None]:
        """Answers scrapes on FRESHET_METRICS_PORT, where it is set, and watches the clock, while the context
        is entered."""
        with self._clock.running(), self.process.exposed(self._settings):
            yield

    def _report_clock(self) -> None:
        skew = self._clock.skew
        self._series("freshet_flow_clock_skew_seconds").set(math.nan if skew is None else skew)

    def at_scrape(self, hook: Callable[[], None]) -> None:
        """Calls `hook` before each scrape, in another thread: it may only read and set values."""
        self.process.before(hook)

    def seen(self, at: float | None = None) -> None:
        """The flow polled its log: now, or at `at`, Unix time in s."""
        self._series("freshet_flow_seen_timestamp_seconds").set(time.time() if at is None else at)

    def position(self, partition: int, offset: int, end: int | None) -> None:
        """The partition's offset and lag. `end`: the log's end; None is unknown, and the lag is NaN."""
        series = self.process.series
        lag = math.nan if end is None else max(0, end - offset)
        series("freshet_flow_offset", self.flow, str(partition)).set(offset)
        series("freshet_flow_lag", self.flow, str(partition)).set(lag)

    def paused(self, partition: int, paused: bool) -> None:
        self.process.set("freshet_flow_paused", paused, self.flow, str(partition))

    def out(self, partition: int, out: bool) -> None:
        self.process.set("freshet_flow_out", out, self.flow, str(partition))

    def failed(self, why: str) -> None:
        """Counts a fault, one of `END_REASONS`; the data folder keeps it for the processes after this one."""
        self._series(f"freshet_flow_{why}_total").inc()
        _append_reason(self._reasons_path, why)

    def committed(
        self, batches: Collection[tuple[Batch, Mapping[str, int]]], seconds: float
    ) -> None:
        """Batches were committed together, which took `seconds`; with each the counts of its fold, by word.

        What a round brings is kept, and counted at a scrape or after `MAX_UNCOUNTED_ROUNDS` of them.
        """
        now, clock = time.monotonic(), time.time()
        self._uncounted.append(
            _Round(
                seconds,
                [len(batch.offsets) for batch, _ in batches],
                [now - batch.read_at for batch, _ in batches],
                [max(0.0, clock - min(batch.timestamps) / 1000) for batch, _ in batches],
                [counts for _, counts in batches],
            )
        )
        if len(self._uncounted) >= MAX_UNCOUNTED_ROUNDS:
            self._count_rounds()

    def _count_rounds(self) -> None:
        """Called in the flow's thread and in that of a scrape: a round is taken by one of them."""
        rounds = list[_Round]()
        with contextlib.suppress(IndexError):
            while True:
                rounds.append(self._uncounted.popleft())
        if not rounds:
            return
        series = self._series
        records = [n for it in rounds for n in it.records]
        series("freshet_flow_records_total").inc(sum(records))
        for name, values in (
            ("freshet_flow_batch_records", records),
            ("freshet_flow_batch_seconds", [s for it in rounds for s in it.batch_seconds]),
            ("freshet_flow_commit_seconds", [it.commit_seconds for it in rounds]),
            ("freshet_flow_fresh_seconds", [s for it in rounds for s in it.fresh_seconds]),
        ):
            observe_all(series(name), values)
        totals = Counter[str]()
        for counts in (it for each in rounds for it in each.counts):
            for what, n in counts.items():
                totals[what] += n
        for what, n in totals.items():
            series("freshet_fold_counts_total", what).inc(n)

    def expect(self, reasons: Iterable[str]) -> None:
        """Creates the counters of records, and of dead letters with these reasons, at 0."""
        self._series("freshet_flow_records_total")
        for reason in reasons:
            self._series("freshet_flow_dead_letters_total", reason)

    def dead_letters_sent(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            # the first word: a field name that a sender made up may follow
            why = letter.reason.partition(":")[0]
            self._series("freshet_flow_dead_letters_total", why).inc()

    @contextlib.contextmanager
    def counting_failures(self, **errors: type[Exception]) -> Iterator[None]:
        """Counts one of these errors, under its keyword (one of `END_REASONS`), and raises it again.

        The process ends with it before the next scrape, so the data folder keeps the reason as well.
        """
        try:
            yield
        except tuple(errors.values()) as error:
            why = next(name for name, kind in errors.items() if isinstance(error, kind))
            self.failed(why)
            raise

    def published(self, seconds: float) -> None:
        """Of the roll-up: a publication took `seconds`."""
        self.process.series("freshet_rollup_publish_seconds").observe(seconds)

    def tables(self, behind: Mapping[int, int], rows: Mapping[str, int]) -> None:
        """Of the roll-up. `behind`: by partition, records that `people` folded and the tables lack.
        `rows`: by table (items, pairs, arms, experiments)."""
        for partition, n in behind.items():
            self.process.set("freshet_rollup_positions_lag", n, str(partition))
        for table, n in rows.items():
            self.process.set("freshet_rollup_rows", n, table)

    def ignored(self, why: str, n: int = 1) -> None:
        """Of the roll-up: `n` facts that the tables ignored, for the reason `why`."""
        self.process.series("freshet_rollup_ignored_total", why).inc(n)

    def readouts(self, sent: int, failed: int) -> None:
        """Of the roll-up: how many readouts of experiments were sent, and failed, since it started."""
        self.process.set("freshet_readouts_total", sent, "sent")
        self.process.set("freshet_readouts_total", failed, "failed")

    def relayed(self, n: int) -> None:
        """Of the relay: it polled the outboxes, and sent `n` records."""
        self.seen()
        self.process.series("freshet_relay_sent_total").inc(n)

    def _series(self, name: str, *labels: str) -> Any:
        return self.process.series(name, self.flow, *labels)


def _read_reasons(path: Path) -> Counter[str]:
    try:
        noted = path.read_text().split()
    except (OSError, UnicodeDecodeError):
        return Counter()
    return Counter(why for why in noted if why in END_REASONS)


def _append_reason(path: Path, why: str) -> None:
    """Appends one line: a kill cannot cut it, another process cannot overwrite it."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{why}\n")
    except OSError as error:
        log.warning("%s cannot be noted: %s", why, error.strerror)
