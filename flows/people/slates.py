"""The fold of slates: joins what people were shown with what they did (`models.outcomes.join`), under each
of their ids (`models.outcomes.links`), and takes back what they take back (`models.outcomes.purchases`)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from struct import pack
from typing import Final

import xxhash

from flows.people import transfer
from flows.people.accounts import Accounts, Held
from flows.people.batch import Effects, Hashes, Span
from flows.people.outcome_actions import Actions, hold, take_back
from flows.people.outcome_facts import BatchFacts, OutcomeFacts
from flows.people.outcome_records import (
    SLATE_EVENTS,
    FirstAct,
    OutcomeRecords,
    Record,
    Short,
    acts,
    changes_impressions,
)
from flows.people.rows import Fetch
from flows.people.strangers import Strangers
from models.outcomes import impressions, likes, links, open_slates, stored_join
from models.outcomes import join as outcomes
from models.outcomes.effects import Effect
from models.outcomes.join import REACH, STATE_BY_ACTION
from models.outcomes.open_slates import Account, Mark, Outcome
from models.outcomes.purchases import LIKE
from models.outcomes.slots import Assignment, Shown
from models.outcomes.stored_join import ARM, Changed, StoredJoin
from models.outcomes.touched import Reach
from schemas.alphabet import Millis, Pseudonym
from schemas.events import Action, Link, Linking, Merge, Served, Unlink
from schemas.keys import Keyspace
from schemas.state.facts import NONE_PACKED, STATES
from schemas.state.write import Write

_IN_PLACE: Final = {"display", "click"}
"""Actions that change an account as it is stored."""
_MAX_VERSION: Final = 0xFFFF
_xxh = xxhash.xxh3_64_intdigest


class Slates:
    """Open slates and impressions of the people of one partition: a write-through cache.

    `fetch` reads stored values by key; `items` and `names` hash ids; `dedupe_ms`: the window of
    de-duplication; `strangers`: those of the partition; `reach`: of a purchase that names no slate.
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
        strangers: Strangers,
        reach: Reach = REACH,
    ) -> None:
        self._partition, self._strangers = partition, strangers
        self._items, self._names, self._reach = items, names, reach
        self._actions, self._dedupe_ms = Actions(items, names, reach), dedupe_ms
        self._join = StoredJoin(reach)
        compiled = self._join.compiled
        self._people = Accounts(partition, fetch, limit, keyspace, strangers, compiled=compiled)

    def make_room(self) -> None:
        """Empties the cache above its limit. Call it between batches only, when all of it is committed."""
        self._people.make_room()

    def missing(self, records: OutcomeRecords) -> list[bytes]:
        """The keys that `join` of the batch's records reads, since they are not cached."""
        return self._people.missing(records)

    def join(
        self, records: OutcomeRecords, missing: list[bytes], batch: Span, effects: Effects
    ) -> OutcomeFacts:
        """Folds the span's `records`, whose `missing` keys are read now, adds changes to the write and the
        outgoing merges, and returns the facts."""
        if not records:
            return NONE_PACKED
        if missing:
            self._people.load(missing)
        repeated = {offset for offset, _, _ in batch.repeated}
        batch_facts = BatchFacts(effects.write)
        # of what came since, de-duplication has dropped what came twice
        unique_since = (effects.write.fence.newest - self._dedupe_ms) // 1000 + 1
        changed: dict[str, tuple[bytes, bytes]] = {}
        """Person -> their purchases and likes before this batch."""
        viewers: dict[str, None] = {}
        for offset, record in records:
            if isinstance(record, FirstAct):
                if self._people.meet(record.person):
                    changed[record.person] = b"", b""
                    viewers[record.person] = None
                continue
            if isinstance(record, tuple):
                person = record[2]
                held = self._people[person]
                write = None if person in changed else effects.write
                if self._append(held, offset, record, effects, unique_since, write, batch_facts):
                    continue
                event: Record = record[0].event(record[1])  # type: ignore[assignment]
            else:
                event = record
                person = event.person
                if person not in self._people:  # they have no account
                    if type(event) is Served:
                        self._serve_stranger(offset, event, batch_facts)
                    if not acts(offset, event, effects.new_merges):
                        continue
                    self._people.meet(person)
                held = self._people[person]
            if held.stored is not None and self._in_place(offset, event, held, batch_facts):
                changed.setdefault(person, (held.account.reversibles, held.account.likes))
                if type(event) is Served:
                    viewers[person] = None
                continue
            account = held.decoded()
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
        held: Held,
        offset: int,
        record: Short,
        effects: Effects,
        unique_since: int,
        write: Write | None,
        batch_facts: BatchFacts,
    ) -> bool:
        """The short way: appends a purchase or like to the person's string. False: `_fold` has to do it.
        `write`: None where the string is written after the batch."""
        _, _, person, item, at, row, price = record
        account, counted = held.account, offset in effects.counted
        if price is not None:
            if held.stored and stored_join.may_convert(held.stored, item):
                return False
            row = hold(account, row, at, unique_since, counted=counted)
            if not row:
                return False
            if write is not None:
                key = self._people.rows_prefix + person.encode()
                write.append_to(key, account.reversibles, row)
            if price[0]:
                batch_facts.pay_once(offset, item, *price)
            return True
        if _is_linked(account):
            return False
        if offset not in effects.copies:
            if not counted:
                row = likes.uncounted(row)
            appended = likes.hold(account, row)
            if write is not None:
                key = self._people.likes_prefix + person.encode()
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
            transfer.write_transfer(merge, moved, self._people.shown(event.person))
        return []

    def _unlink(self, account: Account, event: Unlink, effects: Effects) -> bool:
        """Begins a new account where the event ends a link. Whether it does."""
        begun = links.unlinked(account, event.to, event.event_id)
        if begun is None:
            return False
        self._people.begin(event.person, begun)
        for key in self._people.keys_beside(event.person):
            effects.clear(key)
        return True

    def _serve(self, account: Account, served: Served, person: str) -> Effect:
        """`person` owns the account; the slate may have been served to a guest id of theirs."""
        shown = self._hashed(served)
        guest = "" if person == served.person else served.person
        effect = outcomes.serve(account, shown, guest, self._reach)
        if effect.arms:
            self._add_impressions(person, shown)
        return effect

    def _serve_stranger(self, offset: int, served: Served, batch_facts: BatchFacts) -> None:
        """Serves a slate to somebody who has done nothing yet."""
        person, shown = served.person, self._hashed(served)
        held = self._strangers.stored(person)
        changed = self._join.serve(held, shown, batch_facts.delta(offset))
        if changed is not None:
            stored = changed.stored
            _count_served(batch_facts, changed)
            batch_facts.add_changed(changed)
        else:
            account = open_slates.decode(held)
            batch_facts.add(offset, outcomes.serve(account, shown, reach=self._reach))
            stored = open_slates.encode(account)
        if evicted := self._strangers.put(person, stored, offset):
            batch_facts.count("strangers_evicted", evicted)

    def _add_impressions(self, person: str, shown: Shown) -> None:
        if shown.items:
            items = pack(f"<{len(shown.items)}Q", *shown.items)
            self._people[person].show(items, shown.at // 1000)

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
            held, new = self._people.shown(merge.person), transfer.impressions(merge)
            self._people[merge.person].shown = impressions.write(impressions.merge(held, new))
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

    def _in_place(self, offset: int, event: Record, held: Held, batch_facts: BatchFacts) -> bool:
        """The short way of slates, and of displays and clicks in them: changes the account as it is stored.
        False: the record needs the whole account."""
        assert held.stored is not None
        delta, changed = batch_facts.delta(offset), None
        if type(event) is Served:
            shown = self._hashed(event)
            changed = self._join.serve(held.stored, shown, delta)
            if changed is not None:
                _count_served(batch_facts, changed)
                if changed.arms:
                    held.show(pack(f"<{len(shown.items)}Q", *shown.items), shown.at // 1000)
        elif type(event) is Action and event.slate_id and event.action in _IN_PLACE:
            state = STATE_BY_ACTION[event.action]
            outcome = Outcome(self._items[event.item_id], state, event.received_at)
            slate, bought = _xxh(event.slate_id.encode()), held.account.reversibles
            changed = self._join.act(held.stored, slate, outcome, bought, delta)
            if changed is not None:
                batch_facts.count(changed.why or f"attributed:{STATES[state]}")
        if changed is None:
            return False
        held.stored = changed.stored
        batch_facts.add_changed(changed)
        return True

    def _store(
        self, changed: Mapping[str, tuple[bytes, bytes]], viewers: Iterable[str], write: Write
    ) -> None:
        people = self._people
        for person, (purchases, liked) in changed.items():
            account, name = people[person].account, person.encode()
            if account.reversibles is not purchases:
                _store_rows(people.rows_prefix + name, account.reversibles, purchases, write)
            if account.likes is not liked:
                _store_rows(people.likes_prefix + name, account.likes, liked, write)
        people.store(changed, write)
        for viewer in viewers:
            shown = people[viewer].shown
            write.values[people.shown_prefix + viewer.encode()] = shown or b""


def _count_served(batch_facts: BatchFacts, changed: Changed) -> None:
    batch_facts.count("served")
    batch_facts.count("served_items", len(changed.arms) // ARM.itemsize)


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
