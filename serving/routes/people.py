"""People: set their preferences, and link their anonymous ids."""

from __future__ import annotations

import time
from collections.abc import Callable
from contextlib import suppress
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from schemas.access.scopes import EVENTS_WRITE, EVENTS_WRITE_ANY
from schemas.alphabet import Position, Pseudonym
from schemas.api.patterns import PERSON_ID
from schemas.state.links import Links
from schemas.topics import EVENTS
from serving.access.access import Access, NoToken
from serving.access.keys import KeysUnavailable
from serving.access.oauth import BadToken
from serving.context import Serving
from serving.decide.person import StoreDown
from serving.edge import people
from serving.edge.people import LinkIn, LinkVerdict, PreferencesIn, Why
from serving.http.body import IDEMPOTENCY_KEY
from serving.http.errors import Problem, json_response
from serving.http.guard import caller, guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.routes import charges
from serving.routes.accepted import (
    Durable,
    Written,
    append_each,
    event_id,
    path_and_body,
    write_each,
)

router: Final = guarded_router()
VERDICT_WAIT_MS: Final = 1000
"""How long a link or unlink waits for the fold."""


class LinkAnswer(Written, kw_only=True):
    """`linked`: the anonymous id is linked to the user now; null while that is `pending`. `why`: null where
    this request linked it. `position`: null where nothing was written, or the spool has it."""

    durable: Durable = "broker"
    linked: bool | None = None
    why: Why | None = None
    pending: bool = False


_USER: Final = ("user_id", "path", PERSON_ID, "The user.")
_LINK: Final = merged(
    body(LinkIn, example={"anonymous_id": "device-7"}), parameters(_USER, IDEMPOTENCY_KEY)
)
_LINK_ANSWERS: Final = {
    **answers(200, LinkAnswer, 400, 401, 403, 413, 422, 503, description="Decided"),
    **answers(202, LinkAnswer, description="Not decided yet"),
}


@router.put(
    "/v1/users/{user_id:id}/preferences",
    status_code=202,
    summary="Set the preferences of a person, whole",
    responses=answers(202, Written, 400, 401, 403, 413, 422, 503),
    openapi_extra=merged(
        body(PreferencesIn, example={"liked_categories": ["horror"]}),
        parameters(_USER, IDEMPOTENCY_KEY),
    ),
)
@needs(EVENTS_WRITE)
async def put_preferences(request: Request) -> Response:
    user_id, content, serving = await path_and_body(request, "user_id")
    _check_own(request, serving, user_id)
    serving.leases.take(*charges.events(caller(request), 1))
    record = people.preferences(
        content, user_id, event_id(request, serving), serving.clock(), serving.people
    )
    return await append_each(request, EVENTS, record)


@router.post(
    "/v1/users/{user_id:id}:link",
    summary="Link an anonymous id to a person",
    description=(
        "Waits at most 1 s for the verdict: 200 with `linked` and `why`, else 202 with `pending`. `why` is"
        " null where this link won; `already`: linked to the user before; `linked_elsewhere`: linked to"
        " another user, and the first of two links wins until an unlink; `is_a_user`: the id is a user's, so"
        " nothing was written; `unlinked`: an unlink came meanwhile. `position` is that of the link, in the"
        " anonymous id's partition. The other one of `positions` is in the user's partition: a read of the"
        " user `after` it has `merge_pending` until the history of the anonymous id is merged."
    ),
    responses=_LINK_ANSWERS,
    openapi_extra=_LINK,
)
@needs(EVENTS_WRITE)
async def post_link(request: Request) -> Response:
    user_id, content, serving = await path_and_body(request, "user_id")
    _check_own(request, serving, user_id)
    anonymous = people.anonymous_id(content)
    if not caller(request).may_for_anybody(EVENTS_WRITE):
        _check_proof(request, serving, content, anonymous)
    serving.leases.take(*charges.events(caller(request), 1))
    if await _is_a_user(serving, anonymous):
        answer = LinkAnswer(position=None, positions=[])
        return _decided(answer, people.IS_A_USER)
    name = event_id(request, serving)
    records = people.link(anonymous, user_id, name, serving.clock(), serving.people)
    written = await write_each(request, EVENTS, *records)
    return await _verdict(serving, written, people.link_verdict, anonymous, user_id, name)


@router.post(
    "/v1/users/{user_id:id}:unlink",
    summary="End the link of an anonymous id to a person, as at a log-out",
    description=(
        "The anonymous id starts empty: neither its reads nor a later link see what was before. What it did"
        " while it was linked stays the user's. Waits at most 1 s for the verdict: 200 with `linked` and"
        " `why`, else 202 with `pending`. `unlinked`: this unlink ended the link; `not_linked`: there was"
        " none; `linked_elsewhere`: the id is another user's, so nothing ended (a token of one person alone"
        " reads `not_linked` here); `already`: it was linked to the user again meanwhile."
    ),
    responses=_LINK_ANSWERS,
    openapi_extra=_LINK,
)
@needs(EVENTS_WRITE)
async def post_unlink(request: Request) -> Response:
    user_id, content, serving = await path_and_body(request, "user_id")
    _check_own(request, serving, user_id)
    anonymous, name = people.anonymous_id(content), event_id(request, serving)
    serving.leases.take(*charges.events(caller(request), 1))
    record = people.unlink(anonymous, user_id, name, serving.clock(), serving.people)
    written = await write_each(request, EVENTS, record)
    is_shown_all = caller(request).may_for_anybody(EVENTS_WRITE)

    def verdict(held: Links, user: Pseudonym, event_id: str) -> LinkVerdict:
        found = people.unlink_verdict(held, user, event_id)
        return found if is_shown_all else people.without_others(found)

    return await _verdict(serving, written, verdict, anonymous, user_id, name)


def _check_own(request: Request, serving: Serving, user_id: str) -> None:
    serving.people.check_own(caller(request), EVENTS_WRITE, serving.people.user(user_id))


def _check_proof(request: Request, serving: Serving, content: bytes, anonymous: str) -> None:
    """Checks that the caller shows a token of the anonymous id's browser. Errors: `Problem` 403."""
    access: Access = request.app.state.access
    try:
        shown = access.caller(f"Bearer {people.anonymous_token(content)}", time.time())
        serving.people.check_own(shown, EVENTS_WRITE, serving.people.anonymous(anonymous))
    except (NoToken, BadToken, KeysUnavailable, Problem):
        raise Problem(
            403,
            "forbidden",
            "A link needs proof of both ids: anonymous_token, a valid token of the anonymous id's browser,"
            f" or the scope {EVENTS_WRITE_ANY}.",
            [("anonymous_token", "not_own")],
        ) from None


async def _is_a_user(serving: Serving, raw: str) -> bool:
    """Whether something is stored of the user of this id, and nothing of the anonymous id. False where the
    store is away."""
    ids = (serving.people.anonymous(raw), serving.people.user(raw))
    try:
        anonymous, user = [
            await serving.reader.read(identity.pseudonym, identity.partition) for identity in ids
        ]
    except StoreDown:
        return False
    return user.recorded and not anonymous.recorded


async def _verdict(
    serving: Serving,
    written: Written,
    verdict: Callable[[Links, Pseudonym, str], LinkVerdict],
    anonymous: str,
    user_id: str,
    event_id: str,
) -> Response:
    """The answer once the fold has taken the record at `written.position`, or after `VERDICT_WAIT_MS`."""
    answer = LinkAnswer(
        position=written.position, positions=written.positions, durable=written.durable
    )
    if written.position is not None:
        person, at = serving.people.anonymous(anonymous).pseudonym, Position.parse(written.position)
        with suppress(StoreDown):
            found = await serving.reader.read_after(person, at, VERDICT_WAIT_MS)
            if not found.stale:
                user = serving.people.user(user_id).pseudonym
                return _decided(answer, verdict(found.person.links, user, event_id))
    answer.pending = True
    return json_response(answer, 202)


def _decided(answer: LinkAnswer, verdict: LinkVerdict) -> Response:
    answer.linked, answer.why = verdict
    return json_response(answer, 200)
