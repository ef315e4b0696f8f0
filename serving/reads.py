"""From a checked query to an answer: assign > read > decide > log."""

from __future__ import annotations

import os
import time
from importlib.metadata import PackageNotFoundError, version
from typing import Final, NamedTuple

from schemas.alphabet import Millis, Pseudonym
from schemas.control import Recipe
from schemas.reject import Rejected
from schemas.slate import Slate, SlateItem
from serving import cursor
from serving import people as identities
from serving.answer import Answer, Freshness, ServedBy, freshness, items_out
from serving.case import Ask, World
from serving.control import Placed
from serving.person import NOBODY, StoreDown, Waited
from serving.query import Query
from serving.recommend import Decision, Explain, decide
from serving.state import Serving
from serving.ulid import ulid

STORE_DOWN: Final = "store_down"
_LIKE: Final = Recipe(weights={"covisit": 1.0, "content": 0.5}, category_cap=1.0)
SIMILAR: Final = Placed(_LIKE, "similar1")
POPULAR: Final = Placed(Recipe(weights={"popular": 1.0}, category_cap=1.0), "popular1")


def _release() -> str:
    try:
        return version("freshet")
    except PackageNotFoundError:  # run from its folder
        return "source"


RELEASE: Final = _release()
"""``served_by.release``: the version of this code."""


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

    @property
    def header(self) -> str:
        """As ``Server-Timing`` has it."""
        return ", ".join([f"{stage};dur={spent:.3f}" for stage, spent in self.spent.items()])


class Served(NamedTuple):
    """An answer, the record of it for the log, and the headers it goes with."""

    answer: Answer
    slate: Slate
    watch: Watch


async def recommend(serving: Serving, query: Query) -> Served:
    """Errors: `Rejected`."""
    watch = Watch()
    placed = serving.control.placed(query.placement)
    if placed is None:
        raise Rejected("placement", "unknown_placement")
    who = _who(serving, query)
    watch("assign")
    read, down = await _read(serving, query, who)
    now = serving.clock()
    watch("read")
    ask = Ask(
        now=now if query.now is None else query.now,
        count=query.count,
        category=query.category,
        item_id=query.item_id,
        exclude=query.exclude,
        served=query.cursor,
        personalized=query.personalized,
    )
    world = _world(serving, placed)
    explain: Explain = query.explain  # type: ignore[assignment]  # one of these, `query` saw to it
    decision = decide(read.person, world, ask, explain, watch)
    if down:
        decision = decision._replace(fallback=STORE_DOWN)
    fresh = freshness(read.person, who.partition, read.waited_ms, read.stale)
    answer = _answer(decision, world, ask, query.placement, fresh, now, watch)
    answer.user_id = query.user_id
    if query.anonymous_id is not None:
        answer.anonymous_id = query.anonymous_id
    return Served(answer, _slate(decision, answer, ask, now, who.pseudonym), watch)


def similar(serving: Serving, item_id: str, query: Query) -> Served:
    """What goes with an item; the popular where it is unknown or nothing does."""
    watch, now = Watch(), serving.clock()
    world = _world(serving, SIMILAR)
    ask = Ask(
        now=now if query.now is None else query.now,
        count=query.count,
        item_id=item_id,
        exclude=query.exclude,
        served=query.cursor,
    )
    decision = decide(NOBODY, world, ask, "reason", watch)
    if decision.fallback != "popular":
        # what neither source brought scores nothing, and is no answer to this question
        like = [item for item in decision.items if item.score > 0]
        ended = decision.exhausted or len(like) < len(decision.items)
        decision = decision._replace(items=like, exhausted=ended)
    answer = _answer(decision, world, ask, "similar", Freshness(), now, watch)
    return Served(answer, _slate(decision, answer, ask, now, None), watch)


def popular(serving: Serving, query: Query) -> Served:
    watch, now = Watch(), serving.clock()
    world = _world(serving, POPULAR)
    ask = Ask(
        now=now if query.now is None else query.now,
        count=query.count,
        category=query.category,
        served=query.cursor,
        window=query.window,
    )
    decision = decide(NOBODY, world, ask, "reason", watch)._replace(fallback=None)
    answer = _answer(decision, world, ask, "popular", Freshness(), now, watch)
    return Served(answer, _slate(decision, answer, ask, now, None), watch)


def _who(serving: Serving, query: Query) -> identities.Person:
    if query.user_id is not None:
        who = serving.people.user(query.user_id)
    else:
        who = serving.people.anonymous(query.anonymous_id or "")
    if query.after is not None and query.after.partition != who.partition:
        raise Rejected("after", "wrong_partition")
    return who


async def _read(serving: Serving, query: Query, who: identities.Person) -> tuple[Waited, bool]:
    """What is known of the person, and whether the store failed to say."""
    try:
        if query.after is not None:
            return await serving.reader.read_after(
                who.pseudonym, query.after, query.max_wait_ms
            ), False
        return Waited(await serving.reader.read(who.pseudonym, who.partition), 0, False), False
    except StoreDown:
        return Waited(NOBODY, 0, query.after is not None), True


def _world(serving: Serving, placed: Placed) -> World:
    return World(serving.catalogue, serving.tables, serving.index, placed.recipe, placed.rules)


def _answer(
    decision: Decision,
    world: World,
    ask: Ask,
    placement: str,
    fresh: Freshness,
    now: Millis,
    watch: Watch,
) -> Answer:
    after = None
    if not decision.exhausted:
        after = cursor.encode(ask.served, [item.item_id for item in decision.items])
    answer = Answer(
        slate_id=ulid(now, os.urandom(10)),
        placement=placement,
        items=items_out(decision.items),
        next_cursor=after,
        exhausted=after is None,
        fallback=decision.fallback,
        rules_relaxed=decision.relaxed,
        freshness=fresh,
        served_by=ServedBy(
            release=RELEASE,
            index=world.index.version,
            tables=world.tables.version,
            rules=world.rules,
        ),
        took_ms=0.0,
    )
    watch("answer")
    answer.took_ms = round(watch.took_ms, 3)
    return answer


def _slate(
    decision: Decision, answer: Answer, ask: Ask, at: Millis, person: Pseudonym | None
) -> Slate:
    items = [
        SlateItem(
            item_id=item.item_id,
            rank=rank,
            score=item.score,
            category=item.category,
            sources=item.sources,
            reason=item.reason.code if item.reason else "",
            because=item.reason.item_ids if item.reason else (),
        )
        for rank, item in enumerate(decision.items, 1)
    ]
    served_by = answer.served_by
    return Slate(
        slate_id=answer.slate_id,
        served_at=at,
        placement=answer.placement,
        person=person,
        items=tuple(items),
        fallback=answer.fallback,
        rules_relaxed=answer.rules_relaxed,
        position=(answer.freshness.position if answer.freshness else None) or "",
        tables=served_by.tables,
        index=served_by.index,
        rules=served_by.rules,
        release=served_by.release,
        now=ask.now,
    )
