"""From a decision to the answer and its records for the log: the same for every kind of read."""

from __future__ import annotations

import os
from collections.abc import Callable
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
    """An answer, the decision behind it, and its records for the log (`served`: only of a person's slate)."""

    answer: Answer
    decision: Decision
    watch: Stopwatch
    slate: Slate
    served: Served | None = None


class Question(NamedTuple):
    """What one decision is asked for, the id of its slate, and the time (Unix ms)."""

    ask: Ask
    slate_id: str
    at: Millis


class Draw(NamedTuple):
    """The randomness of one slate: the seed of its draws (u64), and its id."""

    seed: int
    slate_id: str


def draw_seed(at: Millis, random_bytes: Callable[[int], bytes] = os.urandom) -> Draw:
    """A new seed, and a new slate id of the time `at`."""
    entropy = random_bytes(18)
    return Draw(int.from_bytes(entropy[:8], "little"), ulid(at, entropy[8:]))


def without_model(decision: Decision) -> Decision:
    """The decision as one whose release is not loaded. A popular list keeps its fallback: a release would not
    change it. A list by content becomes `NO_MODEL`: content replaces the space of the release."""
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
    """The answer, without the person's id. `full`: with the details of each item."""
    ask, after = question.ask, None
    if not decision.exhausted:
        after = cursor.encode(ask.served, [(item.item_id, item.group) for item in decision.items])
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
    """Hands the slate to the log; once this returns, the slate survives the process. One that nobody was
    shown is not logged."""
    if query.shown:
        context.slates.add(reply.slate, reply.served, query.traceparent)
