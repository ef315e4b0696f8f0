"""Lists that are the same for every person: items similar to one, and popular items."""

from __future__ import annotations

from typing import Final

from schemas.control import Recipe
from serving.context import Serving
from serving.decide.case import Ask, World
from serving.decide.decide import decide
from serving.decide.person import EMPTY_PERSON
from serving.decide.results import Decision
from serving.read import record
from serving.read.answer import Freshness
from serving.read.query import Query
from serving.read.reply import Question, Reply, draw_seed, log_slate, make_answer, without_model
from serving.read.resolve import world as world_of
from serving.read.watch import Stopwatch
from serving.world.placements import POPULAR_LIST, PlacedRecipe


def _like(*sources: str) -> Recipe:
    weights = dict(zip(sources, (1.0, 0.5), strict=True))
    return Recipe(weights=weights, ranker=False, category_cap=1.0, owner_cap=1.0)


SIMILAR: Final = PlacedRecipe(_like("covisit", "content"), "similar1")
SIMILAR_IN_SPACE: Final = PlacedRecipe(_like("covisit", "vector"), "similar2")


def similar(context: Serving, item_id: str, query: Query) -> Reply:
    """Items similar to `item_id`; popular ones where it is unknown or has none."""
    watch = Stopwatch(context.timer)
    world = world_of(context, SIMILAR, context.control.current)
    if world.space is not None:
        world = world_of(context, SIMILAR_IN_SPACE, context.control.current)
    question = _question(context, query, "similar", item_id=item_id)
    decision = decide(EMPTY_PERSON, world, question.ask, "reason", watch)
    if decision.fallback != "popular":
        # an item that neither source brought scores 0: it is not similar
        similar_items = [item for item in decision.items if item.score > 0]
        exhausted = decision.exhausted or len(similar_items) < len(decision.items)
        decision = decision._replace(items=similar_items, exhausted=exhausted)
    if context.control.current and world.space is None:
        decision = without_model(decision)
    return _reply(context, query, question, decision, world, watch)


def popular(context: Serving, query: Query) -> Reply:
    """The most popular items of the catalogue, by the query's window."""
    watch = Stopwatch(context.timer)
    world = world_of(context, POPULAR_LIST, "")
    question = _question(context, query, "popular", window=query.window)
    decision = decide(EMPTY_PERSON, world, question.ask, "reason", watch)._replace(fallback=None)
    return _reply(context, query, question, decision, world, watch)


def _question(
    context: Serving,
    query: Query,
    placement: str,
    *,
    item_id: str | None = None,
    window: str | None = None,
) -> Question:
    now = context.clock()
    draw = draw_seed(now, context.random_bytes)
    ask = Ask(
        now=now if query.now is None else query.now,
        count=query.count,
        category=query.category,
        item_id=item_id,
        exclude=query.exclude,
        served=query.cursor,
        window=window,
        seed=draw.seed,
        placement=placement,
    )
    return Question(ask, draw.slate_id, now)


def _reply(
    context: Serving,
    query: Query,
    question: Question,
    decision: Decision,
    world: World,
    watch: Stopwatch,
) -> Reply:
    """The reply, which is the same for every person; its slate is logged."""
    answer = make_answer(question, decision, world, Freshness(), watch)
    slate = record.slate(decision, answer, question.slate_id, question.ask, question.at)
    reply = Reply(answer, decision, watch, slate)
    log_slate(context, reply, query)
    return reply
