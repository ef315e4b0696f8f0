"""From a checked query to an answer: read > assign > decide, and what of it is to be logged."""

from __future__ import annotations

import asyncio
import os
import time
from collections.abc import Callable
from typing import Final, NamedTuple, TypeVar

from infra.version import RELEASE
from schemas.alphabet import Millis
from schemas.event import Served
from schemas.reject import Rejected
from schemas.slate import Slate
from serving.context import Serving
from serving.decide.case import Ask, World
from serving.decide.decide import Explain, decide
from serving.decide.results import Decision
from serving.read import cursor, record
from serving.read.answer import Answer, AssignedOut, Freshness, ServedBy, freshness, items_out
from serving.read.query import Query
from serving.read.resolve import Read, Turn, asking, assign, read, read_each
from serving.read.rows import Asked
from serving.read.ulid import ulid

T = TypeVar("T")
STORE_DOWN: Final = "store_down"
NO_MODEL: Final = "no_model"
UNLOGGED: Final = "replay"
"""A placement that shows nothing to anybody: no person was served by it."""


class Watch:
    """Milliseconds per stage, in the order they came."""

    def __init__(self) -> None:
        self.begun = self._last = time.perf_counter()
        self.spent: dict[str, float] = {}

    def __call__(self, stage: str) -> None:
        now = time.perf_counter()
        self.spent[stage] = self.spent.get(stage, 0.0) + (now - self._last) * 1000
        self._last = now

    @property
    def took_ms(self) -> float:
        return (self._last - self.begun) * 1000


class Reply(NamedTuple):
    """An answer, what made it, and what it leaves for the log (`served`: of a person's slate)."""

    answer: Answer
    decision: Decision
    watch: Watch
    slate: Slate
    served: Served | None = None


async def recommend(serving: Serving, query: Query) -> Reply:
    """Errors: `Rejected`."""
    watch = Watch()
    asks = asking(serving, query)
    known = await read(serving, asks)
    watch("read")
    turn = assign(serving, asks, known)
    watch("assign")
    return _reply(serving, turn, known, watch)


async def several(serving: Serving, asked: Asked) -> list[Reply]:
    """The rows of a page, in their order; all of the worlds that there are now.

    Errors: `Rejected`, under the path of the row's field.
    """
    watch = Watch()
    rows = range(len(asked.rows))
    every = [_at(asked, n, asking, serving, asked.rows[n]) for n in rows]
    known = await read_each(serving, every)
    watch("read")
    turns = [_at(asked, n, assign, serving, every[n], known[n]) for n in rows]
    watch("assign")
    replies: list[Reply] = []
    shown: tuple[str, ...] = ()
    for turn, person in zip(turns, known, strict=True):
        reply = _reply(serving, turn, person, watch, shown)
        replies.append(reply)
        if asked.distinct:
            shown += tuple([item.item_id for item in reply.answer.items])
        await asyncio.sleep(0)  # a long page lets others in between
        watch = Watch()
    return replies


def _at(asked: Asked, row: int, step: Callable[..., T], *arguments: object) -> T:
    """A step for one row. Errors: `Rejected`, under the path of the row's field."""
    try:
        return step(*arguments)
    except Rejected as why:
        raise Rejected(asked.path(row, why.field), why.code) from None


def _reply(
    serving: Serving, turn: Turn, known: Read, watch: Watch, shown: tuple[str, ...] = ()
) -> Reply:
    """`shown`: what the page shows already."""
    query, who, now = turn.query, turn.who, serving.clock()
    seed, slate_id = _draw(now)
    ask = Ask(
        now=now if query.now is None else query.now,
        count=query.count,
        category=query.category,
        item_id=query.item_id,
        exclude=query.exclude + shown,
        served=query.cursor,
        personalized=query.personalized,
        seed=seed,
        filter=turn.filter,
        placement=query.placement,
    )
    explain: Explain = query.explain  # type: ignore[assignment]  # one of these, `query` saw to it
    decision = decide(known.person, turn.world, ask, explain, watch)
    if known.down:
        decision = decision._replace(fallback=STORE_DOWN)
    elif turn.lacks:
        decision = without_model(decision)
    late = known.stale or known.person.cold
    late = late or serving.lag.late(who.partition, known.person.fence)
    fresh = freshness(known.person, who.partition, known.waited_ms, late)
    answer = _answer(slate_id, decision, turn.world, ask, fresh, watch, explain == "full")
    answer.user_id = query.user_id
    if query.anonymous_id is not None:
        answer.anonymous_id = query.anonymous_id
    answer.served_by.experiments = tuple(
        [AssignedOut(it.experiment, it.version, it.variant) for it in turn.experiments]
    )
    slate = record.slate(decision, answer, ask, now, who.pseudonym, turn.experiments)
    served = None
    if slate.items and query.placement != UNLOGGED:
        served = record.served(slate, who.pseudonym)
    return Reply(answer, decision, watch, slate, served)


def without_model(decision: Decision) -> Decision:
    """A decision for which a release was chosen and none was loaded. What is popular would have been so
    with it, too; what goes by content is what stands in for its space."""
    if decision.fallback == "popular":
        return decision
    return decision._replace(fallback=NO_MODEL)


def _draw(at: Millis) -> tuple[int, str]:
    """Chance, once a slate: the seed of all that is drawn for it (u64), and its id."""
    chance = os.urandom(18)
    return int.from_bytes(chance[:8], "little"), ulid(at, chance[8:])


def _answer(
    slate_id: str,
    decision: Decision,
    world: World,
    ask: Ask,
    fresh: Freshness,
    watch: Watch,
    full: bool = False,
) -> Answer:
    after = None
    if not decision.exhausted:
        after = cursor.encode(ask.served, [item.item_id for item in decision.items])
    answer = Answer(
        slate_id=slate_id,
        placement=ask.placement,
        items=items_out(decision.items, full=full),
        next_cursor=after,
        exhausted=after is None,
        fallback=decision.fallback,
        rules_relaxed=decision.relaxed,
        freshness=fresh,
        served_by=ServedBy(
            release=world.release.id if world.release else RELEASE,
            index=(world.space or world.index).version,
            tables=world.tables.version,
            rules=world.rules,
        ),
        took_ms=0.0,
    )
    watch("answer")
    answer.took_ms = round(watch.took_ms, 3)
    return answer
