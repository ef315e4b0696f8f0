"""The slow definitions over a whole log: what any run, with whatever faults, must have ended in."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field

import xxhash

from models.covisit import HALF_LIFE
from models.features.plain import Event
from models.features.ring import CAP, DAY_MS, reference_before
from models.features.window import reference_partners
from models.popularity import GAIN, HALF_LIVES
from schemas import event as events
from schemas.actions import ACTIONS, CODE
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
