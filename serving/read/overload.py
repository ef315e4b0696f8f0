"""What a read gets that is shed, since more is asked than can be done: the popular list, at once.

The list is that of ``/v1/popular``, at most `serving.state.list_cache.MAX_AGE_MS` old and cut to the query's
count, of its category where it names one. Of the query only what makes it invalid counts beside these:
what the person saw, `exclude`, `filter`, `cursor`, `after` and `explain` change nothing. Nothing is logged
of it, so it has no slate id, and experiments count it apart (`serving.state.shed`).
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import partial
from typing import Final

from infra.version import RELEASE
from schemas.events import Assigned
from serving.context import Serving
from serving.decide.case import Ask
from serving.decide.decide import decide
from serving.decide.person import EMPTY_PERSON
from serving.decide.results import Shown
from serving.http.errors import Problem
from serving.read.answer import Answer, ItemOut, ServedBy, items_out
from serving.read.query import MAX_COUNT, Query
from serving.read.resolve import assigned_to, for_row, identify, world
from serving.read.rows import Rows
from serving.world.placements import POPULAR_LIST

OVERLOAD: Final = "overload"
RETRY_SECONDS: Final = 1


class PopularList:
    """The first `MAX_COUNT` popular items, in every form that an answer takes."""

    def __init__(self, shown: list[Shown]) -> None:
        self.shown, self.items = shown, items_out(shown, full=False)

    def without(self, taken: set[str]) -> list[Shown]:
        """Those that are not in `taken`, item ids and groups, nor variants of a group there."""
        return [it for it in self.shown if taken.isdisjoint(_names(it))]


def shed(context: Serving, query: Query) -> Answer:
    """The answer to a recommendation that is shed, counted.

    Errors: `Rejected`, as the query would get it; `Problem` 503 where there is no popular list.
    """
    experiments = _experiments(context, query)
    answer = _personal(context, query, _popular(context, query).items)
    context.shed.count(query.placement, experiments)
    return answer


def shed_page(context: Serving, rows: Rows) -> list[Answer]:
    """The answers to the rows of a page that is shed, each as `shed`'s. With `distinct` no item is in two of
    them; a row may then be short. Errors: as `shed`, with the path of the row's field."""
    experiments = [for_row(rows, n, _experiments, context, row) for n, row in enumerate(rows.rows)]
    answers: list[Answer] = []
    taken: set[str] = set()
    for query in rows.rows:
        popular = _popular(context, query)
        if rows.distinct:
            rest = popular.without(taken)[: query.count]
            taken.update(*map(_names, rest))
            popular = PopularList(rest)
        answers.append(_personal(context, query, popular.items))
    for query, assigned in zip(rows.rows, experiments, strict=True):
        context.shed.count(query.placement, assigned)
    return answers


def shed_similar(context: Serving, query: Query) -> Answer:
    """The answer to a request for similar items that is shed. Errors: `Problem` 503 as `shed`."""
    answer = _answer(context, query, "similar", _popular(context, query).items)
    context.shed.count("similar", ())
    return answer


def _experiments(context: Serving, query: Query) -> tuple[Assigned, ...]:
    """The experiments that the person is in by the id that the query names: one who was a guest first may get
    another variant once they are read. Errors: `Rejected`."""
    identity = identify(context, query)
    assignment, _ = assigned_to(context, query, identity.pseudonym)
    return assignment.experiments


def _popular(context: Serving, query: Query) -> PopularList:
    """The list, of the query's category. Errors: `Problem` 503 where it is empty."""
    make = partial(_most_popular, context, query.category)
    popular = context.lists.get((OVERLOAD, query.category), make)
    if not popular.items:
        raise Problem(
            503,
            "overloaded",
            "More is asked than can be answered, and there is no popular list: ask again after Retry-After.",
            headers={"Retry-After": str(RETRY_SECONDS)},
        )
    return popular


def _most_popular(context: Serving, category: str | None) -> PopularList:
    ask = Ask(
        now=context.clock(),
        count=MAX_COUNT,
        category=category,
        window=Query().window,
        seed=0,
        placement="popular",
    )
    return PopularList(decide(EMPTY_PERSON, world(context, POPULAR_LIST, ""), ask).items)


def _personal(context: Serving, query: Query, items: list[ItemOut]) -> Answer:
    answer = _answer(context, query, query.placement, items)
    answer.user_id = query.user_id
    if query.anonymous_id is not None:
        answer.anonymous_id = query.anonymous_id
    return answer


def _answer(context: Serving, query: Query, placement: str, items: list[ItemOut]) -> Answer:
    return Answer(
        slate_id=None,
        placement=placement,
        items=items[: query.count],
        next_cursor=None,
        exhausted=True,
        fallback=OVERLOAD,
        rules_relaxed=(),
        freshness=None,
        served_by=ServedBy(
            release=RELEASE,
            index=context.index.version,
            tables=context.tables.version,
            rules=POPULAR_LIST.rules,
        ),
        took_ms=0.0,
    )


def _names(item: Shown) -> Iterable[str]:
    """Its id, and its group, each with a prefix that keeps the two apart."""
    return (f"i{item.item_id}", f"g{item.group}") if item.group else (f"i{item.item_id}",)
