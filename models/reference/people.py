"""Everything that the log says of one person, and what is to be stored of them."""

from __future__ import annotations

from typing import NamedTuple

from models import impressions
from models.features import FEATURES
from models.features.plain import Event
from models.impressions import Row
from models.reference.outcomes import Came, concerns
from models.reference.recents import Looked, Recents
from schemas.actions import ACTIONS, HIDE
from schemas.event import Action, Link, Linking, Merge, Preferences, Served

_RECENT = [action.recent for action in ACTIONS]


class Kept(NamedTuple):
    """What only somebody who is checked needs: lists that grow with all they ever did."""

    acts: list[Event]
    merges: list[Merge]
    seen: list[int]
    hidden: list[int]


class Person:
    """`kept` is None of somebody whose facts count in sums, and who is not checked themselves."""

    __slots__ = ("_recents", "came", "kept", "link", "preferences", "shown")

    def __init__(self, kept: bool) -> None:
        self.kept = Kept([], [], [], []) if kept else None
        self.preferences: Preferences | None = None
        self.link = ""
        """Whom this anonymous id was linked to first."""
        self.came: Came | None = None
        """None of somebody who was shown nothing, did nothing with what others are shown, and has no
        part in a link."""
        self.shown = False
        """They were shown something, or an anonymous id of theirs was."""
        self._recents = Recents()

    def act(self, e: Event) -> Looked:
        found = self._recents.act(e)
        if self.kept:
            self.kept.acts.append(e)
            if _RECENT[e.action] and not found.met:
                self.kept.seen.append(e.item)
            if e.action == HIDE:
                self.kept.hidden.append(e.item)
        return found

    def concern(self, offset: int, e: Served | Action | Link | Linking | Merge) -> Came:
        """A record that `concerns` slates or links."""
        if self.came is None:
            self.came = Came()
        if isinstance(e, Served | Action):
            self.shown |= isinstance(e, Served)
            self.came.add(offset, e)
        elif isinstance(e, Merge):
            self.shown |= bool(e.served or e.impressions)
            self.came.receive(offset, e)
        elif isinstance(e, Linking):
            self.came.linking(e)
        elif not self.link and e.to != e.person:
            self.link = e.to
            self.came.leave(e.to)
        return self.came

    def merge(self, offset: int, merge: Merge) -> Came | None:
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
        return bool(self.link or self._of.acts or self._of.merges)

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
        acts, merges = self._of.acts, self._of.merges
        return {feature.name: feature.reference(acts, merges) for feature in FEATURES}

    def impressions(self) -> list[Row]:
        return impressions.reference_of_rows(self.came.shown if self.came else ())

    @property
    def _of(self) -> Kept:
        if self.kept is None:
            raise LookupError("nothing was kept of this person")
        return self.kept
