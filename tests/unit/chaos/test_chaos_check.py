"""What the chaos check holds for one event that is there twice, and what for two."""

from __future__ import annotations

import pytest
from msgspec.structs import replace

from schemas.alphabet import Pseudonym
from schemas.events import Action, Event, Listed, Merge, Preferences, Served
from tests.chaos.check import identity

WHO, OTHER = Pseudonym("1" * 32), Pseudonym("2" * 32)
ACTION = Action(
    event_id="e1",
    person=WHO,
    item_id="i1",
    category="",
    action="view",
    occurred_at=1,
    received_at=2,
)
PREFERENCES = Preferences(event_id="p1", person=WHO, received_at=2)
MERGE = Merge(person=WHO, source=1, offset=3, n=0, received_at=2)
SERVED = Served(slate_id="s1", person=WHO, placement="home", items=("i1",), received_at=2)
MARK = Listed(items=(1, 2), received_at=2)


@pytest.mark.parametrize("event", [ACTION, PREFERENCES, SERVED])
def test_an_event_that_was_sent_again_is_the_same_one(event: Action | Preferences | Served) -> None:
    assert identity(event) == identity(replace(event, received_at=9))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (MARK, replace(MARK, received_at=9)),
        (MARK, replace(MARK, items=(1, 3))),
        (ACTION, replace(ACTION, event_id="e2")),
        (ACTION, replace(ACTION, person=OTHER)),
        (ACTION, replace(ACTION, item_id="i2")),
        (MERGE, replace(MERGE, n=1)),
        (MERGE, replace(MERGE, offset=4)),
    ],
)
def test_a_mark_that_was_made_again_is_another_one(one: Event, other: Event) -> None:
    assert identity(one) != identity(other)


@pytest.mark.parametrize("event", [ACTION, PREFERENCES, SERVED, MERGE, MARK])
def test_the_same_record_twice_is_found(event: Event) -> None:
    assert len({identity(event), identity(replace(event))}) == 1
