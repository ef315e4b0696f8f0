"""Placements: put them, and read what is in force.

A put answers when the log has it. It is in force once the fold took it and this process read that, some
milliseconds later: from then on a read here shows its version, and until then the one before it.

While the broker is away a put is a 503 and never spooled: it is a compare-and-set against the version in
force, so its sender must learn soon whether it holds. A put that left a spool an hour later would win or
lose against changes that its sender never saw.
"""

from __future__ import annotations

from typing import Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from schemas import times
from schemas.access.scopes import EXP_ADMIN, EXP_READ
from schemas.api.patterns import ADDRESSABLE, ID
from schemas.control import BUILT_IN, Recipe
from serving.context import state
from serving.edge import control as ingest_control
from serving.edge.control import PlacementIn
from serving.http.body import path_id
from serving.http.errors import Problem, json_response
from serving.http.guard import caller, guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.http.parameters import check_query
from serving.routes.accepted import Written, append_change, path_and_body
from serving.routes.audited import REQUEST_REASON
from serving.routes.controlled import with_defaults
from serving.world.placements import Control

router: Final = guarded_router()


_PLACEMENT: Final = ("placement", "path", {**ID, "pattern": ADDRESSABLE}, "Its name.")


class PlacementOut(msgspec.Struct, kw_only=True):
    """`recipe` with its defaults. `version` is the `expected_version` of the next put; `rules` is its
    ``served_by.rules``; `built_in`: none was put, and `received_at` is null."""

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


@router.put(
    "/v1/placements/{placement}",
    status_code=202,
    summary="Change what a placement serves",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(
        body(PlacementIn, example={"expected_version": 0, "recipe": {"weights": {"popular": 1}}}),
        parameters(_PLACEMENT, REQUEST_REASON),
    ),
)
@needs(EXP_ADMIN)
async def put_placement(request: Request) -> Response:
    identifier, content, serving = await path_and_body(request, "placement")
    record = ingest_control.placement(content, identifier, caller(request), serving.clock())
    return await append_change(request, record)


@router.get(
    "/v1/placements",
    summary="Every placement, and what it serves",
    responses=answers(200, PlacementsOut, 401, 422),
)
@needs(EXP_READ)
async def placements(request: Request) -> Response:
    check_query(request)
    control = state(request).control
    names = sorted({*BUILT_IN, *control.placements})
    found = [out for name in names if (out := _placement(control, name))]
    return json_response(with_defaults(PlacementsOut(found)))


@router.get(
    "/v1/placements/{placement}",
    summary="What a placement serves",
    responses=answers(200, PlacementOut, 401, 404, 422),
)
@needs(EXP_READ)
async def placement(request: Request) -> Response:
    check_query(request)
    out = _placement(state(request).control, path_id(request, "placement"))
    if out is None:
        raise Problem(404, "unknown_placement", "There is no such placement.")
    return json_response(with_defaults(out))


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
