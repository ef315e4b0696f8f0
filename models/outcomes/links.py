"""Links between anonymous ids and people: which are pending, and which id came first.

Two records announce a link: one to the user's partition at once, that it is pending (`mark`), and one
through the outbox of the anonymous id's partition, with its result (`answer`). Either may arrive first.

The first id: variants are drawn with the anonymous id of the earliest link, if the link was made before the
first slate under the user's own id. A pending link counts until its result is that it lost. So the first id
is a function of the links and of the time of the first slate, whatever the order of the records.
"""

from __future__ import annotations

from typing import Final

from models.outcomes.open_slates import Account, Links, Mark
from schemas.state import links as stored

MAX_LINKS: Final = 20
"""Bound of one user's pending links, and of the answers that wait for their mark: the oldest are dropped."""


def of(account: Account) -> Links:
    """The links of an account, new where there are none yet."""
    if account.links is None:
        account.links = Links()
    return account.links


def mark(account: Account, link: Mark) -> None:
    """Adds a pending link. In place."""
    links = of(account)
    if _take(links.answered, link) or link in links.pending:
        return
    links.pending.append(link)
    del links.pending[:-MAX_LINKS]


def answer(account: Account, link: Mark, *, lost: bool) -> None:
    """Adds the result of a link; `lost`: the anonymous id was linked before, so nothing moves. In place."""
    links = of(account)
    if not _take(links.pending, link):
        links.answered.append(link)
        del links.answered[:-MAX_LINKS]
    if not lost and (links.first is None or _order(link) < _order(links.first)):
        links.first = link


def unlinked(account: Account, to: str, by: str) -> Account | None:
    """The account of an anonymous id once the event `by` ended its link to the person `to`: a new one. None
    where it is not linked to them, so that nothing ends."""
    if account.links is None or not account.links.to or account.links.to != to:
        return None
    return Account(links=Links(by=by))


def first(account: Account) -> str:
    """The anonymous id with which the person's variants are drawn; "" for their own id."""
    links = account.links
    if links is None:
        return ""
    every = [*links.pending, *([links.first] if links.first else [])]
    early = [link for link in every if not account.since or link.at <= account.since]
    return min(early, key=_order).of if early else ""


def view(account: Account) -> stored.Links:
    """The links as readers need them."""
    links = account.links
    if links is None:
        return stored.NONE
    return stored.Links(links.to, first(account), len(links.pending), links.by)


def _order(link: Mark) -> tuple[int, str]:
    return link.at, link.of


def _take(marks: list[Mark], link: Mark) -> bool:
    """Removes the link from `marks`; False where it was not there."""
    for n, held in enumerate(marks):
        if (held.of, held.link) == (link.of, link.link):
            del marks[n]
            return True
    return False
