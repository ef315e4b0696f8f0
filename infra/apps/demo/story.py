"""One person: a list, a click, the list 20 ms later, with the reasons."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from typing import Final, NamedTuple

from rich.table import Table

from infra.client.answers import Item
from infra.client.client import Client
from infra.datasets.movielens import Dataset, Rating
from infra.terminal.text import table
from schemas.errors import FreshetError
from schemas.events import EventIn

SLATE_SIZE: Final = 10
READ_DELAY_SECONDS: Final = 0.02
CLICKED: Final = "▸"
NEW: Final = "+"
MIN_LIKES: Final = 10
"""Likes of the person whose lists are shown."""


class NoStory(FreshetError):
    """No click can be shown; the text says why."""


class Story(NamedTuple):
    """`later_ms`: from the click's first byte to the end of the second list."""

    user: str
    liked: tuple[str, ...]
    clicked: str
    before: list[Item]
    after: list[Item]
    later_ms: float

    @property
    def new(self) -> set[str]:
        return {it.item_id for it in self.after} - {it.item_id for it in self.before}


def choose_person(ratings: Sequence[Rating]) -> str:
    """The latest person with `MIN_LIKES` likes; the latest of all where none has so many."""
    likes: dict[str, int] = {}
    for rating in reversed(ratings):
        likes[rating.user_id] = likes.get(rating.user_id, 0) + (rating.action == "like")
        if likes[rating.user_id] == MIN_LIKES:
            return rating.user_id
    return ratings[-1].user_id


async def play(url: str, token: str, ratings: Sequence[Rating]) -> Story:
    """Reads a person's list, clicks its last film and reads again. Errors: `NoStory`, `ApiError`."""
    user = choose_person(ratings)
    liked = [it.item_id for it in ratings if it.user_id == user and it.action == "like"]
    async with Client(url, token, connections=1) as client:
        before = (await client.recommendations(user, count=SLATE_SIZE)).value.items
        if not before:
            raise NoStory("the person's list is empty, so there is nothing to click")
        clicked = before[-1].item_id
        event_id = f"story-{user}-{clicked}"
        event = EventIn(event_id=event_id, user_id=user, item_id=clicked, action="click")
        sent = await client.send_events([event])
        if not (positions := sent.value.positions):
            raise NoStory("the click waits in a spool, since the broker is unreachable")
        await asyncio.sleep(READ_DELAY_SECONDS)
        again = await client.recommendations(user, count=SLATE_SIZE, after=positions[0])
    later = (again.ended - sent.began) * 1000
    return Story(user, tuple(liked[-3:]), clicked, before, again.value.items, later)


def as_tables(story: Story, catalogue: Dataset) -> tuple[Table, Table]:
    """The list before the click and the list after it."""
    titles = {it.item_id: it.title or it.item_id for it in catalogue.items}

    def made(title: str, items: list[Item], marked: set[str], mark: str) -> Table:
        rows = [
            (
                rank,
                mark if it.item_id in marked else "",
                titles.get(it.item_id, it.item_id),
                it.reason.text if it.reason else "",
            )
            for rank, it in enumerate(items, 1)
        ]
        return table(title, ("#", " ", "film", "why"), rows)

    later = f"{story.later_ms:.0f} ms after the click"
    return (
        made("before", story.before, {story.clicked}, CLICKED),
        made(later, story.after, story.new, NEW),
    )


def words(story: Story, catalogue: Dataset) -> tuple[str, str]:
    """The sentences before the lists, and after them."""
    titles = {it.item_id: it.title or it.item_id for it in catalogue.items}
    liked = ", ".join(titles.get(it, it) for it in reversed(story.liked)) or "nothing yet"
    clicked = titles.get(story.clicked, story.clicked)
    before = f"Person {story.user} liked last: {liked}. Now they click {clicked} ({CLICKED})."
    because = sum(clicked in (it.reason.text if it.reason else "") for it in story.after)
    after = (
        f"{len(story.new)} of {len(story.after)} are new ({NEW}), {because} because of that click."
    )
    return before, after
