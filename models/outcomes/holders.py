"""Whose slates an account holds: its own id's, and those of anonymous ids that were linked to it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from models.outcomes import links
from models.outcomes.open_slates import Account, Guest, Holder, OpenSlate

MAX_GUESTS: Final = 20
"""Anonymous ids whose slates are kept with a person's."""


def guests(account: Account) -> list[Guest]:
    return account.links.guests if account.links is not None else []


def every(account: Account) -> Iterator[tuple[str, Holder]]:
    """(guest's id, "" for the account's own; holder) of each."""
    yield "", account
    for guest in guests(account):
        yield guest.of, guest


def find(account: Account, of: str) -> Holder | None:
    """The holder of this id; None for a guest that the account no longer has."""
    return next((holder for name, holder in every(account) if name == of), None)


def guest(account: Account, of: str) -> Guest:
    """The guest of this anonymous id, new where there is none; then the oldest guest makes room."""
    held = links.of(account).guests
    for each in held:
        if each.of == of:
            return each
    held.append(Guest(of))
    del held[:-MAX_GUESTS]
    return held[-1]


def find_slate(account: Account, slate: int) -> tuple[str, Holder, OpenSlate] | None:
    """The open slate of this id, with its holder's id and its holder."""
    for held in reversed(account.slates):
        if held.id == slate:
            return "", account, held
    for each in guests(account):
        for held in reversed(each.slates):
            if held.id == slate:
                return each.of, each, held
    return None


def place_of(items: bytes, item: int) -> int:
    """Index of `item` in `items`, u64 LE; -1 if it is missing."""
    sought, at = item.to_bytes(8, "little"), -1
    while (at := items.find(sought, at + 1)) % 8 and at > 0:
        pass
    return at // 8
