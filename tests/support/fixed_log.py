"""The log that tests/golden/folds.json was made of. It never changes: a new kind of record goes into a
function of its own, and another line of the table in test_versions.py."""

from __future__ import annotations

from typing import Any

import msgspec

from schemas import events
from schemas.actions import ACTIONS
from schemas.alphabet import Pseudonym
from schemas.control import Change
from schemas.events import Action, Assigned, Link, Preferences, Served
from schemas.items import DeleteItem, Item, PatchItem, PutItem

START = 1_700_000_000_000
PEOPLE, ITEMS = 9, 70


def pick(i: int, salt: int, n: int) -> int:
    """One of 0..n-1, the same on every machine and version of Python."""
    return ((i * 7919 + salt * 104_729 + 1) * 2_654_435_761 % 2**32) // 4096 % n


def person(n: int) -> Pseudonym:
    return Pseudonym(f"{n + 1:032x}")


def event(i: int) -> events.Event:
    """Number i: times jump back, categories change, links and slates come between."""
    at = START + i * 61_000 + (pick(i, 1, 3) == 0) * 1_800_001
    who, kind = person(pick(i, 2, PEOPLE)), pick(i, 3, 20)
    if kind == 0:
        to = person(pick(i, 4, PEOPLE))
        return Link(event_id=f"l{i}", person=who, to=to, received_at=at)
    if kind == 1:
        hidden = (f"i{pick(i, 5, ITEMS)}",)
        return Preferences(event_id=f"p{i}", person=who, received_at=at, hidden_items=hidden)
    if kind < 5:
        return _served(i, who, at)
    back = (0, 0, 0, 0, 5_000, 86_400_000, 9 * 86_400_000)[pick(i, 6, 7)]
    item = pick(i, 7, ITEMS)
    return Action(
        event_id=f"e{i - (pick(i, 8, 17) == 0)}",
        person=who,
        item_id=f"i{item}",
        action=ACTIONS[pick(i, 9, len(ACTIONS))].name,
        occurred_at=at - back,
        received_at=at,
        category=f"c{item % 5}" if pick(i, 10, 9) else "",
        known=pick(i, 11, 8) > 0,
        session_id=("", "a", "b")[pick(i // 30, 12, 3)],
        slate_id=f"s{max(0, i - pick(i, 13, 25))}",
    )


def _served(i: int, who: Pseudonym, at: int) -> Served:
    items = tuple(f"i{pick(i, 20 + n, ITEMS)}" for n in range(6))
    assigned = (Assigned("first", 1, "ab"[pick(i, 30, 2)]), Assigned("second", 2, "c"))
    return Served(
        person=who,
        slate_id=f"s{i}",
        placement=("home", "item")[pick(i, 31, 2)],
        received_at=at,
        items=items,
        explored=pick(i, 32, 7),
        experiments=assigned[: pick(i, 33, 3)],
    )


def item_changes() -> list[Any]:
    made: list[Any] = []
    for i in range(60):
        name = f"i{pick(i, 40, 15)}"
        kind = pick(i, 41, 5)
        if kind == 0:
            made.append(DeleteItem(item_id=name, received_at=START + i))
        elif kind == 1:
            fields = {"title": msgspec.Raw(b'"a title"'), "available": msgspec.Raw(b"false")}
            made.append(PatchItem(item_id=name, fields=fields, received_at=START + i))
        elif kind == 2:
            fields = {"categories": msgspec.Raw(b'["c1","c2"]'), "text": msgspec.Raw(b"7")}
            made.append(PatchItem(item_id=name, fields=fields, received_at=START + i))
        else:
            item = Item(
                item_id=name, title=f"t{i}", categories=("c1",), category="c1", published_at=START
            )
            made.append(PutItem(item=item, received_at=START + i))
    return made


def control_changes() -> list[Change]:
    halves = '[{"name":"a","share":0.5},{"name":"b","share":0.5}]'
    said = [
        ("placement", "shelf", 0, '{"weights":{"popular":1}}'),
        ("placement", "shelf", 0, '{"weights":{"popular":2}}'),
        ("placement", "shelf", 1, '{"category_cap":0.5,"filters":{"new":{"tags":["x"]}}}'),
        ("experiment", "one", 0, f'{{"placement":"home","variants":{halves}}}'),
        ("experiment", "two", 0, f'{{"placement":"home","variants":{halves}}}'),
        ("release", "2026-11-23.1", 0, f'{{"manifest_sha256":"{"0" * 64}"}}'),
        ("policy", "release", 0, '{"release":"2026-11-23.1"}'),
        ("policy", "release", 0, '{"release":"2026-11-23.2"}'),
    ]
    return [
        Change(
            subject=subject,  # type: ignore[arg-type]
            id=name,
            expected_version=version,
            body=msgspec.Raw(body.encode()),
            received_at=START + n,
            actor="somebody",
        )
        for n, (subject, name, version, body) in enumerate(said)
    ]
