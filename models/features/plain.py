"""The plain form of an action, for the slow definitions beside the fast ones (law 11)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from schemas.actions import ACTIONS


class Event(NamedTuple):
    """One action of one person, in the terms of `columns.Columns`; times in ms."""

    offset: int
    item: int
    category: int
    time: int
    action: int
    session: int = 0
    in_catalogue: bool = True
    late: bool = False
    identity: int = 0
    """Low half of `models.dedupe.action_identity`, at least 1."""
    flags: int = 0
    """Of its entry in the ring, `models.features.ring`; `models.reference.recents` finds them."""
    imported: bool = False
    group: int = 0
    """Hash of the item's group (`schemas.identity.group_hash`); 0: none."""

    @property
    def recent_kind(self) -> bool:
        return ACTIONS[self.action].recent

    @property
    def recent(self) -> bool:
        return ACTIONS[self.action].recent and not self.late

    @property
    def weight(self) -> float:
        return ACTIONS[self.action].weight


def recents(events: Sequence[Event]) -> list[Event]:
    return [event for event in events if event.recent]
