"""Events: the route that takes what people did. It answers 202.

It reads the body, a pure function makes records of it, and the log has them before the answer. Requests of
the plain kind do not come here: `serving.routes.direct` answers them as this route would.
"""

from __future__ import annotations

import time
from typing import Final

from starlette.requests import Request
from starlette.responses import Response

from schemas.access.scopes import EVENTS_WRITE, IMPORT
from schemas.events import EventIn
from schemas.reject import Rejected
from schemas.topics import EVENTS
from serving.context import Serving, state
from serving.edge import events
from serving.edge.events import Ingested, RequestContext
from serving.edge.source import source
from serving.http.body import IDEMPOTENCY_KEY, idempotency_key, is_ndjson
from serving.http.errors import Problem, json_response, limit_fields
from serving.http.guard import caller, check_scope, guarded_router, needs
from serving.http.head import Head
from serving.http.openapi import answers, body, merged, parameters
from serving.http.parameters import check_query
from serving.routes import charges
from serving.routes.accepted import (
    Accepted,
    Receipt,
    all_rejected,
    append,
    count_rejected,
    payload,
    render_positions,
)

router: Final = guarded_router()
PATH: Final = "/v1/events"
SCOPE: Final = EVENTS_WRITE

_MODE: Final = (
    "mode",
    "query",
    {"enum": ["live", "import"], "default": "live"},
    "import: history, received_at := occurred_at; needs the scope import.",
)


@router.post(
    PATH,
    status_code=202,
    summary="Say what people did",
    description=(
        "Times: `sent_at` of a batch corrects `occurred_at` by the client's clock. What is then more than"
        " 5 min ahead of the server counts as now; of history (mode=import, which ignores `sent_at`) it is"
        " rejected as `in_the_future`. Ids compare in Unicode's NFC and without blanks at their ends."
        " `not_an_id`: null, undefined, NaN, None, [object Object] and blanks alone, in upper or lower case,"
        " are no ids of people, nor are the words of the setting FRESHET_NOT_IDS; undefined,"
        " [object Object] and blanks alone are no ids of items. Lines that are equal in person, `event_id`,"
        " `item_id`, `action` and sign of the value are one."
    ),
    responses=answers(
        202,
        Accepted,
        400,
        401,
        403,
        413,
        422,
        503,
        description="The broker or an fsynced spool has them",
    ),
    openapi_extra=merged(
        body(
            EventIn,
            events.FORM.batch,
            events.FORM.array,
            ndjson=True,
            description="Up to 1,000 and 1 MiB.",
            example={"user_id": "ann", "item_id": "alien", "action": "click"},
        ),
        parameters(_MODE, IDEMPOTENCY_KEY),
    ),
)
@needs(SCOPE)
async def post_events(request: Request) -> Response:
    started = time.perf_counter()
    serving = state(request)
    content = await payload(request, "mode", lines=True)
    context = _context(request, serving)
    try:
        ingested = events.ingest(content, context, serving.people, serving.catalogue.lookup)
    except (Problem, Rejected) as error:  # to find out what is wrong is work, too
        if getattr(error, "status", 0) == 403:
            raise
        serving.leases.take(*charges.events(caller(request), 1, imported=context.imported))
        raise
    serving.new_people.check(caller(request).client, ingested.records)
    count = max(1, len(ingested.records))
    budget = serving.leases.take(*charges.events(caller(request), count, imported=context.imported))
    count_rejected(serving, ingested.rejected)
    if not ingested.records:
        raise all_rejected(ingested.rejected, None if ingested.single else "events")
    if context.idempotency_key is not None:
        await serving.idempotency.keep(
            caller(request).name, context.idempotency_key, ingested.fingerprint
        )
    receipt = await append(request, EVENTS, ingested.records)
    response = json_response(accepted(serving, ingested, receipt, started), 202)
    response.raw_headers += limit_fields(budget)
    return response


def accepted(serving: Serving, ingested: Ingested, receipt: Receipt, started: float) -> Accepted:
    """The content of the answer to a request whose records are durable, and its counts. `started`: when the
    request began, by ``time.perf_counter``."""
    answer = Accepted(
        accepted=len(ingested.records),
        rejected=ingested.rejected,
        positions=render_positions(receipt.offsets),
        durable=receipt.durable,
    )
    if any(ingested.assigned_ids):
        answer.event_ids = ingested.assigned_ids
    if ingested.duplicates:
        answer.duplicates = ingested.duplicates
    if ingested.unknown_items:
        answer.unknown_items = ingested.unknown_items
    serving.metrics.count_events(
        len(ingested.records),
        ingested.duplicates,
        ingested.unknown_items,
        ingested.ignored,
        time.perf_counter() - started,
    )
    return answer


def _context(request: Request, serving: Serving) -> RequestContext:
    mode = check_query(request, "mode").get("mode", "live")
    if mode == "import":
        check_scope(request, IMPORT)
    elif mode != "live":
        raise Rejected("mode", "unknown_value")
    return RequestContext(
        received_at=serving.clock(),
        make_id=serving.make_id,
        ndjson=is_ndjson(request),
        imported=mode == "import",
        idempotency_key=idempotency_key(request),
        source=source(Head.of(request.scope).headers, imported=mode == "import"),
        scale=serving.scale,
        own=serving.people.own(caller(request), SCOPE),
    )
