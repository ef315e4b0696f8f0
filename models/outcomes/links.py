"""Links between anonymous ids and the people they turned out to be: which are pending, whose id was first.

A link is told of twice: the user's partition hears at once that it is on its way (`mark`), and later,
through the outbox of the anonymous id's partition, what came of it (`answer`). Either may come first.

The first id: variants are drawn with the anonymous id of the earliest link, if it was made before the
user was served anything under their own id; a link on its way counts until it turns out to have lost.
That is a function of the links and of the time of the first slate, in whatever order they are told.
"""

from __future__ import annotations

from typing import Final

from models.outcomes.open_slates import Account, Links, Mark
from schemas.state import links as stored

MAX_LINKS: Final = 20
"""Of one user: links on their way, answers that wait for their mark. The oldest go."""


def of(account: Account) -> Links:
    """Its links, made where there are none yet."""
    if account.links is None:
        account.links = Links()
    return account.links


def mark(account: Account, link: Mark) -> None:
    """A link is on its way. In place."""
    links = of(account)
    if _take(links.answered, link) or link in links.pending:
        return
    links.pending.append(link)
    del links.pending[:-MAX_LINKS]


def answer(account: Account, link: Mark, *, lost: bool) -> None:
    """A link is done; `lost`: the anonymous id was linked before, so nothing came of it. In place."""
    links = of(account)
    if not _take(links.pending, link):
        links.answered.append(link)
        del links.answered[:-MAX_LINKS]
    if not lost and (links.first is None or _order(link) < _order(links.first)):
        links.first = link


def first(account: Account) -> str:
    """The anonymous id that their variants are drawn with; "" for their own id."""
    links = account.links
    if links is None:
        return ""
    every = [*links.pending, *([links.first] if links.first else [])]
    early = [link for link in every if not account.since or link.at <= account.since]
    return min(early, key=_order).of if early else ""


def view(account: Account) -> stored.Links:
    """What readers are told of it."""
    links = account.links
    if links is None:
        return stored.NONE
    return stored.Links(links.to, first(account), len(links.pending))


def _order(link: Mark) -> tuple[int, str]:
    return link.at, link.of


def _take(marks: list[Mark], link: Mark) -> bool:
    """Whether the link stood there; it does no more."""
    for n, held in enumerate(marks):
        if (held.of, held.link) == (link.of, link.link):
            del marks[n]
            return True
    return False
