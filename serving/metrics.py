"""What the process counts, and `/metrics` in Prometheus's text format.

Counting is one addition to a plain dictionary, on the event loop; the format is made when asked for.
"""

from __future__ import annotations

from bisect import bisect_left
from collections import Counter
from collections.abc import Iterator
from typing import Final

BUCKETS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0)
"""Upper bounds, in seconds."""
CONTENT_TYPE: Final = "text/plain; version=0.0.4; charset=utf-8"

HELP: Final = {
    "freshet_events_accepted_total": "Events acknowledged with 202.",
    "freshet_events_rejected_total": "Events refused, by code.",
    "freshet_events_ignored_fields_total": "Events with experiment, variant or propensity, ignored.",
    "freshet_not_durable_total": "Requests answered 503 since the broker did not take them.",
    "freshet_problems_total": "Requests answered with a problem, by status.",
    "freshet_slates_lost_total": "Slates that did not reach the log.",
    "freshet_log_pending": "Records under way to the broker.",
    "freshet_ready": "Whether a part of the server is ready, 0 or 1.",
    "freshet_write_seconds": "Time from a write request's arrival to its acknowledgement.",
}


class Metrics:
    """Counters and gauges by (name, label), where a label is ``code="too_large"`` or ""."""

    def __init__(self) -> None:
        self.values: Counter[tuple[str, str]] = Counter()
        self._counts = [0] * (len(BUCKETS) + 1)
        self._sum = 0.0

    def add(self, name: str, n: int = 1, label: str = "") -> None:
        self.values[name, label] += n

    def set(self, name: str, value: int, label: str = "") -> None:
        self.values[name, label] = value

    def observe(self, seconds: float) -> None:
        """One sample of ``freshet_write_seconds``."""
        self._counts[bisect_left(BUCKETS, seconds)] += 1
        self._sum += seconds

    def render(self) -> str:
        return "\n".join(self._lines()) + "\n"

    def _lines(self) -> Iterator[str]:
        for name, text in HELP.items():
            yield f"# HELP {name} {text}"
            if name == "freshet_write_seconds":
                yield f"# TYPE {name} histogram"
                yield from self._histogram(name)
                continue
            yield f"# TYPE {name} {'counter' if name.endswith('_total') else 'gauge'}"
            for (of, label), value in sorted(self.values.items()):
                if of == name:
                    yield f"{name}{{{label}}} {value}" if label else f"{name} {value}"

    def _histogram(self, name: str) -> Iterator[str]:
        below = 0
        for bound, count in zip((*BUCKETS, "+Inf"), self._counts, strict=True):
            below += count
            yield f'{name}_bucket{{le="{bound}"}} {below}'
        yield f"{name}_sum {self._sum}"
        yield f"{name}_count {below}"
