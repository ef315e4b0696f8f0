"""Experiments: put them, read them, and their metrics: counts, rates and lifts with their intervals."""

from __future__ import annotations

import asyncio
from typing import Any, Final

import msgspec
import numpy as np
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from infra.store import redis_client
from models.aggregates.moments import moments, moments_key
from models.experiments.metrics import BY_NAME
from models.experiments.readout import readout, version_shown
from schemas import times
from schemas.access.scopes import EXP_ADMIN, EXP_READ
from schemas.alphabet import Millis
from schemas.control import TOKEN_SCHEMA, Experiment, Held
from schemas.identity import category_hash
from schemas.readouts import Comparison, VariantOut
from schemas.reject import Rejected
from schemas.state import fences as fence
from schemas.state.tables import MOMENTS_KEY
from serving.context import Serving, state
from serving.edge import control
from serving.edge.control import ExperimentIn
from serving.http.body import path_id
from serving.http.errors import Problem, json_response
from serving.http.guard import caller, guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.http.parameters import check_query
from serving.routes.accepted import Written, append_change, path_and_body
from serving.routes.audited import REQUEST_REASON
from serving.routes.controlled import with_defaults
from serving.state.people import STORE_TIMEOUT_SECONDS

router: Final = guarded_router()
_EXAMPLE: Final = {
    "expected_version": 0,
    "experiment": {
        "placement": "home",
        "variants": [{"name": "a", "share": 0.5}, {"name": "b", "share": 0.5}],
    },
}


class ExperimentMetrics(msgspec.Struct, kw_only=True):
    """The metrics of one version. `started_at` is null for a version that was replaced; its shares are not
    kept either, so its variants have the shares now in force.

    `as_of`: when the tables behind it were published; `lag_ms`: for how long at most they have lacked folded
    records, 0 where they lack none. `revision` and `positions` are those of the topic `experiments`.

    `degraded`: by variant, how many reads of its people were answered with the popular list since more was
    asked than can be done (fallback `overload`). No slate of them was logged, so no other count has them.
    Null while the store does not answer.
    """

    experiment_id: str
    version: int
    status: str
    placement: str
    unit: str
    started_at: str | None
    as_of: str | None
    lag_ms: int | None
    revision: int
    positions: tuple[int, ...]
    variants: tuple[VariantOut, ...]
    comparisons: tuple[Comparison, ...]
    degraded: dict[str, int] | None


@router.get(
    "/v1/experiments/{experiment_id}/metrics",
    summary="The metrics of an experiment",
    openapi_extra=parameters(
        ("version", "query", {"type": "integer", "minimum": 1}, "Default: the version in force."),
        ("metric", "query", {"enum": list(BY_NAME)}, "Only this one."),
    ),
    responses=answers(200, ExperimentMetrics, 401, 404, 422),
)
@needs(EXP_READ)
async def experiment_metrics(request: Request) -> Response:
    serving, identifier = state(request), path_id(request, "experiment_id")
    asked = check_query(request, "version", "metric")
    metric = asked.get("metric")
    if metric is not None and metric not in BY_NAME:
        raise Rejected("metric", "unknown_value")
    held, experiment = _find(serving, identifier)
    version = _version(
        asked.get("version"), held, experiment, counted_versions(serving, identifier)
    )
    found = _metrics(serving, identifier, version, held, experiment)
    found.lag_ms, found.degraded = await asyncio.gather(_lag(serving), _degraded(serving, found))
    return json_response(found if metric is None else with_metric(found, metric))


def counted_versions(serving: Serving, experiment_id: str) -> frozenset[int]:
    """The versions that the tables count people in."""
    names = np.frombuffer(b"".join(serving.tables.experiments), MOMENTS_KEY)
    rows = names["experiment"] == category_hash(experiment_id)
    return frozenset(names["version"][rows].tolist())


def with_metric(every: ExperimentMetrics, metric: str) -> ExperimentMetrics:
    """`every` without the other metrics."""
    variants = [
        msgspec.structs.replace(each, metrics={metric: each.metrics[metric]})
        for each in every.variants
    ]
    comparisons = [each for each in every.comparisons if each.metric == metric]
    return msgspec.structs.replace(every, variants=tuple(variants), comparisons=tuple(comparisons))


def _version(text: str | None, held: Held, experiment: Experiment, counted: frozenset[int]) -> int:
    """The version asked for. Errors: `Rejected` where it is no number, or neither in force nor counted."""
    if text is None:
        return version_shown(held.version, experiment.running, counted)
    if not (text.isascii() and text.isdigit()):
        raise Rejected("version", "wrong_type")
    there = counted | {held.version}
    if len(text) > 9 or int(text) not in there:
        taken = f"version takes one of {', '.join(map(str, sorted(there)))}."
        raise Rejected("version", "unknown_value", taken)
    return int(text)


def _metrics(
    serving: Serving, identifier: str, version: int, held: Held, experiment: Experiment
) -> ExperimentMetrics:
    meta, rows = serving.tables.meta, serving.tables.experiments
    counts = moments(rows.get(moments_key(identifier, version)))
    report = readout(
        identifier, version, experiment, counts, meta.positions, meta.version, meta.published_at
    )
    return ExperimentMetrics(
        experiment_id=identifier,
        version=version,
        status="running" if experiment.running else "paused",
        placement=experiment.placement,
        unit="user",
        started_at=times.render(held.received_at) if version == held.version else None,
        as_of=times.render(report.as_of) if report.as_of else None,
        lag_ms=None,
        revision=report.revision,
        positions=report.positions,
        variants=report.variants,
        comparisons=report.comparisons,
        degraded=None,
    )


async def _degraded(serving: Serving, metrics: ExperimentMetrics) -> dict[str, int] | None:
    """Reads that were shed, by variant; None where the store does not answer. Errors: none."""
    try:
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            shed = await serving.shed.of(metrics.experiment_id, metrics.version)
    except (RedisError, OSError, TimeoutError):
        return None
    return {each.variant: 0 for each in metrics.variants} | shed


async def _lag(serving: Serving) -> Millis | None:
    """Milliseconds that the tables lag behind the folds, at most. Errors: none; where the store does not
    answer, the age of the tables."""
    meta = serving.tables.meta
    if not meta.published_at:
        return None
    longest = max(0, serving.clock() - meta.published_at)
    try:
        async with asyncio.timeout(STORE_TIMEOUT_SECONDS):
            fences: Any = await redis_client.mget_async(
                serving.redis,
                [
                    serving.generation.keyspace.fence("people", p)
                    for p in range(len(meta.positions))
                ],
            )
    except (RedisError, OSError, TimeoutError):
        return longest
    offsets = [fence.decode(value).offset if value else 0 for value in fences]
    behind = any(
        offset > included for offset, included in zip(offsets, meta.positions, strict=True)
    )
    return longest if behind else 0


class ExperimentOut(msgspec.Struct, kw_only=True):
    """`version` is the `expected_version` of the next put; answers and metrics name it."""

    experiment_id: str
    experiment: Experiment
    version: int
    actor: str
    reason: str
    received_at: str


class ExperimentsOut(msgspec.Struct):
    experiments: list[ExperimentOut]


@router.put(
    "/v1/experiments/{experiment_id}",
    status_code=202,
    summary="Start, change or stop an experiment",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(
        body(ExperimentIn, example=_EXAMPLE),
        parameters(("experiment_id", "path", TOKEN_SCHEMA, "Its id."), REQUEST_REASON),
    ),
)
@needs(EXP_ADMIN)
async def put_experiment(request: Request) -> Response:
    identifier, content, serving = await path_and_body(request, "experiment_id")
    definitions = serving.control.definitions
    record = control.experiment(content, identifier, definitions, caller(request), serving.clock())
    return await append_change(request, record)


@router.get(
    "/v1/experiments",
    summary="Every experiment",
    responses=answers(200, ExperimentsOut, 401, 422),
)
@needs(EXP_READ)
async def experiments(request: Request) -> Response:
    check_query(request)
    held = state(request).control.experiments
    return json_response(
        with_defaults(ExperimentsOut([_experiment(n, *held[n]) for n in sorted(held)]))
    )


@router.get(
    "/v1/experiments/{experiment_id}",
    summary="An experiment",
    responses=answers(200, ExperimentOut, 401, 404, 422),
)
@needs(EXP_READ)
async def experiment(request: Request) -> Response:
    check_query(request)
    identifier = path_id(request, "experiment_id")
    return json_response(with_defaults(_experiment(identifier, *_find(state(request), identifier))))


def _find(serving: Serving, identifier: str) -> tuple[Held, Experiment]:
    found = serving.control.experiments.get(identifier)
    if found is None:
        raise Problem(404, "unknown_experiment", "There is no such experiment.")
    return found


def _experiment(identifier: str, held: Held, found: Experiment) -> ExperimentOut:
    return ExperimentOut(
        experiment_id=identifier,
        experiment=found,
        version=held.version,
        actor=held.actor,
        reason=held.reason,
        received_at=times.render(held.received_at),
    )
