"""Everything that the log says of one person, and what is to be stored of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, NamedTuple

from models.features.plain import Event
from models.features.registry import FEATURES
from models.outcomes import impressions
from models.outcomes.impressions import Row
from models.outcomes.open_slates import Account
from models.reference.outcomes import ReferenceOutcomes, concerns
from models.reference.recents import ActionContext, Recents
from schemas.actions import ACTIONS, HIDE
from schemas.events import Action, Link, Linking, Merge, Preferences, Served

_RECENT = [action.recent for action in ACTIONS]


class Held(NamedTuple):
    """What a snapshot holds of somebody. `values`: of each feature, None where they have no row; `shown`:
    what they were shown lately, None where they were shown nothing."""

    values: Mapping[str, Any] | None = None
    seen: tuple[int, ...] = ()
    hidden: tuple[int, ...] = ()
    preferences: Preferences | None = None
    account: Account | None = None
    shown: list[Row] | None = None


class Kept(NamedTuple):
    """What only somebody who is checked needs: lists that grow with all they ever did. `before`: their
    features' values before the first of it."""

    acts: list[Event]
    merges: list[Merge]
    seen: list[int]
    hidden: list[int]
    before: Mapping[str, Any] | None


class Person:
    """`kept` is None of somebody whose facts count in sums, and who is not checked themselves. `held`:
    what there was of them before the first record that is told."""

    __slots__ = ("_recents", "kept", "link", "outcomes", "preferences", "shown")

    def __init__(self, kept: bool, held: Held = Held()) -> None:  # noqa: B008 - it never changes
        seen, hidden = list(held.seen), list(held.hidden)
        self.kept = Kept([], [], seen, hidden, held.values) if kept else None
        self.preferences = held.preferences
        self.link = ""
        """Whom this anonymous id was linked to first."""
        self.outcomes = ReferenceOutcomes.of(held.account) if held.account is not None else None
        """None of somebody who was shown nothing, did nothing with what others are shown, and has no
        part in a link."""
        self.shown = held.shown is not None
        """They were shown something, or an anonymous id of theirs was."""
        self._recents = Recents() if held.values is None else Recents.after(held.values)
        if self.outcomes and self.outcomes.links:
            self.link = self.outcomes.links.to
        if self.outcomes and held.shown:
            self.outcomes.shown.append(held.shown)

    def act(self, e: Event) -> ActionContext:
        found = self._recents.act(e)
        if self.kept:
            self.kept.acts.append(e)
            if _RECENT[e.action] and not found.met:
                self.kept.seen.append(e.item)
            if e.action == HIDE:
                self.kept.hidden.append(e.item)
        return found

    def concern(
        self, offset: int, e: Served | Action | Link | Linking | Merge
    ) -> ReferenceOutcomes:
        """A record that `concerns` slates or links."""
        if self.outcomes is None:
            self.outcomes = ReferenceOutcomes()
        if isinstance(e, Served | Action):
            self.shown |= isinstance(e, Served)
            self.outcomes.add(offset, e)
        elif isinstance(e, Merge):
            self.shown |= bool(e.served or e.impressions)
            self.outcomes.receive(offset, e)
        elif isinstance(e, Linking):
            self.outcomes.linking(e)
        elif not self.link and e.to != e.person:
            self.link = e.to
            self.outcomes.leave(e.to)
        return self.outcomes

    def merge(self, offset: int, merge: Merge) -> ReferenceOutcomes | None:
        """What an anonymous id did becomes theirs. What it did counted where it happened; what came of
        its slates may count here."""
        if merge.newest:
            self._recents.merge(merge)
        if self.kept:
            if merge.newest:
                self.kept.merges.append(merge)
            self.kept.seen.extend(merge.seen)
            self.kept.hidden.extend(merge.hidden)
        return self.concern(offset, merge) if concerns(merge) else None

    @property
    def has_row(self) -> bool:
        it = self._of
        return bool(self.link or it.acts or it.merges or it.before is not None)

    @property
    def seen(self) -> list[int]:
        """What was appended to the seen set, in order."""
        return self._of.seen

    @property
    def hidden(self) -> list[int]:
        """What they hid, in order."""
        return self._of.hidden

    def features(self) -> dict[str, object]:
        """The value of each feature, by its `reference`."""
        acts, merges, before = self._of.acts, self._of.merges, self._of.before or {}
        return {it.name: it.reference(acts, merges, before.get(it.name)) for it in FEATURES}

    def impressions(self) -> list[Row]:
        return impressions.reference_of_batches(self.outcomes.shown if self.outcomes else ())

    @property
    def _of(self) -> Kept:
        if self.kept is None:
            raise LookupError("nothing was kept of this person")
        return self.kept
