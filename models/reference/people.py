"""One person by all their records, and the state to store of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from struct import pack
from typing import Any, NamedTuple

from msgspec.structs import replace

from models.features.plain import Event
from models.features.registry import FEATURES
from models.features.ring import BACK, MERGED
from models.outcomes import impressions, likes
from models.outcomes.impressions import Row
from models.outcomes.join import REACH
from models.outcomes.open_slates import Account
from models.outcomes.touched import Reach
from models.reference.outcome_records import LIKE, concerns
from models.reference.outcomes import ReferenceOutcomes
from models.reference.recents import MAX_ITEMS, ActionContext, Recents, entry_of, remember
from models.reference.seen import SeenEntry, SeenString, entries_of_merge
from schemas.actions import ACTIONS
from schemas.events import Action, Link, Linking, Merge, MergedAction, Preferences, Served, Unlink

_RECENT = [action.recent for action in ACTIONS]


class PersonSnapshot(NamedTuple):
    """A person in a snapshot. `values`: of each feature, None where they have no row; `shown`: their
    impressions, None where they were shown nothing."""

    values: Mapping[str, Any] | None = None
    seen: tuple[SeenEntry, ...] = ()
    seen_limit: int = 0
    overflow: tuple[int, ...] = ()
    preferences: Preferences | None = None
    account: Account | None = None
    shown: list[Row] | None = None
    duplicates: int = 0
    merged: bool = False


class History(NamedTuple):
    """The lists of a checked person, which grow with their actions. `before`: the values of their features
    before the first action in it."""

    acts: list[Event]
    merges: list[Merge]
    seen: SeenString
    before: Mapping[str, Any] | None


class Person:
    """`kept` is None for a person who is not checked, whose facts count in sums alone. `held`: their state
    before the first record."""

    __slots__ = (
        "_max_seen", "_reach", "_recents", "duplicates", "kept", "link", "merged", "outcomes",
        "preferences", "shown",
    )  # fmt: skip

    def __init__(
        self,
        kept: bool,
        held: PersonSnapshot = PersonSnapshot(),  # noqa: B008 - frozen
        reach: Reach = REACH,
        max_seen: int = MAX_ITEMS,
    ) -> None:
        self._reach, self._max_seen = reach, max_seen
        seen = SeenString(max_seen, held.seen, held.seen_limit)
        self.kept = History([], [], seen, held.values) if kept else None
        self.preferences = held.preferences
        self.link = ""
        """The person that this anonymous id was linked to first."""
        self.outcomes = (
            ReferenceOutcomes.of(held.account, reach) if held.account is not None else None
        )
        """None for a person without slates, without outcomes and without links."""
        self.shown = held.shown is not None
        """The person has impressions, of their own or of an anonymous id."""
        self.duplicates = held.duplicates
        """Actions that de-duplication dropped."""
        self.merged = held.merged
        """The list has held actions of an anonymous id."""
        self._recents = Recents()
        if held.values is not None:
            self._recents = Recents.after(held.values, held.overflow)
        if self.outcomes and self.outcomes.links:
            self.link = self.outcomes.links.to
        if self.outcomes and held.shown:
            self.outcomes.shown.append(held.shown)

    def act(self, e: Event) -> ActionContext:
        found = self._recents.act(e)
        if self.kept:
            self.kept.acts.append(e._replace(flags=found.flags))
            remember(self.kept.seen, e, found)
        return found

    def concern(
        self,
        offset: int,
        e: Served | Action | Link | Linking | Merge,
        counted: bool = False,
        repeated: bool = False,
    ) -> ReferenceOutcomes:
        """Adds a record for which `concerns` is true. `counted`: an action that made a fact; `repeated`: one
        that was folded before."""
        if self.outcomes is None:
            self.outcomes = ReferenceOutcomes(self._reach)
        if isinstance(e, Served | Action):
            self.shown |= isinstance(e, Served)
            self.outcomes.add(offset, e, counted, repeated)
        elif isinstance(e, Merge):
            self.shown |= bool(e.served or e.impressions)
            self.outcomes.receive(offset, e)
        elif isinstance(e, Linking):
            self.outcomes.linking(e)
        elif not self.link and e.to != e.person:
            self.link = e.to
            self.outcomes.close(e.to, e.event_id)
        return self.outcomes

    def take_back(self, identity: int, item: int, at: int) -> None:
        """Marks every entry of what was taken back, so that it expresses no interest: of the purchase of this
        identity, or, where it is 0, of the like at `at` (s)."""
        if self.kept is None:
            return

        def back(of: int, action: int, its: int, time: int) -> int:
            same = its == identity if identity else action == LIKE and time // 1000 == at
            return BACK if of == item and same and _RECENT[action] else 0

        acts, merges = self.kept.acts, self.kept.merges
        for n, e in enumerate(acts):
            acts[n] = e._replace(flags=e.flags | back(e.item, e.action, e.identity, e.time))
        for n, merge in enumerate(merges):
            marks = [back(it.item, it.action, it.identity, it.at) for it in merge.recent]
            if any(marks):
                recent = zip(merge.recent, marks, strict=True)
                marked = tuple(replace(it, flags=it.flags | mark) for it, mark in recent)
                merges[n] = replace(merge, recent=marked)
        if self.kept.before is not None:
            entries = self.kept.before["ring"][1]
            entries[:] = [
                (*it[:6], it[6] | back(it[0], it[5], it[4], it[1] * 1000)) for it in entries
            ]

    def after(self, e: Unlink) -> Person:
        """The person once their link ended: they start empty. The same person where it is not their link."""
        if not self.link or self.link != e.to:
            return self
        begun = Person(self.kept is not None, reach=self._reach, max_seen=self._max_seen)
        begun.outcomes = ReferenceOutcomes.begun(e.event_id, self._reach)
        return begun

    def came_with_a_merge(self, e: Event) -> bool:
        """Whether the list holds the action already, as one of an anonymous id: an order sent under both."""
        return not self.link and self._recents.holds(e.identity, e.item, e.action, MERGED)

    def repeated(self, merge: Merge) -> list[MergedAction]:
        """The actions of an anonymous id that the list holds already."""
        return [
            it
            for it in merge.recent
            if merge.newest and it.identity and self._recents.holds(it.identity, it.item, it.action)
        ]

    def merge(
        self, offset: int, merge: Merge, repeated: Sequence[MergedAction] = ()
    ) -> ReferenceOutcomes | None:
        """Adds the actions of an anonymous id to the person's, but those `repeated`. They counted in sums in
        its own partition; outcomes of its slates may count here."""
        merge = _without(merge, repeated)
        self.merged |= bool(merge.newest and merge.recent)
        evicted = self._recents.merge(merge) if merge.newest else []
        if self.kept:
            if merge.newest:
                self.kept.merges.append(merge)
            for entry in [*map(entry_of, evicted), *entries_of_merge(merge)]:
                self.kept.seen.append(entry)
        return self.concern(offset, merge) if concerns(merge) else None

    @property
    def has_row(self) -> bool:
        it = self._of
        return bool(self.link or it.acts or it.merges or it.before is not None or self.duplicates)

    @property
    def seen(self) -> SeenString:
        return self._of.seen

    @property
    def overflow(self) -> list[int]:
        """What the list no longer holds of two days (`models.features.overflow`)."""
        return self._recents.overflow

    def features(self) -> dict[str, object]:
        """The value of each feature, by its `reference`."""
        acts, merges, before = self._of.acts, self._of.merges, self._of.before or {}
        return {it.name: it.reference(acts, merges, before.get(it.name)) for it in FEATURES}

    def impressions(self) -> list[Row]:
        return impressions.reference_of_batches(self.outcomes.shown if self.outcomes else ())

    @property
    def _of(self) -> History:
        if self.kept is None:
            raise LookupError("nothing was kept of this person")
        return self.kept


def _without(merge: Merge, repeated: Sequence[MergedAction]) -> Merge:
    rest = [it for it in merge.recent if it not in repeated]
    liked, latest = list(likes.rows(merge.likes)), merge.received_at // 1000
    for it in repeated:
        same = [
            (bits, at)
            for bits, at in liked
            if bits // 2 == it.item % 2**32 // 2 and min(at, latest) == it.at // 1000
        ]
        if it.action == LIKE and same:
            liked.remove(same[0])
    times = [sum(it.action == code for it in repeated) for code in range(len(merge.counts))]
    return replace(
        merge,
        recent=tuple(rest),
        likes=b"".join(pack("<II", *row) for row in liked),
        entered=merge.entered - len(repeated),
        counts=tuple(n - less for n, less in zip(merge.counts, times, strict=True)),
    )
