"""The versions that a process serves and the positions of the flows, for `freshet status` too."""

from __future__ import annotations

from typing import Any, Final

import msgspec
from redis.exceptions import RedisError
from starlette.requests import Request
from starlette.responses import Response

from infra.store import redis_client
from schemas import times
from schemas.access.scopes import OPS
from schemas.flows import FOLDS
from schemas.state import fences
from serving.context import Serving, state
from serving.health import health
from serving.http.errors import json_response
from serving.http.guard import guarded_router, needs
from serving.http.openapi import answers
from serving.read import query
from serving.read.answer import lag, position
from serving.read.in_python import in_python
from serving.state.background import Fault

router: Final = guarded_router()


class FlowPosition(msgspec.Struct, kw_only=True):
    """The position of a flow in a partition. `lag_ms`: from the newest record to its commit.

    `end`: the offset that the log's next record gets, as the broker answered within the last second or so
    (null: it did not answer); `lag`: records from the position to there. `paused`: the flow stopped, because
    for long no record could be decoded; an operator resumes it (freshet dead-letters resume).
    """

    flow: str
    partition: int
    position: str | None
    applied_at: str | None
    lag_ms: int | None
    end: int | None
    lag: int | None
    paused: bool


class MoneySums(msgspec.Struct, kw_only=True):
    """Purchases that name this currency, less those that were taken back; `amount` in minor units."""

    purchases: int
    quantity: int
    amount: int


class Status(msgspec.Struct, kw_only=True):
    """`stands`: the positions of the flows, null while the store does not answer, or with values that this
    version does not read. `items`: how many items the catalogue has. `ready`, `fails` and `degraded` are
    those of `/health/ready`, which is a 503 where something `fails`. `clock_skew_s`: by how much the clock of
    this process is ahead of Redis's, null while Redis does not answer. `not_counted`: by reason, how many
    records were accepted and are not counted (`duplicate`: an action that came before;
    `patch_of_unknown_item`: a patch that found no item and creates none), as of the last seconds; null where
    the store has not answered yet. `money`: by currency (ISO 4217), as of the tables. `events_topic`: the id
    of the topic `events` in Kafka, "" while that is not known: another id is another log. `in_python`: what
    the compiled decision leaves to Python: `decision`, where there is no kernel, and why; a `source`, `rule`
    or `column` by its name; a `ranker` by its release, and why. `auth`: on, or off where nobody is asked for
    a token."""

    auth: str
    release: str
    index: str
    tables: str
    tables_version: int
    events_topic: str
    items: int
    items_position: str
    neighbours: int
    waiting_items: int
    waiting_pairs: int
    unknown_over_limit: int
    pairs_over_limit: int
    money: dict[str, MoneySums]
    ready: dict[str, bool]
    fails: tuple[Fault, ...]
    degraded: tuple[Fault, ...]
    clock_skew_s: float | None
    in_python: dict[str, list[str]]
    not_counted: dict[str, int] | None
    stands: list[FlowPosition] | None


async def gather(serving: Serving) -> Status:
    """The status of this process and of the flows. Errors: none."""
    found = health(serving)
    return Status(
        auth=serving.settings.auth,
        release=serving.ranking_release,
        index=serving.index.version,
        tables=serving.tables.version,
        tables_version=serving.tables.meta.version,
        events_topic=serving.producer.events_topic,
        items=serving.catalogue.count,
        items_position=serving.catalogue.version,
        neighbours=len(serving.tables.neighbours),
        waiting_items=serving.tables.meta.waiting_items,
        waiting_pairs=serving.tables.meta.waiting_pairs,
        unknown_over_limit=serving.tables.meta.unknown_over_limit,
        pairs_over_limit=serving.tables.meta.pairs_over_limit,
        money={
            currency: MoneySums(purchases=purchases, quantity=quantity, amount=amount)
            for currency, (purchases, quantity, amount) in serving.tables.meta.money.items()
        },
        ready=found.components,
        fails=found.fails,
        degraded=found.degraded,
        clock_skew_s=serving.clock_check.skew,
        in_python=in_python(serving),
        not_counted=await serving.tallies.get(),
        stands=await _flow_positions(serving),
    )


async def _flow_positions(serving: Serving) -> list[FlowPosition] | None:
    count, live = serving.settings.partitions, serving.generation.keyspace
    places = [(flow, p) for flow in FOLDS for p in range(flow.partitions(count))]
    try:
        values: Any = await redis_client.mget_async(
            serving.redis,
            [live.for_flow(flow).fence(flow.name, p) for flow, p in places],
        )
        return [
            _flow_position(serving, flow.name, p, value)
            for (flow, p), value in zip(places, values, strict=True)
        ]
    except (RedisError, OSError, ValueError, msgspec.MsgspecError):
        return None


def _flow_position(
    serving: Serving, flow: str, partition: int, value: bytes | None
) -> FlowPosition:
    fence = fences.decode(value) if value else None
    end = serving.lag.end_offset(flow, partition)
    return FlowPosition(
        flow=flow,
        partition=partition,
        position=position(partition, fence),
        applied_at=times.render(fence.committed_at) if fence else None,
        lag_ms=lag(fence),
        end=end,
        lag=None if end is None else max(0, end - (fence.offset if fence else 0)),
        paused=(flow, partition) in serving.lag.paused,
    )


@router.get(
    "/v1/status",
    summary="The versions that this process serves, and the positions of the flows",
    responses=answers(200, Status, 401, 422),
)
@needs(OPS)
async def status(request: Request) -> Response:
    query.no_parameters(request.scope["query_string"])
    return json_response(await gather(state(request)))
