"""The report on the write path: POST, freshness, CPU by component, roll-up, served records, strangers."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final

from infra.apps.bench import door
from infra.apps.bench.figures import (
    ATTACK_MEMORY,
    ATTACK_P99,
    FRESHNESS,
    POST_RATIO,
    SINGLE_POSTS,
    STRANGERS,
    Row,
    row,
)
from infra.apps.bench.freshness import BESIDE, EVENT_LOADS, Fresh, FreshRuns
from infra.apps.bench.results import Results
from infra.apps.bench.steady import Steady
from infra.apps.bench.writes.components import Components
from infra.apps.bench.writes.post import Posts
from infra.apps.bench.writes.strangers import Strangers

KEYS: Final = (
    "post",
    "bare_fastapi",
    "bare_guarded",
    "cpu_us_per_event_at_1000",
    "idle_percent",
    "people",
    "rollup",
    "served_record",
    "replay_ratio_to_consumer",
)
"""Keys that the report always has, null where a benchmark was skipped."""


def report(results: Results) -> dict[str, Any]:
    """`KEYS`, and the details of those that ran."""
    made: dict[str, Any] = dict.fromkeys(KEYS)
    if results.posts:
        made |= _posts(results.posts)
    if results.attacks:
        made["door"] = _attacks(results.attacks)
    if results.components:
        made |= _components(results.components)
    if results.rollup:
        figures = {name: round(median(runs), 1) for name, runs in results.rollup.items()}
        made["rollup"] = {"us_per_entry": figures}
    if results.strangers:
        made["strangers"] = _strangers(results.strangers)
    if results.reads:
        made["served_record"] = _served(results.reads.steady)
    if results.rounds:
        replay = results.rounds.replay
        rate = median(it.events_per_s for it in replay.runs)
        bare = median(it.records_per_s for it in replay.ceiling)
        made["replay_ratio_to_consumer"] = round(rate / bare, 4)
    made["people"] = _people(results)
    return made


def freshness(fresh: FreshRuns) -> dict[str, dict[str, float] | None]:
    """p50 and p99 by load, alone and beside busy loops; None where there is no run."""
    return {
        name + at: _percentiles(runs) if (runs := fresh.runs.get(name + at)) else None
        for at in ("", BESIDE)
        for name, *_ in EVENT_LOADS
    }


def freshness_details(fresh: FreshRuns) -> dict[str, Any]:
    """Everything else about each load that was measured."""
    return {name: _fresh(runs, fresh, name) for name, runs in fresh.runs.items()}


def rows(results: Results) -> Iterator[Row]:
    """The figures of POSTs, the door and freshness that were measured. Of the door: the worst attack's, with
    the least and the most of all attacks."""
    if posts := results.posts:
        yield row(POST_RATIO, [100 * it.post / it.fastapi for it in posts.rounds])
        yield row(SINGLE_POSTS, [it.reached for it in posts.best])
    if results.attacks:
        middle = [door.medians(runs) for runs in results.attacks.values()]
        # the same requests before each attack: one median is steadier than one a ratio
        alone = median(it.alone_ms for runs in results.attacks.values() for it in runs)
        ratios = [100 * it.p99_ms / alone for it in middle]
        yield row(ATTACK_P99, ratios, max(ratios))
        memory = [it.grown / 1e6 for it in middle]
        yield row(ATTACK_MEMORY, memory, max(memory))
    if results.fresh:
        for name, figure in FRESHNESS.items():
            yield row(figure, [it.p99 for it in results.fresh.runs[name]])
    if results.strangers:
        for reads, grown in results.strangers.grown.items():
            yield row(STRANGERS[reads], [grown / 1e6])


def medians(many: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """The median of each member."""
    return {name: round(median(one[name] for one in many), 2) for name in many[0]}


def summed(by_component: Mapping[str, float]) -> dict[str, float]:
    """The same with the sum of all components."""
    return {**by_component, "sum": round(sum(by_component.values()), 2)}


def _strangers(strangers: Strangers) -> dict[str, Any]:
    return {
        "redis_grown_bytes": {str(reads): grown for reads, grown in strangers.grown.items()},
        "held": strangers.held,
        "partitions": strangers.partitions,
        "people_us_per_served_record": strangers.people_us,
    }


def _posts(posts: Posts) -> dict[str, Any]:
    def middle(what: Callable[[Any], float]) -> float:
        return round(median(map(what, posts.rounds)), 2)

    return {
        "post": {
            "cpu_us": middle(lambda it: it.post),
            "ratio_to_bare_fastapi": round(median(it.post / it.fastapi for it in posts.rounds), 4),
            "single_worker_per_s": round(median(it.reached for it in posts.best), 1),
        },
        "bare_fastapi": middle(lambda it: it.fastapi),
        "bare_guarded": middle(lambda it: it.guarded),
        "post_details": {
            "broker_cpu_us": middle(lambda it: it.broker),
            "p99_ms_at_300": middle(lambda it: it.p99),
            "bare_fastapi_single_worker_per_s": round(
                median(it.reached for it in posts.best_fastapi), 1
            ),
            "rounds": [it._asdict() for it in posts.rounds],
            "best": [it._asdict() for it in posts.best],
        },
    }


def _attacks(attacks: Mapping[str, Sequence[door.Besieged]]) -> dict[str, Any]:
    """By attack, the medians of its runs."""
    return {name: door.medians(runs)._asdict() for name, runs in attacks.items()}


def _components(components: Components) -> dict[str, Any]:
    runs = components.runs
    return {
        "cpu_us_per_event_at_1000": summed(medians([it.cpu_us for it in runs])),
        "idle_percent": summed(components.idle_percent),
        "cpu_at_1000": {
            "runs": [summed(it.cpu_us) for it in runs],
            "records_a_batch": medians([it.batches.sizes() for it in runs]),
            "post_p99_ms": round(median(it.post_p99 for it in runs), 3),
        },
    }


def _served(steady: Sequence[Steady]) -> dict[str, float]:
    return {
        "us": round(median(it.served_us for it in steady), 2),
        "ratio_to_bare_guarded": round(median(it.served_us / it.bare_us for it in steady), 4),
    }


def _people(results: Results) -> dict[str, float | None] | None:
    made = dict[str, float | None](replay_us=None, at_1000_us=None, bare_consumer_us=None)
    if results.rounds:
        replay = results.rounds.replay
        made["replay_us"] = round(median(it.cpu_us["people"] for it in replay.runs), 2)
        made["bare_consumer_us"] = round(median(it.cpu_us for it in replay.ceiling), 2)
    if results.components:
        made["at_1000_us"] = medians([it.cpu_us for it in results.components.runs])["people"]
    return made if any(it is not None for it in made.values()) else None


def _percentiles(runs: Sequence[Fresh]) -> dict[str, float]:
    return {
        "p50": round(median(it.p50 for it in runs), 3),
        "p99": round(median(it.p99 for it in runs), 3),
    }


def _fresh(runs: Sequence[Fresh], fresh: FreshRuns, name: str) -> dict[str, Any]:
    made: dict[str, Any] = {
        "runs": [{"p50": it.p50, "p99": it.p99, "probes": it.probes} for it in runs],
        "post_p99_ms": round(median(it.post_p99 for it in runs), 3),
        "cpu_us_per_event": medians([it.cpu_us for it in runs]),
        "records_a_batch": medians([it.batches.sizes() for it in runs]),
    }
    if stages := fresh.stages.get(name):
        made["stages_ms"] = stages._asdict()
    return made
