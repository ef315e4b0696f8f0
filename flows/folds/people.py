"""The fold of a person's events: pure, vectorised over a batch, one function a concern."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

import numpy as np
import xxhash
from numpy.typing import NDArray

from flows.folds.batch import Decoded, Hashes, Turn, runs
from flows.folds.slates import Slates, told
from flows.kit.rows import Fetch, Rows
from models import features
from models.dedupe import Deduper
from models.features import ring, window
from models.features.columns import Columns, Folded
from models.vectors import Encoder
from schemas import event as events
from schemas import facts, keys
from schemas.actions import ACTIONS, CODE, HIDE, RECENT
from schemas.alphabet import Pseudonym
from schemas.event import Action, Link, Merge, MergedAction, Preferences
from schemas.fence import Fence
from schemas.identity import category_hash, item_hash
from schemas.write import StreamEntry, Write

VERSION: Final = 2
"""Of this fold: a change of what it stores needs another."""
LATE_MS: Final = 7 * 86_400_000
_xxh = xxhash.xxh3_64_intdigest


class PeopleFold:
    """The state of one partition, and what a batch does to it.

    `fetch` reads stored values by key; `span` is the window of de-duplication, ms. Nothing
    here knows a clock, a socket or chance.
    """

    def __init__(
        self,
        partition: int,
        fence: Fence,
        fetch: Fetch,
        span: int,
        row_cache: int,
        generation: int = 0,
    ) -> None:
        self.partition, self.fence, self.generation = partition, fence, generation
        self._fetch = fetch
        self._rows = Rows(partition, fetch, row_cache, generation)
        self._dedupe = Deduper(span, fence.newest)
        self._items, self._categories = Hashes(item_hash), Hashes(category_hash)
        self._slates = Slates(
            partition, fetch, row_cache, self._items, self._categories, generation
        )
        self.encoder: Encoder | None = None
        """Makes people's vectors; whoever runs the fold may set another between two batches."""
        self._received: dict[int, tuple[int, int]] = {}
        self._links: dict[str, str] = {}
        self._load()

    def _load(self) -> None:
        buckets = list(self._dedupe.live())
        for bucket, held in zip(
            buckets,
            self._fetch([keys.dedupe(self.partition, b, self.generation) for b in buckets]),
            strict=True,
        ):
            if held:
                self._dedupe.load(bucket, np.frombuffer(held, "<u8"))

    def remember_received(self, held: dict[bytes, bytes]) -> None:
        """What the outbox of each source partition last sent here: source -> ``offset-n``."""
        for source, number in held.items():
            offset, _, n = number.partition(b"-")
            self._received[int(source)] = (int(offset), int(n))

    # -- dedupe ---------------------------------------------------------------------------

    def dedupe(self, batch: Decoded) -> Decoded:
        """Drops the records whose (person, event id) was here before (law 12)."""
        ids = np.array(
            [
                0 if isinstance(e, Merge) else _xxh((e.person + e.event_id).encode()) or 1
                for _, _, e in batch.records
            ],
            np.uint64,
        )
        times = np.array([stamp for _, stamp, _ in batch.records], np.int64)
        fresh, batch.ids, batch.expired = self._dedupe.fresh(ids, times)
        if not fresh.all():
            batch.records = [r for r, new in zip(batch.records, fresh.tolist(), strict=True) if new]
        return batch

    # -- fold -----------------------------------------------------------------------------

    def fold(self, batch: Decoded) -> Write:
        """What this batch wants stored."""
        self._rows.make_room()
        self._slates.make_room()
        newest = max([self.fence.newest, *batch.stamps])
        fence = Fence(self.fence.topic_id, self.fence.partitions, batch.next, newest, VERSION)
        write = Write("people", self.partition, batch.first, fence, generation=self.generation)
        turn = Turn(write, batch.first)
        for run in runs(batch.records):
            if isinstance(run[0][1], Action):
                self._act(run, turn)
            else:
                for offset, event in run:
                    self._told(offset, event, turn)
        arms, moments = self._slates.join(told(batch.records), write)
        self._store(turn)
        for bucket, ids in batch.ids.items():
            write.append(keys.dedupe(self.partition, bucket, self.generation), ids.tobytes())
        write.deleted += [
            keys.dedupe(self.partition, bucket, self.generation) for bucket in batch.expired
        ]
        entry = facts.encode(facts.Entry(batch.first, batch.next, turn.facts(), arms, moments))
        write.entries.append(
            StreamEntry(
                keys.deltas(self.partition, self.generation),
                b"%d-0" % batch.next,
                {facts.FIELD: entry},
            )
        )
        self.fence = fence
        return write

    def _act(self, run: Sequence[tuple[int, Any]], turn: Turn) -> None:
        acts: list[Action] = [event for _, event in run]
        slots = self._rows.slots([a.person for a in acts])
        order = np.argsort(slots, kind="stable")
        people, who = np.unique(slots[order], return_inverse=True)
        columns = self._columns(
            [run[i][0] for i in order], [acts[i] for i in order], who, len(people)
        )
        rows = self._rows.take(people)
        folded = features.fold(rows, columns)
        self._rows.put(people, rows)
        turn.dirty.update(people.tolist())
        turn.spoke.update(people[folded.recent.present].tolist())
        self._remember_seen(people, columns, folded, turn.write)
        turn.add(columns, folded)
        if (rows["flags"] & features.LINKED).any():
            for position in np.flatnonzero(rows["flags"][who] & features.LINKED):
                self._forward(columns, int(position), acts[order[position]], turn)

    def _columns(
        self, offsets: list[int], acts: list[Action], who: NDArray[np.int64], people: int
    ) -> Columns:
        items, categories = self._items, self._categories
        time = np.array([a.occurred_at for a in acts], np.int64)
        received = np.array([a.received_at for a in acts], np.int64)
        return Columns(
            who=who,
            offset=np.array(offsets, np.int64),
            item=np.array([items[a.item_id] for a in acts], np.uint64),
            category=np.array([categories[a.category] for a in acts], np.uint32),
            time=time,
            action=np.array([CODE[a.action] for a in acts], np.uint8),
            session=np.array(
                [_xxh(a.session_id.encode()) or 1 if a.session_id else 0 for a in acts], np.uint64
            ),
            known=np.array([a.known for a in acts], np.bool_),
            late=received - time > LATE_MS,
            people=people,
        )

    def _remember_seen(
        self, people: NDArray[np.int64], columns: Columns, folded: Folded, write: Write
    ) -> None:
        """Appends to the seen set what the list did not just hold, to the hidden set what was hidden."""
        new = RECENT[columns.action]
        new[folded.entered] = ~folded.met
        self._append(b"s", people, columns.who[new], columns.item[new], write)
        hides = columns.action == HIDE
        self._append(b"h", people, columns.who[hides], columns.item[hides], write)

    def _append(
        self,
        prefix: bytes,
        people: NDArray[np.int64],
        who: NDArray[np.int64],
        item: NDArray[np.uint64],
        write: Write,
    ) -> None:
        if not len(who):
            return
        cuts = np.flatnonzero(np.diff(who)) + 1
        starts, ends = [0, *cuts.tolist()], [*cuts.tolist(), len(who)]
        data = item.tobytes()
        for start, end, slot in zip(starts, ends, people[who[starts]].tolist(), strict=True):
            write.append(prefix + self._rows.key(slot)[1:], data[8 * start : 8 * end])

    def _store(self, turn: Turn) -> None:
        """The rows that changed, and where a release is at hand the vectors it makes of them; who says
        nothing to it has none."""
        dirty = np.array(sorted(turn.dirty), np.int64)
        rows, write = self._rows.take(dirty), turn.write
        write.values.update(self._rows.packed(dirty, rows))
        if self.encoder is None or not turn.spoke:
            return
        spoke = np.array([slot in turn.spoke for slot in dirty.tolist()], np.bool_)
        made = self.encoder.stored(rows if spoke.all() else rows[spoke])
        for slot, vector in zip(dirty[spoke].tolist(), made, strict=True):
            key = b"v" + self._rows.key(slot)[1:]
            if vector is None:
                write.deleted.append(key)
            else:
                write.values[key] = vector

    # -- what is said about a person ------------------------------------------------------

    def _told(self, offset: int, event: events.Event, turn: Turn) -> None:
        if isinstance(event, Preferences):
            turn.write.values[keys.preferences(self.partition, event.person, self.generation)] = (
                events.encode(event)
            )
        elif isinstance(event, Link):
            self._link(offset, event, turn)
        elif isinstance(event, Merge):
            self._merge(event, turn)

    def _link(self, offset: int, event: Link, turn: Turn) -> None:
        """The first link wins; what the anonymous id did so far goes to the person it is."""
        slots = self._rows.slots([event.person])
        rows = self._rows.take(slots)
        if rows["flags"][0] & features.LINKED or event.to == event.person:
            return
        rows["flags"] |= features.LINKED
        rows["version"] = features.VERSION
        self._rows.put(slots, rows)
        turn.dirty.update(slots.tolist())
        self._links[event.person] = event.to
        turn.write.values[keys.link(self.partition, event.person, self.generation)] = (
            event.to.encode()
        )
        row = rows[0]
        merge = Merge(
            person=event.to,
            source=self.partition,
            offset=offset,
            n=1,
            received_at=event.received_at,
            counts=tuple(row["counts"].tolist()),
            entered=int(row["n"]),
            first=int(row["first"]),
            newest=int(row["newest"]),
            recent=tuple(
                MergedAction(item, category, time * 1000 + ms, action)
                for item, time, ms, category, action in ring.recent(row).tolist()
            ),
            seen=self._stored(b"s", int(slots[0]), turn.write),
            hidden=self._stored(b"h", int(slots[0]), turn.write),
        )
        self._send(merge, turn)

    def _stored(self, prefix: bytes, slot: int, write: Write) -> tuple[int, ...]:
        key = prefix + self._rows.key(slot)[1:]
        data = (self._fetch([key])[0] or b"") + write.appends.get(key, b"")
        return tuple(np.frombuffer(data, "<u8").tolist())

    def _forward(self, columns: Columns, i: int, action: Action, turn: Turn) -> None:
        """A linked id acted again: the person it is hears of it."""
        code, item = int(columns.action[i]), int(columns.item[i])
        recent = ACTIONS[code].recent and not columns.late[i]
        self._send(
            Merge(
                person=Pseudonym(self._link_of(action.person)),
                source=self.partition,
                offset=int(columns.offset[i]),
                n=1,
                received_at=action.received_at,
                counts=tuple(int(code == c) for c in range(len(ACTIONS))),
                entered=int(recent),
                first=action.occurred_at,
                newest=action.occurred_at,
                recent=(MergedAction(item, int(columns.category[i]), action.occurred_at, code),)
                if recent
                else (),
                seen=(item,) if ACTIONS[code].recent else (),
                hidden=(item,) if code == HIDE else (),
            ),
            turn,
        )

    def _link_of(self, person: str) -> str:
        if person not in self._links:
            held = self._fetch([keys.link(self.partition, person, self.generation)])[0]
            self._links[person] = (held or b"").decode()
        return self._links[person]

    def _send(self, merge: Merge, turn: Turn) -> None:
        turn.write.entries.append(
            StreamEntry(
                keys.outbox(self.partition, self.generation),
                b"%d-%d" % (merge.offset, merge.n),
                {b"k": merge.person.encode(), b"v": events.encode(merge)},
            )
        )

    def _merge(self, event: Merge, turn: Turn) -> None:
        """Takes what another partition sent, unless its number was here before. No facts."""
        number = (event.offset, event.n)
        if number <= self._received.get(event.source, (-1, 0)):
            return
        self._received[event.source] = number
        turn.write.fields.setdefault(keys.received(self.partition, self.generation), {})[
            b"%d" % event.source
        ] = b"%d-%d" % number
        slots = self._rows.slots([event.person])
        rows = self._rows.take(slots)
        row = rows[0]
        row["version"] = features.VERSION
        row["counts"] += np.array(event.counts, np.uint32)
        row["first"] = min(filter(None, (int(row["first"]), event.first)), default=0)
        row["newest"] = max(int(row["newest"]), event.newest)
        entries = [
            (time * 1000 + ms, item, category, action)
            for item, time, ms, category, action in ring.recent(row).tolist()
        ] + [(a.at, a.item, a.category, a.action) for a in event.recent]
        row["n"] += event.entered
        row["window"] = np.roll(row["window"], event.entered % window.LAG)  # its slots count by n
        ring.write(row, sorted(entries)[-ring.SIZE :], int(row["n"]))
        self._rows.put(slots, rows)
        turn.dirty.update(slots.tolist())
        turn.spoke.update(slots.tolist())
        for prefix, items in ((b"s", event.seen), (b"h", event.hidden)):
            if items:
                key = prefix + self._rows.key(int(slots[0]))[1:]
                turn.write.append(key, np.array(items, "<u8").tobytes())
