"""Placements and experiments: put them, and see what stands.

A put answers when the log has it. It is in force once the fold took it and this process heard of it,
some milliseconds later: then a read here shows its version, and until then what it replaces.

While the broker is away a put is a 503 and never spooled: it is a compare-and-set against what stands,
so whoever sends one must learn soon whether it holds. One that came out of a spool an hour later would
win or lose against changes that its sender never saw.
"""

from __future__ import annotations

from typing import Any, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from schemas import times
from schemas.control import BUILT_IN, Experiment, Held, Recipe
from schemas.record import Record
from schemas.topics import CONTROL
from serving.context import Serving, state
from serving.edge import control as ingest_control
from serving.edge.control import ExperimentIn, PlacementIn
from serving.http.body import check_query, path_id
from serving.http.errors import Problem, json_response
from serving.http.guard import guarded_router, needs
from serving.http.openapi import answers, body
from serving.log.producer import NotDurable
from serving.routes.events import Written, listed, not_durable, payload
from serving.world.placements import Control

router: Final = guarded_router()


class PlacementOut(msgspec.Struct, kw_only=True):
    """`recipe` with its defaults. `version` is the next put's `expected_version`; `rules` is what
    ``served_by.rules`` says of it; `built_in`: nobody has put one, and `received_at` is null."""

    placement: str
    recipe: Recipe
    version: int
    rules: str
    built_in: bool
    actor: str = ""
    reason: str = ""
    received_at: str | None = None


class PlacementsOut(msgspec.Struct):
    placements: list[PlacementOut]


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
    "/v1/placements/{placement}",
    status_code=202,
    summary="Change what a placement serves",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=body(PlacementIn),
)
@needs("admin")
async def put_placement(request: Request) -> Response:
    placement, content = path_id(request, "placement"), await payload(request)
    serving = state(request)
    record = ingest_control.placement(content, placement, serving.clock())
    return await _changed(serving, record)


@router.get(
    "/v1/placements",
    summary="Every placement, and what it serves",
    responses=answers(200, PlacementsOut, 401, 422),
)
@needs("read")
async def placements(request: Request) -> Response:
    check_query(request)
    control = state(request).control
    names = sorted({*BUILT_IN, *control.placements})
    found = [out for name in names if (out := _placement(control, name))]
    return json_response(full(PlacementsOut(found)))


@router.get(
    "/v1/placements/{placement}",
    summary="What a placement serves",
    responses=answers(200, PlacementOut, 401, 404, 422),
)
@needs("read")
async def placement(request: Request) -> Response:
    check_query(request)
    out = _placement(state(request).control, path_id(request, "placement"))
    if out is None:
        raise Problem(404, "unknown_placement", "There is no such placement.")
    return json_response(full(out))


@router.put(
    "/v1/experiments/{experiment_id}",
    status_code=202,
    summary="Start, change or stop an experiment",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=body(ExperimentIn),
)
@needs("admin")
async def put_experiment(request: Request) -> Response:
    identifier, content = path_id(request, "experiment_id"), await payload(request)
    serving = state(request)
    stands = serving.control.standing
    record = ingest_control.experiment(content, identifier, stands, serving.clock())
    return await _changed(serving, record)


@router.get(
    "/v1/experiments",
    summary="Every experiment",
    responses=answers(200, ExperimentsOut, 401, 422),
)
@needs("read")
async def experiments(request: Request) -> Response:
    check_query(request)
    held = state(request).control.experiments
    return json_response(full(ExperimentsOut([_experiment(n, *held[n]) for n in sorted(held)])))


@router.get(
    "/v1/experiments/{experiment_id}",
    summary="An experiment",
    responses=answers(200, ExperimentOut, 401, 404, 422),
)
@needs("read")
async def experiment(request: Request) -> Response:
    check_query(request)
    identifier = path_id(request, "experiment_id")
    found = state(request).control.experiments.get(identifier)
    if found is None:
        raise Problem(404, "unknown_experiment", "There is no such experiment.")
    return json_response(full(_experiment(identifier, *found)))


async def _changed(serving: Serving, record: Record) -> Response:
    """Errors: `Problem` 413, 503."""
    try:
        positions = listed(await serving.log.append(CONTROL.name, [record]))
    except NotDurable as error:
        raise not_durable(serving, error) from None
    return json_response(Written(position=positions[0], positions=positions), 202)


def _placement(control: Control, name: str) -> PlacementOut | None:
    placed = control.placed(name)
    if placed is None:
        return None
    out = PlacementOut(
        placement=name, recipe=placed.recipe, version=0, rules=placed.rules, built_in=True
    )
    if name in control.placements:
        held, _ = control.placements[name]
        out.version, out.built_in = held.version, False
        out.actor, out.reason = held.actor, held.reason
        out.received_at = times.render(held.received_at)
    return out


def _experiment(identifier: str, held: Held, found: Experiment) -> ExperimentOut:
    return ExperimentOut(
        experiment_id=identifier,
        experiment=found,
        version=held.version,
        actor=held.actor,
        reason=held.reason,
        received_at=times.render(held.received_at),
    )


def full(value: Any) -> Any:
    """Plain data with what equals a default in it too, which records leave out."""
    if isinstance(value, msgspec.Struct):
        return {name: full(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: full(each) for name, each in value.items()}
    return [full(each) for each in value] if isinstance(value, list | tuple) else value
