"""Slates among the traffic, and their outcomes."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Final

import msgspec

from schemas import events
from schemas.events import Served
from tests.laws.world import assigned, served

ITEMS: Final = 5
OUTCOMES: Final = ("display", "click", "click", "purchase", "view")
EXPERIMENTS: Final = ("x", "y")


def with_slates(made: Sequence[events.Action], rnd: random.Random) -> list[events.Event]:
    """The same actions; before some a slate is served, and some come of one: of an old one that is
    forgotten, too, of an item that it did not hold, or of one that was never served."""
    mixed: list[events.Event] = []
    shown: dict[str, list[Served]] = {}
    for n, act in enumerate(made):
        mine = shown.setdefault(act.person, [])
        if rnd.random() < 0.15:
            mine.append(_slate(n, act, rnd))
            mixed.append(mine[-1])
        if mine and rnd.random() < 0.6:
            slate = mine[-min(int(rnd.paretovariate(0.7)), len(mine))]
            act = msgspec.structs.replace(
                act,
                action=rnd.choice(OUTCOMES),
                item_id=rnd.choice([*slate.items, *slate.items, "elsewhere"]),
                slate_id=slate.slate_id if rnd.random() < 0.95 else f"forged-{n}",
            )
        mixed.append(act)
    return mixed


def _slate(n: int, act: events.Action, rnd: random.Random) -> Served:
    group = int(act.person, 16) % 3
    experiments = [assigned(name, "ab"[group % 2], 1 + at) for at, name in enumerate(EXPERIMENTS)]
    items = [f"i{min(int(rnd.paretovariate(0.6)), 800)}" for _ in range(ITEMS)]
    return msgspec.structs.replace(
        served(f"slate-{n}", items, at=act.received_at, placement=rnd.choice(["home", "popular"])),
        person=act.person,
        explored=rnd.randrange(ITEMS + 1),
        experiments=tuple(experiments[:group]),
    )
