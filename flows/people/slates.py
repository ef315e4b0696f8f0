"""The fold of slates: joins what people were shown with what they did (`models.outcomes.join`), under each
of their ids (`models.outcomes.links`), and takes back what they take back (`models.outcomes.purchases`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from flows.people import transfer
from flows.people.batch import Decoded, Effects, Hashes
from flows.people.outcome_actions import Actions, take_back
from flows.people.outcome_facts import BatchFacts, OutcomeFacts
from flows.people.outcome_records import (
    SLATE_EVENTS,
    OutcomeRecords,
    Record,
    changes_impressions,
)
from flows.people.rows import Fetch
from models.outcomes import impressions, likes, links, open_slates, reversibles
from models.outcomes import join as outcomes
from models.outcomes.effects import Effect
from models.outcomes.join import REACH
from models.outcomes.open_slates import Account, Mark
from models.outcomes.purchases import LIKE
from models.outcomes.slots import Assignment, Shown
from models.outcomes.touched import Reach
from schemas.alphabet import Millis, Pseudonym
from schemas.events import Action, Link, Linking, Merge, Served, Unlink
from schemas.keys import Keyspace
from schemas.state import links as stored
from schemas.state.write import Write

MAX_CACHED_PEOPLE: Final = 10_000
"""People whose open slates and impressions stay in memory, some 10 kB each."""
_MAX_VERSION: Final = 0xFFFF
_xxh = xxhash.xxh3_64_intdigest


class Slates:
    """Open slates and impressions of the people of one partition: a write-through cache.

    `fetch` reads stored values by key; `items` and `names` hash ids; `dedupe_ms`: the window of
    de-duplication; `reach`: of a purchase that names no slate.
    """

    def __init__(
        self,
        partition: int,
        fetch: Fetch,
        limit: int,
        items: Hashes,
        names: Hashes,
        keyspace: Keyspace,
        dedupe_ms: Millis,
        reach: Reach = REACH,
    ) -> None:
        self._partition, self._fetch, self._keyspace = partition, fetch, keyspace
        self._prefix = keyspace.open_slates(partition, "")
        self._rows_prefix = keyspace.reversibles(partition, "")
        self._likes_prefix = keyspace.likes(partition, "")
        self._prefixes = self._prefix, self._rows_prefix, self._likes_prefix
        self._missing: tuple[list[str], list[str]] = [], []
        self._limit = min(limit, MAX_CACHED_PEOPLE)
        self._items, self._names, self._reach = items, names, reach
        self._actions, self._dedupe_ms = Actions(items, names, reach), dedupe_ms
        self._accounts: dict[str, Account] = {}
        self._stored: set[str] = set()
        """The people whose account is stored, but for what they can take back."""
        self._shown: dict[str, NDArray[np.void]] = {}

    def make_room(self) -> None:
        """Empties the cache above its limit. Call it between batches only, when all of it is committed."""
        if len(self._accounts) > self._limit:
            self._accounts.clear()
            self._stored.clear()
            self._shown.clear()

    def join(
        self, records: OutcomeRecords, missing: list[bytes], batch: Decoded, effects: Effects
    ) -> OutcomeFacts:
        """Folds the batch's `records`, whose `missing` keys are read now, adds changes to the write and the
        outgoing merges, and returns the facts."""
        if not records:
            return OutcomeFacts()
        if missing:
            self._load(missing)
        repeated = {offset for offset, _, _ in batch.repeated}
        batch_facts = BatchFacts(effects.write)
        # of what came since, de-duplication has dropped what came twice
        unique_since = (effects.write.fence.newest - self._dedupe_ms) // 1000 + 1
        changed: dict[str, tuple[bytes, bytes]] = {}
        """Person -> their purchases and likes before this batch."""
        viewers: dict[str, None] = {}
        for offset, event in records:
            person = event.person
            account = self._accounts[person]
            if type(event) is Action:
                write = None if person in changed else effects.write
                if self._append(account, offset, event, effects, unique_since, write):
                    if event.currency and event.action == "purchase":
                        batch_facts.pay(offset, self._actions.payments(event))
                    continue
            if isinstance(event, Unlink):
                if not self._unlink(account, event, effects):
                    continue
                changed[person] = b"", b""
                viewers.pop(person, None)
            elif person not in changed:
                changed[person] = account.reversibles, account.likes
            if changes_impressions(event):
                viewers[person] = None
            for effect in self._fold(offset, event, account, effects, offset in repeated):
                batch_facts.add(offset, effect)
                if effect.taken_back or effect.again or effect.tallies:
                    take_back(offset, person, effect, effects)
        self._store(changed, viewers, effects.write)
        return batch_facts.facts()

    def _append(
        self,
        account: Account,
        offset: int,
        event: Action,
        effects: Effects,
        unique_since: int,
        write: Write | None,
    ) -> bool:
        """The short way of likes, and of most purchases: appends one to the person's string. False: `_fold`
        has to do it. `write`: None where the string is written after the batch."""
        if event.action == "purchase" and not event.slate_id:
            row = self._actions.hold(account, offset, event, effects, unique_since)
            if row and write is not None:
                key = self._rows_prefix + event.person.encode()
                write.append_to(key, account.reversibles, row)
            return bool(row)
        if event.action != "like" or _is_linked(account):
            return False
        if offset not in effects.copies:
            row = self._actions.like(event, offset in effects.counted)
            appended = likes.hold(account, row)
            if write is not None:
                key = self._likes_prefix + event.person.encode()
                if appended:
                    write.append_to(key, account.likes, row)
                else:
                    write.set_whole(key, account.likes)
        return True

    def _fold(
        self, offset: int, event: Record, account: Account, effects: Effects, repeated: bool
    ) -> list[Effect]:
        """The effects of one record; `repeated`: it was folded before."""
        if isinstance(event, SLATE_EVENTS):
            if _is_linked(account):
                assert account.links
                return self._forward(offset, event, account.links.to, effects, repeated)
            if isinstance(event, Served):
                return [self._serve(account, event, event.person)]
            if repeated:
                return [self._actions.repeat(account, event)]
            return [self._actions.fold(account, event, offset in effects.counted)]
        if isinstance(event, Merge):
            return self._receive(offset, account, event, effects)
        if isinstance(event, Linking):
            links.mark(account, Mark(event.of, event.link, event.received_at))
        elif isinstance(event, Link) and not (merge := effects.outgoing[offset, 1]).lost:
            moved = outcomes.close_account(account, event.to, event.event_id)
            transfer.write_transfer(merge, moved, self._shown[event.person])
        return []

    def _unlink(self, account: Account, event: Unlink, effects: Effects) -> bool:
        """Begins a new account where the event ends a link. Whether it does."""
        begun = links.unlinked(account, event.to, event.event_id)
        if begun is None:
            return False
        self._accounts[event.person] = begun
        self._shown[event.person] = impressions.read(None)
        effects.clear(self._keyspace.impressions(self._partition, event.person))
        effects.clear(self._keyspace.reversibles(self._partition, event.person))
        effects.clear(self._keyspace.likes(self._partition, event.person))
        return True

    def missing(self, records: OutcomeRecords) -> list[bytes]:
        """The keys that `join` of the batch's records reads, since they are not cached."""
        new = {event.person: None for _, event in records if event.person not in self._accounts}
        unseen = {
            event.person: None
            for _, event in records
            if type(event) is not Action
            and event.person not in self._shown
            and (changes_impressions(event) or isinstance(event, Link))
        }
        self._missing = list(new), list(unseen)
        names = [person.encode() for person in new]
        keys = [prefix + name for prefix in self._prefixes for name in names]
        return keys + [self._keyspace.impressions(self._partition, person) for person in unseen]

    def _load(self, keys: list[bytes]) -> None:
        """Reads the accounts and impressions that are `missing`."""
        new, unseen = self._missing
        held, n = self._fetch(keys), len(new)
        accounts, shown = held[:n], held[3 * n :]
        self._accounts.update(zip(new, map(open_slates.decode, accounts), strict=True))
        for person, rows, liked in zip(new, held[n : 2 * n], held[2 * n : 3 * n], strict=True):
            account = self._accounts[person]
            reversibles.load(account, rows or b"")
            account.likes = liked or b""
        self._stored.update(person for person, blob in zip(new, accounts, strict=True) if blob)
        self._shown.update(zip(unseen, map(impressions.read, shown), strict=True))

    def _serve(self, account: Account, served: Served, person: str) -> Effect:
        """`person` owns the account; the slate may have been served to a guest id of theirs."""
        shown = self._hashed(served)
        guest = "" if person == served.person else served.person
        effect = outcomes.serve(account, shown, guest, self._reach)
        if effect.arms:
            self._add_impressions(person, shown)
        return effect

    def _add_impressions(self, person: str, shown: Shown) -> None:
        items = np.array(list(dict.fromkeys(shown.items)), np.uint64)
        if len(items):
            held = self._shown[person]
            self._shown[person] = impressions.update(held, items, shown.at // 1000)

    def _forward(
        self, offset: int, event: Served | Action, to: str, effects: Effects, repeated: bool
    ) -> list[Effect]:
        """Sends the event of a linked id to the partition of its person, which counts it."""
        n = 1 + effects.indexes.get(id(event), 0)
        merge = effects.outgoing.get((offset, n))  # of an action: its row was forwarded already
        if merge is None:
            merge = Merge(
                person=Pseudonym(to),
                source=self._partition,
                offset=offset,
                n=n,
                received_at=event.received_at,
                of=event.person,
            )
        if isinstance(event, Served):
            self._add_impressions(event.person, self._hashed(event))
            merge.served = event
            effects.send(merge)
            return []
        effects.send(merge)
        counted = offset in effects.counted
        return [self._actions.forward(merge, event, counted=counted, repeated=repeated)]

    def _receive(
        self, offset: int, account: Account, merge: Merge, effects: Effects
    ) -> list[Effect]:
        if offset not in effects.new_merges:
            return []
        copies = [
            (it.item, it.at // 1000)
            for it in merge.recent
            if it.action == LIKE and (offset, it.identity, it.item) in effects.not_entered
        ]
        found = self._actions.receive(account, merge, copies)
        if merge.served is not None:
            found.append(self._serve(account, merge.served, merge.person))
        if merge.impressions:
            held, new = self._shown[merge.person], transfer.impressions(merge)
            self._shown[merge.person] = impressions.merge(held, new)
        if merge.link:
            mark = Mark(merge.of, merge.link, merge.received_at)
            links.answer(account, mark, lost=merge.lost)
        return found

    def _hashed(self, served: Served) -> Shown:
        items, names = self._items, self._names
        return Shown(
            id=_xxh(served.slate_id.encode()),
            at=served.received_at,
            placement=names[served.placement],
            items=[items[item] for item in served.items],
            explored=served.explored,
            assigned=[
                Assignment(names[each.experiment], each.version, names[each.variant])
                for each in served.experiments
                if 0 <= each.version <= _MAX_VERSION
            ],
        )

    def _store(
        self, changed: Mapping[str, tuple[bytes, bytes]], viewers: Iterable[str], write: Write
    ) -> None:
        p, keyspace, values = self._partition, self._keyspace, write.values
        for person, (purchases, liked) in changed.items():
            account, name = self._accounts[person], person.encode()
            if account.reversibles is not purchases:
                _store_rows(self._rows_prefix + name, account.reversibles, purchases, write)
            if account.likes is not liked:
                _store_rows(self._likes_prefix + name, account.likes, liked, write)
            if not open_slates.is_blank(account):
                self._stored.add(person)
                values[self._prefix + name] = open_slates.encode(account)
                if account.links is not None:
                    values[keyspace.link(p, person)] = stored.encode(links.view(account))
            elif person in self._stored:  # its last waiting outcome was forgotten
                self._stored.discard(person)
                write.deleted.append(self._prefix + name)
        for viewer in viewers:
            values[keyspace.impressions(p, viewer)] = self._shown[viewer].tobytes()


def _is_linked(account: Account) -> bool:
    """Whether it is that of an anonymous id, whose actions belong to another person."""
    return account.links is not None and bool(account.links.to)


def _store_rows(key: bytes, rows: bytes, before: bytes, write: Write) -> None:
    """Appends what came to the rows, or replaces them."""
    if rows.startswith(before):
        write.append_to(key, rows, rows[len(before) :])
        return
    if rows:
        write.set_whole(key, rows)
    else:
        write.appends.pop(key, None)
        write.values.pop(key, None)
        write.deleted.append(key)
