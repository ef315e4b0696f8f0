"""People: set their preferences, and link their anonymous ids."""

from __future__ import annotations

from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from schemas.topics import EVENTS
from serving.edge import people
from serving.edge.people import LinkIn, PreferencesIn
from serving.http.body import IDEMPOTENCY_KEY
from serving.http.guard import guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.routes.accepted import Written, append_each, event_id, path_and_body

router: Final = guarded_router()


@router.put(
    "/v1/users/{user_id:id}/preferences",
    status_code=202,
    summary="Set the preferences of a person, whole",
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(body(PreferencesIn), parameters(IDEMPOTENCY_KEY)),
)
@needs("events")
async def put_preferences(request: Request) -> Response:
    user_id, content, serving = await path_and_body(request, "user_id")
    record = people.preferences(
        content, user_id, event_id(request, serving), serving.clock(), serving.people
    )
    return await append_each(request, EVENTS, record)


@router.post(
    "/v1/users/{user_id:id}:link",
    status_code=202,
    summary="Link an anonymous id to a person",
    description=(
        "`position` is that of the link, in the anonymous id's partition. The other one of `positions` is in"
        " the user's partition: a read of the user `after` it has `merge_pending` until the history of the"
        " anonymous id is merged. The first of two links of an anonymous id wins."
    ),
    responses=answers(202, Written, 400, 401, 413, 422, 503),
    openapi_extra=merged(body(LinkIn), parameters(IDEMPOTENCY_KEY)),
)
@needs("events")
async def post_link(request: Request) -> Response:
    user_id, content, serving = await path_and_body(request, "user_id")
    link, mark = people.link(
        content, user_id, event_id(request, serving), serving.clock(), serving.people
    )
    return await append_each(request, EVENTS, link, mark)
