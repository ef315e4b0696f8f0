"""From a decision to the answer, and to what of it is logged: the same for every kind of read."""

from __future__ import annotations

import os
from typing import Final, NamedTuple

from infra.version import RELEASE
from schemas.alphabet import Millis
from schemas.events import Served
from schemas.slates import Slate
from serving.context import Serving
from serving.decide.case import Ask, World
from serving.decide.results import Decision
from serving.read import cursor
from serving.read.answer import Answer, Freshness, ServedBy, items_out
from serving.read.query import Query
from serving.read.ulid import ulid
from serving.read.watch import Stopwatch

NO_MODEL: Final = "no_model"


class Reply(NamedTuple):
    """An answer, what made it, and what it leaves for the log (`served`: of a person's slate)."""

    answer: Answer
    decision: Decision
    watch: Stopwatch
    slate: Slate
    served: Served | None = None


class Question(NamedTuple):
    """What is asked of one decision, of which slate, and when (ms)."""

    ask: Ask
    slate_id: str
    at: Millis


class Draw(NamedTuple):
    """Chance, once a slate: the seed of all that is drawn for it (u64), and its id."""

    seed: int
    slate_id: str


def draw_seed(at: Millis) -> Draw:
    chance = os.urandom(18)
    return Draw(int.from_bytes(chance[:8], "little"), ulid(at, chance[8:]))


def without_model(decision: Decision) -> Decision:
    """A decision for which a release was chosen and none was loaded. What is popular would have been so
    with it, too; what goes by content is what stands in for its space."""
    if decision.fallback == "popular":
        return decision
    return decision._replace(fallback=NO_MODEL)


def make_answer(
    question: Question,
    decision: Decision,
    world: World,
    fresh: Freshness,
    watch: Stopwatch,
    *,
    full: bool = False,
) -> Answer:
    """The answer, without who it is for. `full`: with what made each item."""
    ask, after = question.ask, None
    if not decision.exhausted:
        after = cursor.encode(ask.served, [item.item_id for item in decision.items])
    answer = Answer(
        slate_id=question.slate_id,
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


def log_slate(context: Serving, reply: Reply, query: Query) -> None:
    """Leaves the slate for the log; when this returns it survives the process."""
    context.slates.add(reply.slate, reply.served, query.traceparent)
