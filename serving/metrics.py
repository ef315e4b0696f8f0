"""The metrics of a serving process: those of `infra.metrics` for ``serving``, by their names there."""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from infra.metrics import METRICS, ProcessMetrics
from infra.settings import Settings
from schemas.events import Assigned

NO_FALLBACK: Final = "none"
STORE_DOWN: Final = "store_down"
STALE_VECTOR: Final = "stale_vector"
_OWN_COUNTER: Final[Mapping[str | None, str]] = {
    STORE_DOWN: "freshet_store_down_total",
    STALE_VECTOR: "freshet_stale_vector_total",
}
_BODIES: Final = ("freshet_request_bytes_total",)
MAX_UNSETTLED_ANSWERS: Final = 64
"""Answers to reads, or to writes, whose counts are added to the series together."""


class Item(Protocol):
    """An item shown. `explore`: exploration drew it."""

    @property
    def explore(self) -> bool: ...


class DecisionCounts(Protocol):
    """The counts of a decision: `sources` has the candidates of each source, `removed` those that each rule
    removed, by reason, and `kept` those that no rule removed."""

    @property
    def items(self) -> Sequence[Item]: ...
    @property
    def sources(self) -> Mapping[str, int]: ...
    @property
    def removed(self) -> Mapping[str, int]: ...
    @property
    def kept(self) -> int: ...


class Metrics:
    """Counts on the event loop; is scraped there, and in a thread where the worker has a port for scrapes.

    What every request counts goes to a plain dictionary, which is added to the series every
    `MAX_UNSETTLED_ANSWERS` answers and before a scrape: added one by one, with cold caches, the library's
    series cost a tenth of the whole answer.

    Labels go by keyword: ``add("freshet_events_rejected_total", code="too_large")``. Errors: as
    `ProcessMetrics`'s.
    """

    def __init__(self) -> None:
        self.process_metrics = ProcessMetrics("serving")
        self.process_metrics.before(self.settle)
        self._lock = threading.Lock()
        self._counted: Counter[tuple[str, ...]] = Counter()
        self._spent: list[tuple[str, Mapping[str, float]]] = []
        self._written: list[float] = []

    def add(self, name: str, n: float = 1, **labels: str) -> None:
        self.process_metrics.series(name, *_values(name, labels)).inc(n)

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge's value, or the total of a counter that is counted elsewhere."""
        self.process_metrics.set(name, value, *_values(name, labels))

    def count_request(self, route: str, status: int, received: int | None = None) -> None:
        """Counts a request. `route`: its path as registered, so the label has one value a route. `received`:
        of its body, as `count_body`'s; None where that is counted, or was not read."""
        with self._lock:
            self._counted["freshet_requests_total", route, str(status)] += 1
            if received is not None:
                self._counted[_BODIES] += received

    def count_body(self, received: int) -> None:
        """Counts the body of a request. `received`: bytes on the wire."""
        with self._lock:
            self._counted[_BODIES] += received

    def count_events(
        self, accepted: int, duplicates: int, unknown_items: int, ignored: int, seconds: float
    ) -> None:
        """Counts a request whose `accepted` events are durable, which took `seconds`. The others: as
        `serving.edge.events.Ingested`'s."""
        with self._lock:
            counted = self._counted
            counted[("freshet_events_accepted_total",)] += accepted
            if duplicates:
                counted[("freshet_events_duplicates_total",)] += duplicates
            if unknown_items:
                counted[("freshet_events_unknown_items_total",)] += unknown_items
            if ignored:
                counted[("freshet_events_ignored_fields_total",)] += ignored
            self._written.append(seconds)
            full = len(self._written) >= MAX_UNSETTLED_ANSWERS
        if full:
            self.settle()

    def count_answer(
        self,
        route: str,
        spent: Mapping[str, float],
        decision: DecisionCounts,
        placement: str,
        fallback: str | None,
        experiments: Iterable[Assigned] = (),
    ) -> None:
        """Counts one answer. `spent`: ms by stage."""
        explored = sum([item.explore for item in decision.items])
        with self._lock:
            counted = self._counted
            counted["freshet_answers_total", placement, fallback or NO_FALLBACK] += 1
            for source, n in decision.sources.items():
                counted["freshet_candidates_total", source] += n
            for reason, n in decision.removed.items():
                counted["freshet_rule_removed_total", reason] += n
            counted[("freshet_rule_kept_total",)] += decision.kept
            counted["freshet_shown_total", placement] += len(decision.items)
            if explored:
                counted["freshet_explored_total", placement] += explored
            for assigned in experiments:
                counted["freshet_assignments_total", assigned.experiment, assigned.variant] += 1
            if fallback in _OWN_COUNTER:
                counted[(_OWN_COUNTER[fallback],)] += 1
            self._spent.append((route, spent))
            full = len(self._spent) >= MAX_UNSETTLED_ANSWERS
        if full:
            self.settle()

    def settle(self) -> None:
        """Adds what was counted since the last time to the series."""
        with self._lock:
            counted, self._counted = self._counted, Counter()
            timings, self._spent = self._spent, []
            written, self._written = self._written, []
        series = self.process_metrics.series
        for key, n in counted.items():
            series(*key).inc(n)
        for seconds in written:
            series("freshet_write_seconds").observe(seconds)
        for route, spent in timings:
            for stage, ms in spent.items():
                series("freshet_stage_seconds", stage).observe(ms / 1000)
            series("freshet_read_seconds", route).observe(sum(spent.values()) / 1000)

    def render(self) -> bytes:
        """Prometheus's text format."""
        return self.process_metrics.render()

    def exposed(self, settings: Settings) -> AbstractContextManager[None]:
        """Answers scrapes on this worker's own port: siblings share the port of the API."""
        return self.process_metrics.exposed(settings)


def _values(name: str, labels: Mapping[str, str]) -> list[str]:
    """Errors: KeyError, ValueError where these are not the labels of the metric `name`."""
    wanted = METRICS[name].labels
    if set(wanted) != labels.keys():
        raise ValueError(f"{name} has the labels {', '.join(wanted) or 'none'}")
    return [labels[key] for key in wanted]
