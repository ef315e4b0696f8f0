"""One recommendation, and a page of several: read > assign > decide > answer > log, a stage a line.

`resolve` reads and assigns; `decide` goes on to retrieve > eligible > score > rank > arrange > explain.
"""

from __future__ import annotations

import asyncio
from typing import Final

from schemas.alphabet import Millis
from serving.context import Serving
from serving.decide.case import Ask
from serving.decide.decide import decide
from serving.decide.results import Decision
from serving.read import record
from serving.read.answer import AssignedOut, freshness
from serving.read.query import Query
from serving.read.reply import Question, Reply, draw_seed, log_slate, make_answer, without_model
from serving.read.resolve import Resolved, resolve, resolve_page
from serving.read.rows import Rows
from serving.read.watch import Stopwatch

STORE_DOWN: Final = "store_down"
UNLOGGED: Final = "replay"
"""A placement that shows nothing to anybody: no person was served by it."""


async def recommend(context: Serving, query: Query) -> Reply:
    """Errors: `Rejected`."""
    watch = Stopwatch()
    resolved = await resolve(context, query, watch)
    question = make_question(resolved, context.clock())
    decision = decide(resolved.known.person, resolved.world, question.ask, query.explain, watch)
    reply = make_reply(context, resolved, question, with_fallback(decision, resolved), watch)
    log_slate(context, reply, query)
    return reply


async def page(context: Serving, rows: Rows) -> list[Reply]:
    """The rows of a page, in their order. With `distinct` none shows what one before it does.

    Errors: `Rejected`, under the path of the row's field.
    """
    watch = Stopwatch()
    replies: list[Reply] = []
    shown: tuple[str, ...] = ()
    for resolved in await resolve_page(context, rows, watch):
        question, explain = make_question(resolved, context.clock(), shown), resolved.query.explain
        decision = decide(resolved.known.person, resolved.world, question.ask, explain, watch)
        replies.append(
            make_reply(context, resolved, question, with_fallback(decision, resolved), watch)
        )
        if rows.distinct:
            shown += tuple([item.item_id for item in decision.items])
        await asyncio.sleep(0)  # a long page lets others in between
        watch = Stopwatch()
    # not before: a page that is given up half-way was not served
    for reply, query in zip(replies, rows.rows, strict=True):
        log_slate(context, reply, query)
    return replies


def make_question(resolved: Resolved, at: Millis, shown: tuple[str, ...] = ()) -> Question:
    """What is asked of the decision. `shown`: what the page shows already."""
    query, drawn = resolved.query, draw_seed(at)
    asked = Ask(
        now=at if query.now is None else query.now,
        count=query.count,
        category=query.category,
        item_id=query.item_id,
        exclude=query.exclude + shown,
        served=query.cursor,
        personalized=query.personalized,
        seed=drawn.seed,
        filter=resolved.filter,
        placement=query.placement,
    )
    return Question(asked, drawn.slate_id, at)


def with_fallback(decision: Decision, resolved: Resolved) -> Decision:
    """The decision, with why it is a lesser one where the store was away or a release is not loaded."""
    if resolved.known.down:
        return decision._replace(fallback=STORE_DOWN)
    return without_model(decision) if resolved.lacks else decision


def make_reply(
    context: Serving, resolved: Resolved, question: Question, decision: Decision, watch: Stopwatch
) -> Reply:
    """The answer for who asked, how fresh it is, and what it leaves for the log."""
    query, who, known = resolved.query, resolved.who, resolved.known
    late = known.stale or known.person.cold
    late = late or context.lag.is_late(who.partition, known.person.fence)
    fresh = freshness(known.person, who.partition, known.waited_ms, late)
    full = query.explain == "full"
    made = make_answer(question, decision, resolved.world, fresh, watch, full=full)
    made.user_id = query.user_id
    if query.anonymous_id is not None:
        made.anonymous_id = query.anonymous_id
    made.served_by.experiments = tuple(
        [AssignedOut(it.experiment, it.version, it.variant) for it in resolved.experiments]
    )
    slate = record.slate(
        decision, made, question.ask, question.at, who.pseudonym, resolved.experiments
    )
    served = None
    if slate.items and query.placement != UNLOGGED:
        served = record.served(slate, who.pseudonym)
    return Reply(made, decision, watch, slate, served)
