"""How an experiment stands: counts, rates and lifts with their intervals."""

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
from schemas.alphabet import Millis
from schemas.control import Experiment, Held
from schemas.identity import category_hash
from schemas.readouts import Comparison, VariantOut
from schemas.reject import Rejected
from schemas.state import fences as fence
from schemas.state.tables import MOMENTS_KEY
from schemas.topics import CONTROL
from serving.context import Serving, state
from serving.edge import control
from serving.edge.control import ExperimentIn
from serving.http.body import check_query, path_id
from serving.http.errors import Problem, json_response
from serving.http.guard import guarded_router, needs
from serving.http.openapi import answers, body, parameters
from serving.routes.accepted import Written, append_each, path_and_body
from serving.routes.controlled import with_defaults
from serving.state.people import STORE_TIMEOUT_SECONDS

router: Final = guarded_router()


class ExperimentMetrics(msgspec.Struct, kw_only=True):
    """Of one version; `started_at` is null of one that no longer stands, whose shares are not kept
    either: variants show those that stand now.

    `as_of`: when the tables behind it were published; `lag_ms`: how long they have lacked what was
    folded since, 0 where they lack nothing. `revision` and `positions` are those of the topic
    `experiments`.
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


@router.get(
    "/v1/experiments/{experiment_id}/metrics",
    summary="How an experiment stands",
    openapi_extra=parameters(
        ("version", "query", {"type": "integer", "minimum": 1}, "Default: the one that stands."),
        ("metric", "query", {"enum": list(BY_NAME)}, "Only this one."),
    ),
    responses=answers(200, ExperimentMetrics, 401, 404, 422),
)
@needs("ops")
async def metrics(request: Request) -> Response:
    serving, identifier = state(request), path_id(request, "experiment_id")
    check_query(request, "version", "metric")
    metric = _once(request, "metric")
    if metric is not None and metric not in BY_NAME:
        raise Rejected("metric", "unknown_value")
    held, experiment = _find(serving, identifier)
    version = _version(
        _once(request, "version"), held, experiment, counted_versions(serving, identifier)
    )
    told = _metrics(serving, identifier, version, held, experiment)
    told.lag_ms = await _lag(serving)
    return json_response(told if metric is None else with_metric(told, metric))


def counted_versions(serving: Serving, experiment_id: str) -> frozenset[int]:
    """The versions that anybody was in."""
    names = np.frombuffer(b"".join(serving.tables.experiments), MOMENTS_KEY)
    mine = names["experiment"] == category_hash(experiment_id)
    return frozenset(names["version"][mine].tolist())


def with_metric(told: ExperimentMetrics, metric: str) -> ExperimentMetrics:
    """Without the other metrics."""
    variants = [
        msgspec.structs.replace(it, metrics={metric: it.metrics[metric]}) for it in told.variants
    ]
    comparisons = [it for it in told.comparisons if it.metric == metric]
    return msgspec.structs.replace(told, variants=tuple(variants), comparisons=tuple(comparisons))


def _version(asked: str | None, held: Held, experiment: Experiment, counted: frozenset[int]) -> int:
    """Errors: `Rejected` where it is no number, or of a version that there never was or nobody was in."""
    if asked is None:
        return version_shown(held.version, experiment.running, counted)
    if not (asked.isascii() and asked.isdigit()):
        raise Rejected("version", "wrong_type")
    if len(asked) > 9 or int(asked) not in counted | {held.version}:
        raise Rejected("version", "unknown_value")
    return int(asked)


def _metrics(
    serving: Serving, identifier: str, version: int, held: Held, experiment: Experiment
) -> ExperimentMetrics:
    meta, rows = serving.tables.meta, serving.tables.experiments
    found = moments(rows.get(moments_key(identifier, version)))
    told = readout(
        identifier, version, experiment, found, meta.positions, meta.version, meta.published_at
    )
    return ExperimentMetrics(
        experiment_id=identifier,
        version=version,
        status="running" if experiment.running else "paused",
        placement=experiment.placement,
        unit="user",
        started_at=times.render(held.received_at) if version == held.version else None,
        as_of=times.render(told.as_of) if told.as_of else None,
        lag_ms=None,
        revision=told.revision,
        positions=told.positions,
        variants=told.variants,
        comparisons=told.comparisons,
    )


async def _lag(serving: Serving) -> Millis | None:
    """Errors: none; where the store does not answer, the longest that it may be."""
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
    stands = [fence.decode(value).offset if value else 0 for value in fences]
    lacks = any(offset > held for offset, held in zip(stands, meta.positions, strict=True))
    return longest if lacks else 0


def _once(request: Request, name: str) -> str | None:
    given = request.query_params.getlist(name)
    if len(given) > 1:
        raise Rejected(name, "repeated")
    return given[0] if given else None


class ExperimentOut(msgspec.Struct, kw_only=True):
    """`version` is the next put's `expected_version`, and what answers and metrics count under."""

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
    openapi_extra=body(ExperimentIn),
)
@needs("admin")
async def put_experiment(request: Request) -> Response:
    identifier, content, serving = await path_and_body(request, "experiment_id")
    stands = serving.control.definitions
    record = control.experiment(content, identifier, stands, serving.clock())
    return await append_each(request, CONTROL, record)


@router.get(
    "/v1/experiments",
    summary="Every experiment",
    responses=answers(200, ExperimentsOut, 401, 422),
)
@needs("read")
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
@needs("read")
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
