"""The metrics of processes, read from Prometheus's text format."""

from __future__ import annotations

import math
import urllib.request
from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any, Final

from prometheus_client.parser import text_string_to_metric_families

TIMEOUT_SECONDS: Final = 2.0
Label = tuple[str, str]
Samples = Mapping[str, Mapping[tuple[Label, ...], float]]
"""Name -> labels, sorted -> value."""


def scrape(host: str, port: int) -> Samples:
    """The samples of a process; none where it does not answer."""
    # no proxy: the address is on this machine
    opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    try:
        with opener.open(f"http://{host}:{port}/metrics", timeout=TIMEOUT_SECONDS) as answer:
            return read(answer.read().decode())
    except (OSError, ValueError):
        return {}


def read(text: str) -> Samples:
    """The samples in `text`. Errors: ValueError where it is not in the format."""
    found: dict[str, dict[tuple[Label, ...], float]] = defaultdict(dict)
    for family in text_string_to_metric_families(text):
        for it in family.samples:
            found[it.name][tuple(sorted(it.labels.items()))] = it.value
    return dict(found)


def total(samples: Samples, name: str) -> float:
    """The sum over all series with a value."""
    return sum(value for value in samples.get(name, {}).values() if not math.isnan(value))


def quantile(samples: Samples, name: str, q: float) -> float | None:
    """The quantile of the histogram `name`, as PromQL's histogram_quantile; None where it is empty.

    >>> text = 'a_bucket{le="1"} 2\\na_bucket{le="2"} 4\\na_bucket{le="+Inf"} 4\\n'
    >>> quantile(read(text), "a", 0.75)
    1.5
    """
    buckets: dict[float, float] = defaultdict(float)
    for labels, n in samples.get(f"{name}_bucket", {}).items():
        buckets[float(dict(labels)["le"])] += n
    return _within(sorted(buckets.items()), q)


def _within(buckets: Iterable[tuple[float, float]], q: float) -> float | None:
    """`buckets`: upper bounds, and the number of values at or below each."""
    held = list(buckets)
    if not held or not held[-1][1]:
        return None
    wanted, low, below = q * held[-1][1], 0.0, 0.0
    for bound, n in held:
        if n >= wanted:
            # beyond the last finite bound there is no upper limit
            return (
                low if math.isinf(bound) else low + (bound - low) * (wanted - below) / (n - below)
            )
        low, below = bound, n
    return None


def flow_row(process: str, samples: Samples) -> dict[str, Any] | None:
    """The figures of a flow's process since its start; None where the process reads no topic."""
    batches = total(samples, "freshet_flow_batch_records_count")
    if "freshet_flow_records_total" not in samples:
        return None
    records = total(samples, "freshet_flow_records_total")
    return {
        "process": process,
        "records": int(records),
        "lag": int(total(samples, "freshet_flow_lag")),
        "batch": records / batches if batches else None,
        "commit_p95_ms": _ms(quantile(samples, "freshet_flow_commit_seconds", 0.95)),
        "fresh_p95_ms": _ms(quantile(samples, "freshet_flow_fresh_seconds", 0.95)),
        "dead_letters": int(total(samples, "freshet_flow_dead_letters_total")),
        "fenced": int(total(samples, "freshet_flow_fenced_total")),
        "out": int(total(samples, "freshet_flow_out")),
    }


def _ms(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds * 1000, 1)
