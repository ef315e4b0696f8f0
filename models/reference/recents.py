"""The list of a person's recent actions as it grows: facts, partners and the seen set depend on it."""

from __future__ import annotations

from bisect import bisect
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, NamedTuple

from models.features.days import enter_day
from models.features.overflow import DAILY_CAP, MAX_PER_DAY, OVER_DAILY_CAP, OVER_DAILY_LIMIT
from models.features.plain import Event
from models.features.ring import COUNTED, IN_SESSION, RING_SIZE, Key, keys_of, merged_key
from models.features.session import GAP_MS
from models.features.window import MAX_LAG, MAX_PARTNERS
from models.reference import plain
from models.reference.dedupe import Name, name_of
from models.reference.seen import PURCHASE, SeenEntry, SeenString, bits_of
from schemas import events
from schemas.actions import ACTIONS
from schemas.state.facts import SAME_SESSION
from schemas.times import DAY_MS

MAX_ITEMS = 20_000
"""Items that a compaction keeps where no setting says another number."""
_RECENT = [action.recent for action in ACTIONS]
_POSITIVE = [action.weight > 0 for action in ACTIONS]
Partners = list[tuple[int, int]]
"""(item, lag): items visited before an action, the nearest first. The lag is how many entries back, with the
bit `SAME_SESSION`."""


class ActionContext(NamedTuple):
    """The context of an action. `met`: the list held its item; `counts`: the action counts in sums;
    `flags`: those of its entry in the list; `gone`: the entry that left the list, or did not enter it;
    `why_not`: the reason for which it does not count."""

    met: bool
    counts: bool
    partners: Partners
    flags: int = 0
    gone: Key | None = None
    why_not: str = ""


class Recents:
    """`keys`: the last 50 actions in the order of the list; `items`: the item of each; `n`: how many ever
    entered; `days` and `overflow`: as `models.features.days` and `overflow` have them."""

    __slots__ = (
        "_kept", "_last", "_name", "_rank", "_sessions", "days", "items", "keys", "n", "overflow",
    )  # fmt: skip

    def __init__(self) -> None:
        self.keys: list[Key] = []
        self.items: list[int] = []
        self.n = 0
        self.days = [0, 0]
        self.overflow: list[int] = []
        self._kept: Counter[int] = Counter()
        self._name = self._last = self._rank = self._sessions = 0

    @classmethod
    def after(cls, values: Mapping[str, Any], overflow: Sequence[int] = ()) -> Recents:
        """The list of a person whose features have these values, by name, and who has this overflow."""
        recents = cls()
        recents.n = values["ring"][0]
        recents._hold(keys_of(values["ring"]))
        recents._name, _, recents._last, recents._rank, recents._sessions = values["session"]
        recents.days, recents.overflow = list(values["days"]), list(overflow)
        recents._kept = Counter(recents.overflow)
        return recents

    def act(self, e: Event) -> ActionContext:
        if not _RECENT[e.action]:
            return ActionContext(False, True, [])
        before = list(self.days)
        place = enter_day(self.days, e)
        if before[place] != self.days[place]:
            self._forget(place)
        times = self.items.count(e.item)
        why_not = self._why_not(e, place, times)
        counts = not why_not
        in_order = not e.late and (not self.keys or e.time >= self.keys[-1][0])
        if in_order:
            self._go_on(e)
        flags = IN_SESSION * in_order + COUNTED * counts
        key = (e.time, e.item, e.category, e.action, e.identity, flags)
        if e.late:
            self._keep(key)
            return ActionContext(False, counts, [], flags, key, why_not)
        partners: Partners = []
        if counts and _POSITIVE[e.action]:
            partners = self._partners(e.item) if in_order else self._by_time(key)
        self._rank += in_order
        gone = self._enter(key)
        self.n += 1
        return ActionContext(times > 0, counts, partners, flags, gone, why_not)

    def holds(self, identity: int, item: int, action: int, flags: int = 0) -> bool:
        """Whether the list holds this action, with all bits of `flags`."""
        return any(
            key[1] == item and key[3:5] == (action, identity) and key[5] & flags == flags
            for key in self.keys
        )

    def merge(self, merge: events.Merge) -> list[Key]:
        """Adds the actions of an anonymous id to the list, but to no session; gives what left it."""
        held = sorted([*self.keys, *map(merged_key, merge.recent)])
        self._hold(held[-RING_SIZE:])
        self.n += merge.entered
        for key in held[:-RING_SIZE]:
            self._keep(key)
        return held[:-RING_SIZE]

    def _why_not(self, e: Event, place: int, times: int) -> str:
        """The reason for which the action does not count, or "". `times`: how often the list holds its
        item."""
        on_day = self._on_day(e.item, e.time // DAY_MS) if times else 0
        if self.overflow and self._size(place) >= MAX_PER_DAY:
            return OVER_DAILY_LIMIT
        kept = self._kept[_number(e.item, place)] if self.overflow else 0
        return "" if on_day + kept < DAILY_CAP else OVER_DAILY_CAP

    def _size(self, place: int) -> int:
        if len(self.overflow) < MAX_PER_DAY:
            return len(self.overflow)  # enough to know that it is below
        return sum(number & 1 == place for number in self.overflow)

    def _keep(self, key: Key) -> None:
        """Keeps an entry that left the list, or did not enter it."""
        day = key[0] // DAY_MS
        if day in self.days:
            place = self.days.index(day)
            number = _number(key[1], place)
            if self._kept[number] < DAILY_CAP and self._size(place) < MAX_PER_DAY:
                self._kept[number] += 1
                self.overflow.append(number)

    def _forget(self, place: int) -> None:
        if self.overflow:
            self.overflow = [number for number in self.overflow if number & 1 != place]
            self._kept = Counter(self.overflow)

    def _hold(self, keys: list[Key]) -> None:
        self.keys, self.items = keys, [key[1] for key in keys]

    def _enter(self, key: Key) -> Key | None:
        newest = not self.keys or self.keys[-1] <= key  # most actions are, and need no search
        at = len(self.keys) if newest else bisect(self.keys, key)
        self.keys.insert(at, key)
        self.items.insert(at, key[1])
        if len(self.keys) <= RING_SIZE:
            return None
        gone = self.keys.pop(0)
        del self.items[0]
        self._keep(gone)
        return gone

    def _on_day(self, item: int, day: int) -> int:
        start, end = bisect(self.keys, (day * DAY_MS,)), bisect(self.keys, ((day + 1) * DAY_MS,))
        return self.items[start:end].count(item)

    def _go_on(self, e: Event) -> None:
        gap = self._sessions == 0 or e.time - self._last > GAP_MS
        if self._sessions == 0 or (e.session != self._name if e.session else gap):
            self._rank = 0
            self._sessions += 1
        if e.session or gap:
            self._name = e.session
        self._last = e.time

    def _partners(self, item: int) -> Partners:
        """Of the actions in order, the newest 16."""
        found: dict[int, int] = {}
        lag = 0
        for key in reversed(self.keys):
            if key[5] & IN_SESSION:
                lag += 1
                _pair(found, item, key, lag, lag <= self._rank)
                if lag == MAX_LAG or len(found) == MAX_PARTNERS:
                    break
        return list(found.items())

    def _by_time(self, key: Key) -> Partners:
        """Of the entries before its place, the nearest 16; up to a gap they are of its session."""
        found: dict[int, int] = {}
        time, within = key[0], True
        for lag, other in enumerate(reversed(self.keys[: bisect(self.keys, key)]), 1):
            if lag > MAX_LAG or len(found) == MAX_PARTNERS:
                break
            within = within and time - other[0] <= GAP_MS
            _pair(found, key[1], other, lag, within)
            time = other[0]
        return list(found.items())


def _pair(found: dict[int, int], item: int, other: Key, lag: int, within: bool) -> None:
    """Adds another entry to the partners of `item`, where it is one. `within`: of one session."""
    if other[1] != item and other[1] not in found and _POSITIVE[other[3]]:
        found[other[1]] = lag | SAME_SESSION if within else lag


def _number(item: int, place: int) -> int:
    """An item in the overflow: 31 of its low bits, and the place of the day."""
    return item & 0xFFFF_FFFE | place


def by_person(log: Iterable[tuple[int, events.Event]]) -> dict[str, list[Event]]:
    """(offset, event) of one partition in order -> each person's actions, duplicates dropped, with the flags
    of their entries."""
    taken: set[Name] = set()
    actions: dict[str, list[Event]] = {}
    for offset, e in log:
        if isinstance(e, events.Action) and (name := name_of(e)) not in taken:
            taken.add(name)
            actions.setdefault(e.person, []).append(plain.event(offset, e))
    return {person: flagged(theirs) for person, theirs in actions.items()}


def flagged(actions: Sequence[Event]) -> list[Event]:
    """One person's actions with the flags of their entries."""
    return [e._replace(flags=found.flags) for e, found in with_context(actions)]


def after(actions: Sequence[Event]) -> Recents:
    """The list of one person after these actions."""
    recents = Recents()
    for e in actions:
        recents.act(e)
    return recents


def with_context(actions: Sequence[Event]) -> Iterator[tuple[Event, ActionContext]]:
    recents = Recents()
    for e in actions:
        yield e, recents.act(e)


def facts(actions: Sequence[Event]) -> list[tuple[Event, Partners]]:
    """The actions of one person that count in sums, each with its partners and their lags."""
    return [(e, found.partners) for e, found in with_context(actions) if found.counts]


def seen(actions: Sequence[Event], max_items: int = MAX_ITEMS) -> SeenString:
    """The string of what a person has seen after `actions`: what their list no longer has."""
    string = SeenString(max_items)
    for e, found in with_context(actions):
        remember(string, e, found)
    return string


def remember(string: SeenString, e: Event, found: ActionContext) -> None:
    """Appends what an action adds to the string."""
    if found.gone:
        string.append(entry_of(found.gone))
    elif not _RECENT[e.action]:
        string.append((e.item, e.time // 1000, bits_of(e.action, e.time % 1000)))
    if e.group and ACTIONS[e.action].name == "purchase":
        string.append((e.group, e.time // 1000, PURCHASE))


def entry_of(key: Key) -> SeenEntry:
    """The entry of an action of the list."""
    return key[1], key[0] // 1000, bits_of(key[3], key[0] % 1000)
