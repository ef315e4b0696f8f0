"""The links of an id: pending, answered before their mark, and won."""

from __future__ import annotations

from models.outcomes.links import MAX_LINKS
from models.outcomes.open_slates import Links, Mark
from schemas.events import Linking, Merge


class ReferenceLinks:
    """`to`: the person that this anonymous id was linked to, `by`: the event that last began or ended a link
    of it. Of a user: marks and answers, in any order."""

    def __init__(self) -> None:
        self.to = self.by = ""
        self.pending: list[Mark] = []
        self.answered: list[Mark] = []
        self.won: list[Mark] = []

    @classmethod
    def of(cls, held: Links) -> ReferenceLinks:
        """The stored links: of those that won only the earliest, which is all that `first` needs."""
        links = cls()
        links.to, links.by = held.to, held.by
        links.pending, links.answered = list(held.pending), list(held.answered)
        links.won = [held.first] if held.first else []
        return links

    def mark(self, linking: Linking) -> None:
        """Adds a pending link, unless its answer came before."""
        mine = Mark(linking.of, linking.link, linking.received_at)
        if not _take(self.answered, mine) and mine not in self.pending:
            self.pending = [*self.pending, mine][-MAX_LINKS:]

    def answer(self, merge: Merge) -> None:
        """Adds the result of a link."""
        mine = Mark(merge.of, merge.link, merge.received_at)
        if not _take(self.pending, mine):
            self.answered = [*self.answered, mine][-MAX_LINKS:]
        if not merge.lost:
            self.won.append(mine)

    @property
    def earliest(self) -> Mark | None:
        """The earliest link that won."""
        return min(self.won, key=_order, default=None)

    def first(self, since: int) -> str:
        """The anonymous id with which variants are drawn, for a person first served at `since` (0: never)."""
        early = [m for m in [*self.pending, *self.won] if not since or m.at <= since]
        return min(early, key=_order).of if early else ""


def _order(mark: Mark) -> tuple[int, str]:
    return mark.at, mark.of


def _take(marks: list[Mark], link: Mark) -> bool:
    for n, held in enumerate(marks):
        if (held.of, held.link) == (link.of, link.link):
            del marks[n]
            return True
    return False
