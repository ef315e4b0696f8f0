"""The list of a person's recent actions as it grows: facts, partners and the seen set depend on it."""

from __future__ import annotations

from bisect import bisect
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from models.features.plain import Event
from models.features.ring import DAILY_CAP, RING_SIZE, Key, keys_of, merged_key
from models.features.session import GAP_MS
from models.features.window import MAX_LAG, MAX_PARTNERS
from models.reference import plain
from models.reference.dedupe import Name, name_of
from schemas import events
from schemas.actions import ACTIONS
from schemas.times import DAY_MS

_RECENT = [action.recent for action in ACTIONS]
_POSITIVE = [action.weight > 0 for action in ACTIONS]
Partners = list[tuple[int, int]]
"""(item, lag): items visited with an action, and how many actions ago; the nearest first."""


class ActionContext(NamedTuple):
    """The context of an action. `met`: the list held its item; `counts`: the action counts in sums."""

    met: bool
    counts: bool
    partners: Partners


class Recents:
    """`keys`: the last 50 actions by (time, item, category, action); `items`: the item of each;
    `session`: the last 16 items of the session, 0 for an action that `window` skips."""

    __slots__ = ("_last", "_name", "items", "keys", "n", "session")

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.items: list[int] = []
        self.n = 0
        self.session: list[int] = []
        self._name = self._last = 0

    @classmethod
    def after(cls, values: Mapping[str, Any]) -> Recents:
        """The list of a person whose features have these values, by name."""
        recents = cls()
        recents.n = values["ring"][0]
        recents._hold(keys_of(values["ring"]))
        recents._name, _, recents._last, n, _ = values["session"]
        # the window has the newest first; the newest n are those of the session
        recents.session = values["window"][:n][::-1]
        return recents

    def act(self, e: Event) -> ActionContext:
        if not _RECENT[e.action] or e.late:
            return ActionContext(False, e.in_catalogue, [])
        item = e.item
        times = self.items.count(item)
        counts = e.in_catalogue and not (
            times >= DAILY_CAP and self._on_day(item, e.time // DAY_MS) >= DAILY_CAP
        )
        self._go_on(e)
        informative = e.in_catalogue and _POSITIVE[e.action]
        partners = self._partners(item) if informative and counts else []
        self.session.append(item if informative else 0)
        del self.session[:-MAX_LAG]
        self._enter((e.time, item, e.category, e.action, e.identity, e.flags))
        self.n += 1
        return ActionContext(times > 0, counts, partners)

    def merge(self, merge: events.Merge) -> None:
        """Adds the actions of an anonymous id to the list, but to no session."""
        self._hold(sorted([*self.keys, *map(merged_key, merge.recent)])[-RING_SIZE:])
        self.n += merge.entered

    def _hold(self, keys: list[Key]) -> None:
        self.keys, self.items = keys, [key[1] for key in keys]

    def _enter(self, key: Key) -> None:
        newest = not self.keys or self.keys[-1] <= key  # most actions are, and need no search
        at = len(self.keys) if newest else bisect(self.keys, key)
        self.keys.insert(at, key)
        self.items.insert(at, key[1])
        if len(self.keys) > RING_SIZE:
            del self.keys[0], self.items[0]

    def _on_day(self, item: int, day: int) -> int:
        start, end = bisect(self.keys, (day * DAY_MS,)), bisect(self.keys, ((day + 1) * DAY_MS,))
        return self.items[start:end].count(item)

    def _go_on(self, e: Event) -> None:
        gap = self.n == 0 or abs(e.time - self._last) > GAP_MS
        if self.n == 0 or (e.session != self._name if e.session else gap):
            self.session = []
        if e.session or gap:
            self._name = e.session
        self._last = e.time

    def _partners(self, item: int) -> Partners:
        found: dict[int, int] = {}
        for lag, other in enumerate(reversed(self.session), 1):
            if other and other != item and other not in found:
                found[other] = lag
                if len(found) == MAX_PARTNERS:
                    break
        return list(found.items())


def by_person(log: Iterable[tuple[int, events.Event]]) -> dict[str, list[Event]]:
    """(offset, event) of one partition in order -> each person's actions, duplicates dropped."""
    taken: set[Name] = set()
    actions: dict[str, list[Event]] = {}
    for offset, e in log:
        if isinstance(e, events.Action) and (name := name_of(e)) not in taken:
            taken.add(name)
            actions.setdefault(e.person, []).append(plain.event(offset, e))
    return actions


def with_context(actions: Sequence[Event]) -> Iterator[tuple[Event, ActionContext]]:
    recents = Recents()
    for e in actions:
        yield e, recents.act(e)


def facts(actions: Sequence[Event]) -> list[tuple[Event, Partners]]:
    """The actions of one person that count in sums, each with its partners and their lags."""
    return [(e, found.partners) for e, found in with_context(actions) if found.counts]


def seen(actions: Sequence[Event]) -> list[int]:
    """The items appended to the seen set: those that the list did not hold at their action."""
    return [e.item for e, found in with_context(actions) if _RECENT[e.action] and not found.met]


def hidden(actions: Sequence[Event]) -> list[int]:
    return [e.item for e in actions if ACTIONS[e.action].name == "hide"]
