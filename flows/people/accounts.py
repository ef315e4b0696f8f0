"""Open slates, purchases, likes and impressions of the people of one partition: a write-through cache."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.people.outcome_records import FirstAct, OutcomeRecords, changes_impressions
from flows.people.rows import Fetch
from flows.people.strangers import MAY_BE_STRANGERS, Strangers
from models.outcomes import impressions, links, open_slates, reversibles, stored_join, strangers
from models.outcomes.open_slates import Account
from schemas.events import Action, Link
from schemas.keys import Keyspace
from schemas.state import links as links_view
from schemas.state.write import Write

MAX_CACHED_PEOPLE: Final = 10_000
"""People whose open slates and impressions stay in memory, some 3 kB each, 10 kB where they are decoded."""


class Held:
    """One person. `account`: all of it, where `stored` is None; else `stored` has it as it is stored, and
    `account` has purchases and likes only. `shown`: their impressions as stored; None: not read."""

    __slots__ = ("account", "exists", "shown", "stored")

    def __init__(self, account: Account, stored: bytes | None, shown: bytes | None) -> None:
        self.account, self.stored, self.shown = account, stored, shown
        self.exists = False
        """Whether the store has the account, but for what the person can take back."""

    def decoded(self) -> Account:
        """The whole account, which may be changed then. Errors: ValueError."""
        if self.stored is not None:
            whole, held = open_slates.decode(self.stored), self.account
            whole.reversibles, whole.oldest, whole.likes = (
                held.reversibles,
                held.oldest,
                held.likes,
            )
            self.account, self.stored = whole, None
        return self.account

    def show(self, items: bytes, at: int) -> None:
        """Adds impressions of a slate of `items` (u64), shown at `at`, s."""
        self.shown = impressions.updated(self.shown or b"", items, at)


class Accounts(dict[str, Held]):
    """By person: of those who have done something, or were linked; all others are `strangers`. `compiled`:
    what is stored is changed as it is, where that goes."""

    def __init__(
        self,
        partition: int,
        fetch: Fetch,
        limit: int,
        keyspace: Keyspace,
        strangers: Strangers,
        *,
        compiled: bool,
    ) -> None:
        super().__init__()
        self._fetch, self._limit = fetch, min(limit, MAX_CACHED_PEOPLE)
        self._compiled = compiled
        self.slates_prefix = keyspace.open_slates(partition, "")
        self.rows_prefix = keyspace.reversibles(partition, "")
        self.likes_prefix = keyspace.likes(partition, "")
        self.shown_prefix = keyspace.impressions(partition, "")
        self._link_prefix = keyspace.link(partition, "")
        self._row_prefix = keyspace.row(partition, "")
        self._strangers = strangers
        self._missing: tuple[list[str], list[str], list[str]] = [], [], []

    def shown(self, person: str) -> NDArray[np.void]:
        """Their impressions, which were loaded."""
        return impressions.read(self[person].shown)

    def begin(self, person: str, account: Account) -> None:
        """Replaces all of theirs by a new account."""
        exists = self[person].exists
        held = self[person] = Held(account, None, b"")
        held.exists = exists

    def keys_beside(self, person: str) -> list[bytes]:
        """The keys of theirs beside the account."""
        prefixes = self.shown_prefix, self.rows_prefix, self.likes_prefix
        return [prefix + person.encode() for prefix in prefixes]

    def make_room(self) -> None:
        if len(self) > self._limit:
            self.clear()

    def missing(self, records: OutcomeRecords) -> list[bytes]:
        """The keys that `load` reads for these records."""
        new: dict[str, None] = {}
        unseen: dict[str, None] = {}
        unknown: dict[str, None] = {}
        may_be_strangers = MAY_BE_STRANGERS if self._strangers.limit else ()
        for _, event in records:
            if isinstance(event, tuple):
                if (person := event[2]) not in self and person not in self._strangers:
                    new[person] = None
                continue
            person = event.person
            held = self.get(person)
            if held is None:
                if person in self._strangers:
                    continue
                if type(event) in may_be_strangers and strangers.has_form(person):
                    unknown[person] = None
                new[person] = None
            if isinstance(event, FirstAct):
                continue
            if (
                type(event) is not Action
                and (held is None or held.shown is None)
                and (changes_impressions(event) or isinstance(event, Link))
            ):
                unseen[person] = None
        self._missing = list(new), list(unseen), list(unknown)
        names = [person.encode() for person in new]
        prefixes = self.slates_prefix, self.rows_prefix, self.likes_prefix
        keys = [prefix + name for prefix in prefixes for name in names]
        keys += [self.shown_prefix + person.encode() for person in unseen]
        return keys + [self._row_prefix + person.encode() for person in unknown]

    def load(self, keys: list[bytes]) -> None:
        """Reads what is `missing`. Errors: ValueError for a value that cannot be read."""
        new, unseen, unknown = self._missing
        found, n = self._fetch(keys), len(new)
        stored, rows, liked = found[:n], found[n : 2 * n], found[2 * n : 3 * n]
        row_at = 3 * n + len(unseen)
        rowless = {it for it, row in zip(unknown, found[row_at:], strict=True) if not row}
        for person, *values in zip(new, stored, rows, liked, strict=True):
            if person not in rowless or any(values):
                self[person] = self._held(*values)
        for person, shown in zip(unseen, found[3 * n : row_at], strict=True):
            if person in self:
                self[person].shown = shown or b""

    def meet(self, person: str) -> bool:
        """Ensures the account of somebody who acts, or is linked: of a stranger what is kept of them, of
        others who have none a new one. Whether they were a stranger."""
        stored = self._strangers.take(person)
        if person not in self:
            shown = strangers.shown(stored) if stored else b""
            held = self[person] = Held(Account(), stored or b"", shown)
            if not self._compiled or not stored_join.is_plain(stored or b""):
                held.decoded()
        return stored is not None

    def _held(self, stored: bytes | None, rows: bytes | None, liked: bytes | None) -> Held:
        held = Held(Account(), stored or b"", None)
        if not (stored or rows or liked) and self._compiled:
            return held
        reversibles.load(held.account, rows or b"")
        held.account.likes = liked or b""
        held.exists = bool(stored)
        if stored and stored_join.has_rest(stored):
            open_slates.decode(stored)  # it can be read: what follows its columns is only copied
        if not self._compiled or not stored_join.is_plain(stored or b""):
            held.decoded()
        return held

    def store(self, people: Iterable[str], write: Write) -> None:
        """Adds the accounts of these people to the write."""
        for person in people:
            held = self[person]
            name = self.slates_prefix + person.encode()
            value = held.stored
            if value is None and not open_slates.is_blank(held.account):
                value = open_slates.encode(held.account)
                if held.account.links is not None:
                    link = self._link_prefix + person.encode()
                    write.values[link] = links_view.encode(links.view(held.account))
                if self._compiled and stored_join.is_plain(value):
                    held.account, held.stored = _rest_of(held.account), value
            if value:
                held.exists = True
                write.values[name] = value
            elif held.exists:  # its last waiting outcome was forgotten
                held.exists = False
                write.deleted.append(name)


def _rest_of(account: Account) -> Account:
    """What is not stored with it."""
    return Account(reversibles=account.reversibles, oldest=account.oldest, likes=account.likes)
