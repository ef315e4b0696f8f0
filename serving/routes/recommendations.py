"""The routes of recommendations: one row or a page, popular items, similar items."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import Any, Final

from starlette.requests import Request
from starlette.responses import Response

from schemas.access.scopes import EXPLAIN, IMPORT, REC_READ
from schemas.api.patterns import ID, ITEM_ID, PERSON_ID, PRINTABLE, bytes_of
from schemas.times import TimeText
from serving.context import Serving, state
from serving.http.body import path_id, read_body, traceparent
from serving.http.errors import ENCODE, limit_fields
from serving.http.guard import caller, check_scope, guarded_router, needs
from serving.http.openapi import answers, body, merged, parameters
from serving.http.registry import schema_of
from serving.read import lists, overload, query, recommend, rows
from serving.read.answer import Answer, PageOut
from serving.read.reply import Reply
from serving.read.resolve import check_own, for_row
from serving.routes import replies
from serving.routes.audited import REQUEST_REASON, note_read
from serving.routes.charges import take_list

router: Final = guarded_router()

_DOCUMENTED: Final[dict[str, tuple[dict[str, Any], str]]] = {
    "user_id": (PERSON_ID, "The user it is for; this or anonymous_id."),
    "anonymous_id": (PERSON_ID, "The visitor it is for, before they sign in."),
    "count": ({"type": "integer", "minimum": 1, "maximum": query.MAX_COUNT, "default": 10}, ""),
    "placement": ({**ID, "default": "home"}, "Which recipe."),
    "session_id": (ID, ""),
    "item_id": (
        ITEM_ID,
        "The item in view: similar ones rank higher; neither it nor a variant is shown.",
    ),
    "category": (
        ID,
        "Only items of this category, primary or not; lifts the category cap, which counts the primary one.",
    ),
    "exclude": (
        {"type": "array", "items": ITEM_ID, "maxItems": query.MAX_EXCLUDED_IDS},
        "Item ids not to show; repeatable.",
    ),
    "filter": (bytes_of(256, PRINTABLE, 1), "A named filter of the placement."),
    "cursor": (
        query.CURSOR_SCHEMA,
        "`next_cursor` of the page before; opaque.",
    ),
    "after": (
        query.POSITION_SCHEMA,
        "A position that a write answered: wait until it is included.",
    ),
    "max_wait_ms": (
        {"type": "integer", "minimum": 0, "maximum": query.MAX_WAIT_MS, "default": 150},
        "How long `after` waits at most. What the log does not have is not waited for: `stale` at once.",
    ),
    "explain": ({"enum": list(query.EXPLAIN), "default": "reason"}, "full: scope explain."),
    "personalized": (
        {"type": "boolean", "default": True},
        "false: the history of the person does not rank; items that they saw or hid are not shown.",
    ),
    "now": (schema_of(TimeText), "The time to decide for; scope import."),
    "window": ({"enum": ["1h", "24h", "7d"], "default": "24h"}, "A half-life."),
}


def _documented(*names: str) -> dict[str, Any]:
    return parameters(*((name, "query", *_DOCUMENTED[name]) for name in names), REQUEST_REASON)


@router.get(
    "/v1/recommendations",
    summary="What to show a person now",
    openapi_extra=_documented(*query.READERS),
    responses=answers(200, Answer, 401, 403, 422, 503),
)
@needs(REC_READ)
async def recommendations(request: Request) -> Response:
    serving, parsed = _parsed(request, query.recommendations)
    parsed.spending = serving.spendings.of_read(caller(request))
    if serving.queue.overloaded:
        return respond_shed(overload.shed(serving, parsed))
    reply = await recommend.recommend(serving, parsed)
    _note_explained(request, [parsed], [reply])
    return _respond(serving, "recommendations", reply, parsed)


@router.post(
    "/v1/recommendations",
    summary="The same with a body, or several rows of one page",
    openapi_extra=merged(
        parameters(REQUEST_REASON),
        body(
            rows.PageIn,
            example={
                "user_id": "ann",
                "requests": [{"placement": "home"}, {"placement": "popular"}],
            },
            description=(
                "One row, answered as GET answers it; or with `requests` 1 to "
                f"{rows.MAX_ROWS} rows of at most {rows.MAX_PAGE_ITEMS} items together, answered as `rows`."
                " The fields beside `requests` are the defaults of each row; `distinct`: an item that a row"
                " shows, or a variant of it, is in no row after it."
            ),
        ),
    ),
    responses=answers(200, (Answer, PageOut), 400, 401, 403, 413, 422, 503),
)
@needs(REC_READ)
async def recommend_rows(request: Request) -> Response:
    query.no_parameters(request.scope["query_string"])
    page_request = rows.parse((await read_body(request)).content)
    trace = traceparent(request)
    serving = state(request)
    for n, row in enumerate(page_request.rows):
        for_row(page_request, n, _check_scopes, request, row)
        row.traceparent = trace
    first = page_request.rows[0]
    first.spending = serving.spendings.of_read(caller(request), len(page_request.rows))
    if serving.queue.overloaded:
        shed = overload.shed_page(serving, page_request)
        return respond_shed(shed[0] if page_request.single else PageOut(shed))
    if page_request.single:
        reply = await recommend.recommend(serving, page_request.rows[0])
        _note_explained(request, page_request.rows, [reply])
        return _respond(serving, "recommendations", reply, first)
    made = await recommend.page(serving, page_request)
    _note_explained(request, page_request.rows, made)
    page = PageOut([reply.answer for reply in made])
    return _respond_all(serving, "recommendations", made, page, first)


@router.get(
    "/v1/popular",
    summary="What is popular, by half-life",
    openapi_extra=_documented(*query.POPULAR_READERS),
    responses=answers(200, Answer, 401, 403, 422),
)
@needs(REC_READ)
async def popular(request: Request) -> Response:
    serving, parsed = _parsed(request, query.popular)
    parsed.spending = take_list(serving.leases, caller(request))
    reply = await serving.queue.run(partial(lists.popular, serving, parsed))
    _note_explained(request, [parsed], [reply])
    return _respond(serving, "popular", reply, parsed)


@router.get(
    "/v1/items/{item_id:id}/similar",
    summary="Items similar to one",
    openapi_extra=_documented(*query.SIMILAR_READERS),
    responses=answers(200, Answer, 401, 403, 422, 503),
)
@needs(REC_READ)
async def similar(request: Request) -> Response:
    item_id = path_id(request, "item_id")
    serving, parsed = _parsed(request, query.similar)
    parsed.spending = take_list(serving.leases, caller(request))
    if serving.queue.overloaded:
        return respond_shed(overload.shed_similar(serving, parsed))
    reply = await serving.queue.run(partial(lists.similar, serving, item_id, parsed))
    _note_explained(request, [parsed], [reply])
    return _respond(serving, "similar", reply, parsed)


def _parsed(request: Request, parse: Callable[[bytes], query.Query]) -> tuple[Serving, query.Query]:
    """The context and the checked query. Errors: `Rejected`; `Problem` 403 where the caller lacks a scope."""
    parsed = parse(request.scope["query_string"])
    _check_scopes(request, parsed)
    parsed.traceparent = traceparent(request)
    parsed.shown = request.method != "HEAD"
    return state(request), parsed


def _check_scopes(request: Request, parsed: query.Query) -> None:
    if parsed.now is not None:
        check_scope(request, IMPORT)
    if parsed.explain == "full":
        check_scope(request, EXPLAIN)
    check_own(state(request), caller(request), parsed)


def _note_explained(request: Request, queries: Sequence[query.Query], made: list[Reply]) -> None:
    """Records whose decisions were shown whole: `explain=full` has what is held of a person."""
    pairs = zip(queries, made, strict=True)
    note_read(request, [reply.slate.person for asked, reply in pairs if asked.explain == "full"])


def respond_shed(content: Answer | PageOut) -> Response:
    """The response to a read that was shed: it has no slate, and the person no variant."""
    return _response(content, [replies.PRIVATE])


def _respond(serving: Serving, route: str, reply: Reply, parsed: query.Query) -> Response:
    return _respond_all(serving, route, [reply], reply.answer, parsed)


def _respond_all(
    serving: Serving,
    route: str,
    made: list[Reply],
    content: Answer | PageOut,
    first: query.Query,
) -> Response:
    """The response to replies whose slates are logged already. `first`: the query that took of the limits."""
    replies.count(serving, route, made)
    spent = first.spending
    more = limit_fields(spent.budget) if spent is not None else []
    return _response(content, [*replies.headers(made), *more])


def _response(content: Answer | PageOut, headers: replies.RawHeaders) -> Response:
    response = Response(ENCODE(content), 200, media_type="application/json")
    response.raw_headers[:0] = headers
    return response
