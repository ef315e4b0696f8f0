"""Slates among the traffic, and what must have come of them after whatever faults."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any, Final

import msgspec
import numpy as np

from models import account as accounts
from models import impressions
from models.arms import ARM_KEY
from models.tables import Tables
from schemas import event as events
from schemas import keys
from schemas.event import Served
from schemas.facts import STATES
from schemas.identity import category_hash, item_hash
from tests.laws import reference
from tests.laws.world import assigned, served

ITEMS: Final = 5
OUTCOMES: Final = ("display", "click", "click", "purchase", "view")
EXPERIMENTS: Final = ("x", "y")
KINDS: Final = ("slates", "impressions", "arms", "experiments")


def with_slates(made: Sequence[events.Action], rnd: random.Random) -> list[events.Event]:
    """The same actions; before some a slate is served, and some come of one: of an old one that is
    forgotten, too, of an item that it did not hold, or of one that nobody served."""
    told: list[events.Event] = []
    shown: dict[str, list[Served]] = {}
    for n, act in enumerate(made):
        mine = shown.setdefault(act.person, [])
        if rnd.random() < 0.15:
            mine.append(_slate(n, act, rnd))
            told.append(mine[-1])
        if mine and rnd.random() < 0.6:
            slate = mine[-min(int(rnd.paretovariate(0.7)), len(mine))]
            act = msgspec.structs.replace(
                act,
                action=rnd.choice(OUTCOMES),
                item_id=rnd.choice([*slate.items, *slate.items, "elsewhere"]),
                slate_id=slate.slate_id if rnd.random() < 0.95 else f"forged-{n}",
            )
        told.append(act)
    return told


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


class Expected:
    """What came of every slate, by the slow definitions."""

    def __init__(self) -> None:
        self._people: list[reference.Came] = []

    def compare(
        self, client: Any, p: int, log: Iterable[tuple[int, events.Event]], counts: Counter[str]
    ) -> None:
        """Adds a partition's log, and counts what its people's keys have wrong."""
        told = reference.by_viewer(log)
        for kind, of in (("slates", b"o:"), ("impressions", b"im:")):
            held = {key[-32:].decode() for key in client.scan_iter(match=of + b"{%d}:*" % p)}
            served_ = {who for who, mine in told.items() if any(_is_slate(e) for _, e in mine)}
            counts[kind] += len(held ^ (set(told) if kind == "slates" else served_))
        for who, mine in told.items():
            came = reference.Came(mine)
            self._people.append(came)
            account, shown = client.mget([keys.open_slates(p, who), keys.impressions(p, who)])
            counts["slates"] += not _same_account(accounts.decode(account), came, len(mine))
            plain = impressions.reference(
                (e.received_at // 1000, [item_hash(item) for item in dict.fromkeys(e.items)])
                for _, e in mine
                if isinstance(e, Served)
            )
            counts["impressions"] += impressions.value(impressions.read(shown)) != plain

    def compare_tables(self, tables: Tables, counts: Counter[str]) -> None:
        arms: dict[tuple[int, int], Counter[int]] = {}
        explored: Counter[tuple[int, int]] = Counter()
        for came in self._people:
            for _, placement, item, state, drawn, _ in came.arms:
                arms.setdefault((placement, item), Counter())[state] += 1  # type: ignore[index,arg-type]
                explored[placement, item] += bool(drawn and state == 0)  # type: ignore[index]
        counts["arms"] += abs(len(tables.arms) - len(arms))
        for key, states in arms.items():
            arm = tables.arms.get(np.array([key], ARM_KEY).tobytes())
            counts["arms"] += list(arm[:5]) != [
                *(states[state] for state in range(len(STATES))), explored[key]
            ]  # fmt: skip
            counts["arms"] += not np.isclose(arm.mean, states[2] / states[0], rtol=1e-9)
        for at, name in enumerate(EXPERIMENTS):
            held = {int(row["variant"]): row for row in tables.moments.of(name, 1 + at)}
            plain = self._units(name, 1 + at)
            counts["experiments"] += len(set(held) ^ set(plain))
            for variant, rows in plain.items():
                counted = np.array(rows, np.int64)
                row = held[variant]
                counts["experiments"] += row["units"] != len(rows)
                counts["experiments"] += (row["sums"] != counted.sum(0)).any()
                counts["experiments"] += (row["squares"] != counted.T @ counted).any()

    def _units(self, experiment: str, version: int) -> dict[int, list[list[int]]]:
        """The counts of every unit, by variant."""
        found: dict[int, list[list[int]]] = {}
        for came in self._people:
            if unit := came.units.get((category_hash(experiment), version)):
                found.setdefault(unit[0], []).append(unit[1])
        return found


def _is_slate(event: events.Event) -> bool:
    return isinstance(event, Served)


def _same_account(account: accounts.Account, came: reference.Came, records: int) -> bool:
    slates = came.open(records)
    states = [
        [
            sum(1 << state for state in came.states[s.slate_id, item])
            for item in dict.fromkeys(s.items)
        ]
        for s in slates
    ]
    units = {(u.experiment, u.version): (u.variant, list(u.counts)) for u in account.units}
    return (
        [slate.at for slate in account.slates] == [slate.received_at for slate in slates]
        and [list(slate.states) for slate in account.slates] == states
        and units == came.units
        and [len(w.outcomes) for w in account.waiting] == [len(held) for _, held in came.waiting]
    )
