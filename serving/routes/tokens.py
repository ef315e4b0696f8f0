"""Tokens for browsers: the shop's server asks for one, and hands it to a visitor's page."""

from __future__ import annotations

from typing import Annotated, Final

import msgspec
from starlette.requests import Request
from starlette.responses import Response

from infra import tokens
from schemas.access.audit import PERSON
from schemas.access.origins import MAX_ORIGIN_LENGTH, ORIGIN
from schemas.access.scopes import BROWSER, TOKENS_WRITE
from schemas.api.patterns import PersonId
from schemas.reject import Rejected
from serving.context import state
from serving.http.body import decode, read_body
from serving.http.errors import json_response
from serving.http.guard import caller, guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.routes.audited import REQUEST_REASON, administering

router: Final = guarded_router()
MAX_MINUTES: Final = 60
NO_STORE: Final = {"Cache-Control": "no-store"}


class TokenIn(msgspec.Struct, forbid_unknown_fields=True, kw_only=True):
    """`origin`: of the visitor's page, one of FRESHET_ORIGINS. The token reads recommendations and sends
    events for `anonymous_id` alone, from that origin alone, for so many `minutes`."""

    anonymous_id: PersonId
    origin: Annotated[str, msgspec.Meta(pattern=ORIGIN, max_length=MAX_ORIGIN_LENGTH)]
    minutes: Annotated[int, msgspec.Meta(ge=1, le=MAX_MINUTES)] = 15


class TokenOut(msgspec.Struct):
    """As an authorization server answers (RFC 6749, 5.1). `expires_in`: seconds."""

    access_token: str
    expires_in: int
    scope: str
    token_type: str = "Bearer"


_TOKEN: Final = msgspec.json.Decoder(TokenIn)


@router.post(
    "/v1/tokens",
    summary="Make a token for a visitor's browser",
    responses=answers(200, TokenOut, 400, 401, 403, 413, 422, 503),
    openapi_extra=merged(
        body(TokenIn, example={"anonymous_id": "device-7", "origin": "https://shop.example"}),
        parameters(REQUEST_REASON),
    ),
)
@needs(TOKENS_WRITE)
async def post_token(request: Request) -> Response:
    asked, serving = decode((await read_body(request)).content, _TOKEN), state(request)
    if asked.origin not in serving.settings.page_origins:
        raise Rejected("origin", "unknown_value", "origin takes one of FRESHET_ORIGINS.")
    # what is no id of a person is refused here
    visitor = serving.people.anonymous(asked.anonymous_id)
    async with administering(request, f"{PERSON}:{visitor.pseudonym}") as act:
        made = tokens.make_token(
            serving.settings,
            BROWSER,
            minutes=asked.minutes,
            anonymous_id=asked.anonymous_id,
            origin=asked.origin,
            client=caller(request).client,
        )
        act.status = 200
    scope = " ".join(sorted(BROWSER))
    return json_response(TokenOut(made, asked.minutes * 60, scope), headers=NO_STORE)
