"""One recommendation, and a page of several: read > queue > assign > decide > answer > log.

`decide` goes on to retrieve > eligible > score > rank > arrange > explain.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Final

from serving.context import Serving
from serving.decide.case import Ask
from serving.decide.decide import decide
from serving.decide.results import Decision, Shown
from serving.edge.identity import Identity
from serving.read import record
from serving.read.answer import AssignedOut, freshness
from serving.read.query import Query
from serving.read.reply import Question, Reply, draw_seed, log_slate, make_answer, without_model
from serving.read.resolve import (
    PersonRead,
    Resolved,
    assign,
    identify,
    read_person,
    resolve_page,
)
from serving.read.rows import Rows
from serving.read.watch import Stopwatch

STORE_DOWN: Final = "store_down"
UNLOGGED: Final = "replay"
"""A placement that replays history: it shows nothing to people, so its slates are not logged as served."""


async def recommend(context: Serving, query: Query) -> Reply:
    """The reply to one query, logged. Errors: `Rejected`."""
    watch = Stopwatch(context.timer)
    identity = identify(context, query)
    person_read = await read_person(context, query, identity)
    watch("read")
    return await context.queue.run(partial(answered, context, query, identity, person_read, watch))


def answered(
    context: Serving, query: Query, identity: Identity, person_read: PersonRead, watch: Stopwatch
) -> Reply:
    """The reply to one query once its person is there and it is its turn, logged. Errors: `Rejected`."""
    watch("queue")
    resolved = assign(context, query, identity, person_read)
    watch("assign")
    reply = decided(context, resolved, watch)
    log_slate(context, reply, query)
    return reply


def decided(
    context: Serving, resolved: Resolved, watch: Stopwatch, shown: Sequence[Shown] = ()
) -> Reply:
    """The reply to a resolved query, not logged yet. `shown`: the items that the page shows already."""
    question = make_question(context, resolved, shown)
    decision = decide(
        resolved.person_read.person, resolved.world, question.ask, resolved.query.explain, watch
    )
    return make_reply(context, resolved, question, with_fallback(decision, resolved), watch)


async def page(context: Serving, rows: Rows) -> list[Reply]:
    """The replies to the rows of a page, in their order. With `distinct` no item is in two of them, nor are
    two variants of a group.

    Errors: `Rejected`, with the path of the row's field.
    """
    watch = Stopwatch(context.timer)
    replies: list[Reply] = []
    shown: list[Shown] = []
    with context.queue.reserved(len(rows.rows)) as release:
        for resolved in await resolve_page(context, rows, watch):
            release()
            # each row queues by itself, so that other requests come in between
            reply = await context.queue.run(partial(_row, context, resolved, watch, shown))
            replies.append(reply)
            if rows.distinct:
                shown += reply.decision.items
            watch = Stopwatch(context.timer)
    # only now: a page that is cancelled half-way was not served
    for reply, query in zip(replies, rows.rows, strict=True):
        log_slate(context, reply, query)
    return replies


def _row(context: Serving, resolved: Resolved, watch: Stopwatch, shown: Sequence[Shown]) -> Reply:
    watch("queue")
    return decided(context, resolved, watch, shown)


def make_question(context: Serving, resolved: Resolved, shown: Sequence[Shown] = ()) -> Question:
    """The question for the decision. `shown`: the items that the page shows already."""
    query, at = resolved.query, context.clock()
    draw = draw_seed(at, context.random_bytes)
    ask = Ask(
        now=at if query.now is None else query.now,
        count=query.count,
        category=query.category,
        item_id=query.item_id,
        exclude=query.exclude + tuple([item.item_id for item in shown]),
        served=query.cursor,
        personalized=query.personalized,
        seed=draw.seed,
        filter=resolved.filter,
        placement=query.placement,
        groups=tuple([item.group for item in shown if item.group]),
    )
    return Question(ask, draw.slate_id, at)


def with_fallback(decision: Decision, resolved: Resolved) -> Decision:
    """The decision, with a `fallback` where the store was away or the release is not loaded."""
    if resolved.person_read.down:
        return decision._replace(fallback=STORE_DOWN)
    return without_model(decision) if resolved.release_missing else decision


def make_reply(
    context: Serving, resolved: Resolved, question: Question, decision: Decision, watch: Stopwatch
) -> Reply:
    """The reply to the person: the answer, how fresh it is, and its records for the log."""
    query, identity, person_read = resolved.query, resolved.identity, resolved.person_read
    person = person_read.person
    stale = person_read.stale or person.cold
    stale = stale or context.lag.is_late(identity.partition, person.fence)
    fresh = freshness(person, identity.partition, person_read.waited_ms, stale)
    full = query.explain == "full"
    answer = make_answer(question, decision, resolved.world, fresh, watch, full=full)
    answer.user_id = query.user_id
    if query.anonymous_id is not None:
        answer.anonymous_id = query.anonymous_id
    answer.served_by.experiments = tuple(
        [AssignedOut(each.experiment, each.version, each.variant) for each in resolved.experiments]
    )
    slate = record.slate(
        decision,
        answer,
        question.slate_id,
        question.ask,
        question.at,
        identity.pseudonym,
        resolved.experiments,
        query.session_id,
    )
    served = None
    if slate.items and query.placement != UNLOGGED:
        served = record.served(slate, identity.pseudonym)
    return Reply(answer, decision, watch, slate, served)
