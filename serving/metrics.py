"""The metrics of a serving process: those of `infra.metrics` for ``serving``, by their names there."""

from __future__ import annotations

import threading
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Final, Protocol

from infra.metrics import METRICS, ProcessMetrics, set_observed
from infra.settings import Settings
from schemas.events import Assigned

NO_FALLBACK: Final = "none"
STORE_DOWN: Final = "store_down"
STALE_VECTOR: Final = "stale_vector"
_OWN_COUNTER: Final[Mapping[str | None, str]] = {
    STORE_DOWN: "freshet_store_down_total",
    STALE_VECTOR: "freshet_stale_vector_total",
}
_EVENTS: Final = (
    "freshet_events_accepted_total",
    "freshet_events_duplicates_total",
    "freshet_events_unknown_items_total",
    "freshet_events_ignored_fields_total",
)


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


class _Timings:
    """Times of one histogram, as `prometheus_client.Histogram` counts them. `bounds`: the upper bounds of its
    buckets in seconds; `unit`: of what is counted, in seconds."""

    __slots__ = ("_bounds", "_unit", "by_label")

    def __init__(self, bounds: Sequence[float], unit: float = 1.0) -> None:
        self._bounds, self._unit = [round(bound / unit, 9) for bound in bounds], unit
        self.by_label: dict[str, list[float]] = {}
        """Label -> how many came into each bucket, and their sum in `unit` behind those."""

    def add(self, values: Mapping[str, float]) -> None:
        """Adds one value for each label."""
        by_label, bounds = self.by_label, self._bounds
        for label, value in values.items():
            try:
                counted = by_label[label]
            except KeyError:
                counted = by_label[label] = [0.0] * (len(bounds) + 2)
            counted[bisect_left(bounds, value)] += 1
            counted[-1] += value

    def sums(self) -> dict[str, tuple[list[float], float]]:
        """Label -> counts by bucket, and the sum in seconds."""
        return {
            label: (counted[:-1], counted[-1] * self._unit)
            for label, counted in self.by_label.items()
        }


class Metrics:
    """Counts on the event loop; is scraped there, and in a thread where the worker has a port for scrapes.

    What every request counts is a number in a plain dictionary or list, and becomes a series at a scrape:
    added one by one, with cold caches, the library's series cost a tenth of the whole answer.

    Labels go by keyword: ``add("freshet_events_rejected_total", code="too_large")``. Errors: as
    `ProcessMetrics`'s.
    """

    def __init__(self) -> None:
        self.process_metrics = ProcessMetrics("serving")
        self.process_metrics.before(self.settle)
        self._lock = threading.Lock()
        self._settling = threading.Lock()
        self._requests: defaultdict[tuple[str, int], int] = defaultdict(int)
        """(route, status) -> requests."""
        self._received = 0
        """Bytes of bodies."""
        self._events = [0, 0, 0, 0]
        """In the order of `_EVENTS`."""
        self._answers: dict[tuple[str, str | None], list[int]] = {}
        """(placement, fallback) -> answers, items shown, those explored."""
        self._candidates: defaultdict[str, int] = defaultdict(int)
        self._removed: defaultdict[str, int] = defaultdict(int)
        self._kept = 0
        self._assigned: defaultdict[tuple[str, str], int] = defaultdict(int)
        self._stages = _Timings(_bounds("freshet_stage_seconds"), 0.001)
        self._reads = _Timings(_bounds("freshet_read_seconds"), 0.001)
        self._writes = _Timings(_bounds("freshet_write_seconds"))

    def add(self, name: str, n: float = 1, **labels: str) -> None:
        self.process_metrics.series(name, *_values(name, labels)).inc(n)

    def set(self, name: str, value: float, **labels: str) -> None:
        """A gauge's value, or the total of a counter that is counted elsewhere."""
        self.process_metrics.set(name, value, *_values(name, labels))

    def count_request(self, route: str, status: int, received: int | None = None) -> None:
        """Counts a request. `route`: its path as registered, so the label has one value a route. `received`:
        of its body, as `count_body`'s; None where that is counted, or was not read."""
        with self._lock:
            self._requests[route, status] += 1
            if received is not None:
                self._received += received

    def count_body(self, received: int) -> None:
        """Counts the body of a request. `received`: bytes on the wire."""
        with self._lock:
            self._received += received

    def count_events(
        self, accepted: int, duplicates: int, unknown_items: int, ignored: int, seconds: float
    ) -> None:
        """Counts a request whose `accepted` events are durable, which took `seconds`. The others: as
        `serving.edge.events.Ingested`'s."""
        with self._lock:
            events = self._events
            events[0] += accepted
            events[1] += duplicates
            events[2] += unknown_items
            events[3] += ignored
            self._writes.add({"": seconds})

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
        items = decision.items
        explored = len([item for item in items if item.explore])
        with self._lock:
            answers = self._answers.get((placement, fallback))
            if answers is None:
                answers = self._answers[placement, fallback] = [0, 0, 0]
            answers[0] += 1
            answers[1] += len(items)
            answers[2] += explored
            for source, n in decision.sources.items():
                self._candidates[source] += n
            for reason, n in decision.removed.items():
                self._removed[reason] += n
            self._kept += decision.kept
            for assigned in experiments:
                self._assigned[assigned.experiment, assigned.variant] += 1
            self._stages.add(spent)
            self._reads.add({route: sum(spent.values())})

    def settle(self) -> None:
        """Sets the series to what was counted."""
        with self._settling:  # of two scrapes the later one has the larger totals
            with self._lock:
                totals = self._totals()
                timings = (
                    ("freshet_stage_seconds", self._stages.sums()),
                    ("freshet_read_seconds", self._reads.sums()),
                    ("freshet_write_seconds", self._writes.sums()),
                )
            for key, n in totals.items():
                self.process_metrics.set(key[0], n, *key[1:])
            for name, sums in timings:
                for label, (buckets, total) in sums.items():
                    series = self.process_metrics.series(name, *([label] if label else []))
                    set_observed(series, buckets, total)

    def _totals(self) -> dict[tuple[str, ...], float]:
        """The counters: name and labels -> total."""
        totals: Counter[tuple[str, ...]] = Counter()
        for (route, status), n in self._requests.items():
            totals["freshet_requests_total", route, str(status)] = n
        if self._received:
            totals[("freshet_request_bytes_total",)] = self._received
        for name, n in zip(_EVENTS, self._events, strict=True):
            if n:
                totals[(name,)] = n
        for (placement, fallback), (answers, shown, explored) in self._answers.items():
            totals["freshet_answers_total", placement, fallback or NO_FALLBACK] = answers
            totals["freshet_shown_total", placement] += shown
            totals["freshet_explored_total", placement] += explored
            if fallback in _OWN_COUNTER:
                totals[(_OWN_COUNTER[fallback],)] += answers
        for source, n in self._candidates.items():
            totals["freshet_candidates_total", source] = n
        for reason, n in self._removed.items():
            totals["freshet_rule_removed_total", reason] = n
        if self._kept:
            totals[("freshet_rule_kept_total",)] = self._kept
        for (experiment, variant), n in self._assigned.items():
            totals["freshet_assignments_total", experiment, variant] = n
        return {**totals}

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


def _bounds(name: str) -> Sequence[float]:
    """The upper bounds of a histogram's buckets but for the last, which has none, in seconds."""
    return METRICS[name].buckets
