"""What one flow's process counts, by the names of `infra.metrics`'s table."""

from __future__ import annotations

import contextlib
import logging
import math
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any, Final

from infra.log_reader import Batch
from infra.metrics import ProcessMetrics
from infra.settings import Settings
from schemas.dead_letters import DeadLetter

log = logging.getLogger(__name__)
END_REASONS: Final = ("fenced", "torn", "full")


class FlowMetrics:
    """Counts for the flow `flow`; `who` tells its processes apart that share a data folder.

    Errors of a method: KeyError for a name that is not in the table.
    """

    def __init__(self, settings: Settings, flow: str, who: str = "") -> None:
        self.flow = flow
        self.process = ProcessMetrics("flows")
        self._settings = settings
        self._reasons_path = settings.data_dir / "ends" / f"{flow}{who and '-' + who}"
        noted = _read_reasons(self._reasons_path)
        # from 0 on: a series that begins above it has never risen
        for why in END_REASONS:
            self._series(f"freshet_flow_{why}_total").inc(noted[why])

    def exposed(self) -> contextlib.AbstractContextManager[None]:
        """Answers scrapes while it is entered, where FRESHET_METRICS_PORT says so."""
        return self.process.exposed(self._settings)

    def at_scrape(self, hook: Callable[[], None]) -> None:
        """Calls `hook` before each scrape, in another thread: let it read and set, no more."""
        self.process.before(hook)

    def seen(self, at: float | None = None) -> None:
        """It looked for more: now, or at `at`, Unix time in s."""
        self._series("freshet_flow_seen_timestamp_seconds").set(time.time() if at is None else at)

    def position(self, partition: int, offset: int, end: int | None) -> None:
        """`end`: of the log, None where the broker does not say: then the lag is no number either."""
        series = self.process.series
        lag = math.nan if end is None else max(0, end - offset)
        series("freshet_flow_offset", self.flow, str(partition)).set(offset)
        series("freshet_flow_lag", self.flow, str(partition)).set(lag)

    def paused(self, partition: int, paused: bool) -> None:
        self.process.set("freshet_flow_paused", paused, self.flow, str(partition))

    def committed(self, batch: Batch, seconds: float, counts: Mapping[str, int]) -> None:
        """A batch is committed, which took `seconds`; `counts` are its fold's."""
        series = self._series
        series("freshet_flow_records_total").inc(len(batch.offsets))
        series("freshet_flow_batch_records").observe(len(batch.offsets))
        series("freshet_flow_batch_seconds").observe(time.monotonic() - batch.read_at)
        series("freshet_flow_commit_seconds").observe(seconds)
        oldest = time.time() - min(batch.timestamps) / 1000
        series("freshet_flow_fresh_seconds").observe(max(0.0, oldest))
        for what, n in counts.items():
            series("freshet_fold_counts_total", what).inc(n)

    def expect(self, reasons: Iterable[str]) -> None:
        """Records may come, and letters for these: they are counted from 0 on."""
        self._series("freshet_flow_records_total")
        for reason in reasons:
            self._series("freshet_flow_dead_letters_total", reason)

    def dead_letters_sent(self, letters: Iterable[DeadLetter]) -> None:
        for letter in letters:
            # the first word: what follows it may be a field that somebody made up
            why = letter.reason.partition(":")[0]
            self._series("freshet_flow_dead_letters_total", why).inc()

    @contextlib.contextmanager
    def counting_failures(self, **errors: type[Exception]) -> Iterator[None]:
        """Counts an end by one of these errors, by its name here (one of `END_REASONS`).

        The process ends with it, before anybody scrapes, so it is also noted in the data folder.
        """
        try:
            yield
        except tuple(errors.values()) as error:
            why = next(name for name, kind in errors.items() if isinstance(error, kind))
            self._series(f"freshet_flow_{why}_total").inc()
            _append_reason(self._reasons_path, why)
            raise

    def published(self, seconds: float) -> None:
        """Of the roll-up: a publication."""
        self.process.series("freshet_rollup_publish_seconds").observe(seconds)

    def tables(self, behind: Mapping[int, int], rows: Mapping[str, int]) -> None:
        """Of the roll-up: by partition, the records that `people` has folded and the tables lack; by
        table (items, pairs, arms, experiments), its rows."""
        for partition, n in behind.items():
            self.process.set("freshet_rollup_positions_lag", n, str(partition))
        for table, n in rows.items():
            self.process.set("freshet_rollup_rows", n, table)

    def ignored(self, why: str, n: int = 1) -> None:
        """Of the roll-up: facts that the tables do not take."""
        self.process.series("freshet_rollup_ignored_total", why).inc(n)

    def readouts(self, sent: int, failed: int) -> None:
        """Of the roll-up: readouts of experiments, all that it has offered the broker so far."""
        self.process.set("freshet_readouts_total", sent, "sent")
        self.process.set("freshet_readouts_total", failed, "failed")

    def relayed(self, n: int) -> None:
        """Of the relay: it looked, and the log has `n` records more."""
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
    """One more line, which no kill can halve and no sibling overwrite."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("a") as file:
            file.write(f"{why}\n")
    except OSError as error:
        log.warning("%s cannot be noted: %s", why, error.strerror)
