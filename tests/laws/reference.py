"""The slow definitions over a whole log: what any run, with whatever faults, must have ended in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import xxhash

from models.covisit import HALF_LIFE
from models.features.plain import Event
from models.features.ring import CAP, DAY_MS, reference_before
from models.features.window import reference_partners
from models.outcomes import SLATES, STATE, WAITING, WINDOW_MS
from models.popularity import GAIN, HALF_LIVES
from schemas import event as events
from schemas.actions import ACTIONS, CODE
from schemas.event import Action, Served
from schemas.identity import category_hash, item_hash

LATE_MS = 7 * 86_400_000


def session_hash(session: str) -> int:
    return xxhash.xxh3_64_intdigest(session.encode()) if session else 0


def by_person(log: Iterable[tuple[int, events.Event]]) -> dict[str, list[Event]]:
    """(offset, event) of one partition in order -> each person's actions, duplicates dropped."""
    seen: set[tuple[str, str]] = set()
    told: dict[str, list[Event]] = {}
    for offset, e in log:
        if not isinstance(e, events.Action) or (e.person, e.event_id) in seen:
            continue
        seen.add((e.person, e.event_id))
        told.setdefault(e.person, []).append(
            Event(
                offset,
                item_hash(e.item_id),
                category_hash(e.category),
                e.occurred_at,
                CODE[e.action],
                session_hash(e.session_id),
                e.known,
                e.received_at - e.occurred_at > LATE_MS,
            )
        )
    return told


def facts(told: Sequence[Event]) -> list[tuple[Event, list[tuple[int, int]]]]:
    """Of one person: the actions that count in sums, each with its partners and their lags."""
    lists, partners = reference_before(told), reference_partners(told)
    place = {e.offset: n for n, e in enumerate(e for e in told if e.recent)}
    counted = []
    for e in told:
        n = place.get(e.offset)
        held = lists[n] if n is not None else []
        repeats = sum(k[1] == e.item and k[0] // DAY_MS == e.time // DAY_MS for k in held)
        if e.known and repeats < CAP:
            counted.append((e, partners[n] if n is not None else []))
    return counted


def seen(told: Sequence[Event]) -> list[int]:
    """What is appended to the seen set: an item that does not stand in the list just then."""
    lists = iter(reference_before(told))
    return [
        e.item
        for e in told
        if ACTIONS[e.action].recent
        and not (e.recent and any(key[1] == e.item for key in next(lists)))
    ]


def hidden(told: Sequence[Event]) -> set[int]:
    return {e.item for e in told if e.action == CODE["hide"]}


@dataclass
class Sums:
    """Plain sums at time `now` (s): popularity by (item, window), pairs by (item, item)."""

    now: float
    popularity: dict[tuple[int, int], float] = field(default_factory=dict)
    pairs: dict[tuple[int, int], float] = field(default_factory=dict)

    def add(self, told: Sequence[Event]) -> None:
        for e, partners in facts(told):
            age = self.now - e.time // 1000
            for window, half_life in enumerate(HALF_LIVES.values()):
                key = (e.item, window)
                term = GAIN[e.action] * 2 ** (-age / half_life)
                self.popularity[key] = self.popularity.get(key, 0.0) + term
            for partner, lag in partners:
                for pair in ((e.item, partner), (partner, e.item)):
                    term = lag**-0.5 * 2 ** (-age / HALF_LIFE)
                    self.pairs[pair] = self.pairs.get(pair, 0.0) + term


Row = tuple[object, ...]


def by_viewer(
    log: Iterable[tuple[int, events.Event]],
) -> dict[str, list[tuple[int, Served | Action]]]:
    """(offset, event) of one partition in order -> each person's slates and outcomes, no duplicates."""
    seen: set[tuple[str, str]] = set()
    told: dict[str, list[tuple[int, Served | Action]]] = {}
    for offset, e in log:
        if not isinstance(e, Served | Action) or (e.person, e.event_id) in seen:
            continue
        seen.add((e.person, e.event_id))
        if isinstance(e, Served) or (e.slate_id and e.action in STATE):
            told.setdefault(e.person, []).append((offset, e))
    return told


class Came:
    """What came of one person's slates, by looking at the whole log again for every record.

    `arms` and `moments` are facts as `world.Memory` tells them; `states`: (slate, item) -> the states
    it came into; `units`: (experiment, version) -> variant and counts.
    """

    def __init__(self, told: Sequence[tuple[int, Served | Action]]) -> None:
        self._told = told
        self.arms: list[Row] = []
        self.moments: list[Row] = []
        self.states: dict[tuple[str, str], set[int]] = {}
        self.units: dict[tuple[int, int], tuple[int, list[int]]] = {}
        self.lost = 0
        """Outcomes that count for nothing, but for repetitions."""
        self.waiting: list[tuple[str, list[tuple[str, int, int]]]] = []
        for n, (offset, e) in enumerate(told):
            if isinstance(e, Served):
                self._serve(n, offset, e)
            else:
                self._act(n, offset, e)

    def open(self, n: int) -> list[Served]:
        """The slates that are open once the first `n` records are in, by time and hash of their id."""
        slates = [e for _, e in self._told[:n] if isinstance(e, Served)]
        slates.sort(key=lambda s: (s.received_at, session_hash(s.slate_id)))
        newest = max((s.received_at for s in slates), default=0)
        return [s for s in slates[-SLATES:] if newest - s.received_at <= WINDOW_MS]

    def _serve(self, n: int, offset: int, slate: Served) -> None:
        for item in slate.items:
            self.states[slate.slate_id, item] = set()
        for each in slate.experiments:
            key = (category_hash(each.experiment), each.version)
            self.units.setdefault(key, (category_hash(each.variant), [0] * 4))
        marks = [(item, 0, slate.received_at) for item in dict.fromkeys(slate.items)]
        marks += [mark for name, held in self.waiting if name == slate.slate_id for mark in held]
        self.waiting = [group for group in self.waiting if group[0] != slate.slate_id]
        self._mark(offset, slate, marks)
        self._forget(n)

    def _act(self, n: int, offset: int, e: Action) -> None:
        mark = (e.item_id, STATE[e.action], e.received_at)
        for slate in self.open(n):
            if slate.slate_id == e.slate_id:
                return self._mark(offset, slate, [mark])
        held = dict(self.waiting).get(e.slate_id)
        if held is None:
            self.waiting.append((e.slate_id, held := []))
        same = [m for m in held if m[:2] == mark[:2]]
        if same:
            held[held.index(same[0])] = min(same[0], mark)
        elif len(held) < WAITING:
            held.append(mark)
        else:
            self.lost += 1
        return self._forget(n)

    def _mark(self, offset: int, slate: Served, marks: list[tuple[str, int, int]]) -> None:
        gained = [0] * 4
        for item, state, at in marks:
            states = self.states.get((slate.slate_id, item))
            if states is None or at - slate.received_at > WINDOW_MS:
                self.lost += 1
            elif state not in states:
                states.add(state)
                gained[state] += 1
                drawn = slate.items[slate.explored - 1 : slate.explored] if slate.explored else ()
                explored = int(item in drawn)
                placement, reward = category_hash(slate.placement), float(state == 2)
                self.arms.append((offset, placement, item_hash(item), state, explored, reward))
        for key in dict.fromkeys(
            (category_hash(x.experiment), x.version) for x in slate.experiments
        ):
            variant, counts = self.units[key]
            after = [a + b for a, b in zip(counts, gained, strict=True)]
            if any(gained):
                self.moments.append((offset, *key, variant, tuple(counts), tuple(after)))
            self.units[key] = variant, after

    def _forget(self, n: int) -> None:
        slates = [e.received_at for _, e in self._told[: n + 1] if isinstance(e, Served)]
        oldest = max(slates, default=0) - WINDOW_MS
        before = sum(len(held) for _, held in self.waiting)
        kept = [(name, [m for m in held if m[2] >= oldest]) for name, held in self.waiting]
        self.waiting = [(name, held) for name, held in kept if held][-SLATES:]
        self.lost += before - sum(len(held) for _, held in self.waiting)
