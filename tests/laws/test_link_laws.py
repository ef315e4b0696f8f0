"""Laws 4 and 7 of links: whenever and however often an outbox arrives, everything counts once.

Two anonymous ids in partitions of their own are (or are not) linked to people of a third. What their
outboxes send is put into the people's log anywhere among what the people do, in order, with repetitions.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from flows.people.batch import read_of
from flows.people.layers import layers
from models import seen
from models.aggregates.tables import Tables
from models.features import counts, ring
from models.features.registry import read_row
from models.outcomes import impressions
from models.outcomes.join import STATE_BY_ACTION
from models.reference import recents
from models.reference import seen as reference
from schemas import events
from schemas.events import Action, Link, Linking, Merge, Served, Unlink
from schemas.identity import category_hash, item_hash
from schemas.keys import PLAIN
from schemas.state import links
from schemas.state.facts import STATES
from tests.laws.world import (
    T0,
    Memory,
    action,
    assigned,
    fold_log,
    log_of,
    person,
    served,
)

ANN, BEN, USER, OTHER = 1, 2, 3, 4
HOME = 2
"""Partition of the people; Ann's is 0, Ben's 1."""
ITEMS = [f"i{n}" for n in range(6)]
EXPERIMENTS = {ANN: (assigned("x"),), BEN: (assigned("x", "b"),), USER: (assigned("x"),), OTHER: ()}
one_record = st.fixed_dictionaries(
    {
        "who": st.sampled_from([ANN, ANN, BEN, USER, USER, OTHER]),
        "what": st.sampled_from(
            ["served", "display", "click", "click", "purchase", "view", "hide"]
        ),
        "item": st.sampled_from(ITEMS),
        "slate": st.tuples(st.sampled_from([ANN, ANN, BEN, USER, OTHER]), st.integers(0, 3)),
        "named": st.sampled_from([True, True, True, False]),
        "back": st.sampled_from([0, 0, 0, 5_000, 9 * 86_400_000]),
    }
)
MONEY: dict[str, tuple[str, dict[str, Any]]] = {
    "order": ("purchase", {"amount": 1900, "currency": "EUR", "quantity": 2}),
    "refund": ("purchase", {"amount": 1900, "currency": "EUR", "negative": True}),
    "gift": ("purchase", {}),
    "like": ("like", {}),
    "unlike": ("unlike", {}),
}
"""Purchases, of which some are told of under two ids, likes, and what takes them back."""
purchases = st.fixed_dictionaries(
    {
        "who": st.sampled_from([ANN, ANN, BEN, USER, USER, OTHER]),
        "what": st.sampled_from(["served", "display", "click", *MONEY, "order", "refund"]),
        "item": st.sampled_from(["i0", "i1"]),
        "slate": st.tuples(st.sampled_from([ANN, USER]), st.integers(0, 3)),
        "named": st.booleans(),
        "back": st.sampled_from([0, 0, 5_000]),
    }
)
records = st.lists(one_record, min_size=1, max_size=60)
records_with_money = st.lists(one_record | purchases, min_size=1, max_size=60)
law = settings(max_examples=80, deadline=None)
splits = st.lists(st.integers(1, 20), max_size=4)


class Case(NamedTuple):
    """The records of each id's partition in order, without those that outboxes send."""

    logs: dict[int, list[events.Event]]
    """Ann's, Ben's, the people's."""


def made(n: int, d: dict[str, Any]) -> events.Event:
    who, (owner, number) = d["who"], d["slate"]
    if d["what"] == "served":
        items = [ITEMS[(number + at) % len(ITEMS)] for at in range(3)]
        drawn = {"explored": number, "experiments": EXPERIMENTS[who]}
        return served(f"s{who}-{number}", items, who, T0 + n * 1000, **drawn)
    at = T0 + n * 1000
    # what a purchase without a slate converts depends on the order of the records
    slate = f"s{owner}-{number}" if d["named"] or d["what"] == "purchase" else ""
    times = {"at": at - d["back"], "received_at": at}
    if d["what"] in MONEY:
        what, more = MONEY[d["what"]]
        named = slate if d["named"] else ""
        order = {"event_id": f"o{number}"} if what == "purchase" else {}
        return action(n, who, d["item"], what, slate_id=named, **more, **order, **times)
    return action(n, who, d["item"], d["what"], slate_id=slate, **times)


def partition(who: int) -> int:
    return {ANN: 0, BEN: 1}.get(who, HOME)


def case(drawn: Sequence[dict[str, Any]], linked: Sequence[tuple[int, int, int]]) -> Case:
    """`linked`: (place among all records, anonymous id, person); each link has its mark. A person below 0: an
    unlink from -person."""
    logs: dict[int, list[events.Event]] = {0: [], 1: [], HOME: []}
    waiting = sorted(linked)
    for n, d in enumerate([*drawn, None]):
        while waiting and (d is None or waiting[0][0] <= n):
            place, of, to = waiting.pop(0)
            name, at = f"l{place}-{of}-{to}", T0 + n * 1000 - 500
            if to < 0:
                end = Unlink(event_id=name, person=person(of), to=person(-to), received_at=at)
                logs[partition(of)].append(end)
                continue
            logs[partition(of)].append(
                Link(event_id=name, person=person(of), to=person(to), received_at=at)
            )
            logs[HOME].append(Linking(person=person(to), of=person(of), link=name, received_at=at))
        if d is not None:
            event = made(n, d)
            logs[partition(d["who"])].append(event)
    return Case(logs)


def sent(memory: Memory, source: int) -> list[events.Event]:
    return [events.decode_stored(f[b"v"]) for _, f in memory.streams.get(PLAIN.outbox(source), [])]


def interleaved(
    own: Sequence[events.Event], outboxes: Iterable[Sequence[events.Event]], rnd: Any
) -> list[events.Event]:
    """All records in one log: each source in order, with repeats as of a restarted relay."""
    sources = [list(own), *map(list, outboxes)]
    at, log = [0] * len(sources), []
    while open_ := [n for n, source in enumerate(sources) if at[n] < len(source)]:
        n = rnd.choice(open_)
        log.append(sources[n][at[n]])
        at[n] += 1
        if n and rnd.random() < 0.2:
            log += sources[n][rnd.randrange(at[n]) : at[n]]
    return log


class Folded(NamedTuple):
    memories: list[Memory]
    """By partition."""
    log: list[events.Event]
    """The log of the people, with the records that were sent to them."""

    @property
    def home(self) -> Memory:
        return self.memories[HOME]


def folded(made: Case, rnd: Any, sizes: Sequence[int] = (), strangers: int = 0) -> Folded:
    sources = [
        fold_log(log_of(made.logs[p]), sizes, partition=p, strangers=strangers) for p in (0, 1)
    ]
    log = interleaved(made.logs[HOME], [sent(m, p) for p, m in enumerate(sources)], rnd)
    restart = len(sizes) % 2 == 0
    home = fold_log(log_of(log), sizes, partition=HOME, restart=restart, strangers=strangers)
    return Folded([*sources, home], log)


# -- the expected state, from the sets of records alone ---------------------------------------


class Owners:
    """Whose each record is: between two unlinks, an anonymous id's records are those of the person that the
    first link there names; without a link they are the id's own. `won`: the links that had an effect."""

    def __init__(self, made: Case) -> None:
        self._of: dict[int, str] = {}
        self._before: set[int] = set()
        self.won: list[Link] = []
        for log in made.logs.values():
            since: dict[str, list[events.Event]] = {}
            linked: dict[str, str] = {}
            for event in unrepeated(log):
                since.setdefault(event.person, []).append(event)
                if isinstance(event, Link) and event.person not in linked:
                    linked[event.person] = event.to
                    self.won.append(event)
                if isinstance(event, Unlink) and linked.get(event.person) == event.to:
                    self._before.update(map(id, since[event.person]))
                    self._take(since.pop(event.person), linked.pop(event.person))
            for one, records in since.items():
                self._take(records, linked.get(one, one))

    def of(self, event: events.Event) -> str:
        return self._of[id(event)]

    def last(self, event: events.Event) -> bool:
        """Whether no unlink of its anonymous id came after the record."""
        return id(event) not in self._before

    def _take(self, records: Iterable[events.Event], owner: str) -> None:
        self._of.update((id(event), owner) for event in records)


def unrepeated(log: Iterable[events.Event]) -> Iterator[events.Event]:
    """All records without repetitions: of two records of one event the first counts."""
    seen: set[tuple[str, str]] = set()
    for event in log:
        if not isinstance(event, Merge) and (event.person, event.event_id) not in seen:
            seen.add((event.person, event.event_id))
            yield event


def everything(made: Case) -> Iterator[events.Event]:
    for log in made.logs.values():
        yield from unrepeated(log)


class Expected:
    """`slots`: (placement, item, state) -> how often. `units`: counts of each (id, experiment)."""

    def __init__(self, made: Case) -> None:
        self.owners = Owners(made)
        links_won = [(link.person, link.to) for link in self.owners.won]
        self.linked_again = len(links_won) > len(set(links_won))
        """A unit of an id that is linked to one person again goes on as it was before."""
        slates = {e.slate_id: e for e in everything(made) if isinstance(e, Served)}
        self.slates = slates
        self.acts = [e for e in everything(made) if isinstance(e, Action)]
        states = {(s, item): {0} for s, e in slates.items() for item in e.items}
        for e in self.acts:
            slate = slates.get(e.slate_id)
            if slate is None or self.owners.of(e) != self.owners.of(slate):
                continue
            if e.action in STATE_BY_ACTION and (e.slate_id, e.item_id) in states:
                states[e.slate_id, e.item_id].add(STATE_BY_ACTION[e.action])
        self.slots: Counter[object] = Counter()
        self.units: dict[tuple[str, str, str], list[int]] = {}
        for (name, item), reached in states.items():
            slate = slates[name]
            self.slots.update((category_hash("home"), item_hash(item), state) for state in reached)
            for each in slate.experiments:
                unit = (slate.person, self.owners.of(slate), each.variant)
                held = self.units.setdefault(unit, [0] * len(STATES))
                for state in reached:
                    held[state] += 1

    def check_sums(self, memories: Sequence[Memory]) -> None:
        found = Counter(row[1:4] for p, m in enumerate(memories) for row in m.arms(p))
        assert found == self.slots
        tables = Tables(len(memories))
        for p, memory in enumerate(memories):
            for entry in memory.entries(p):
                tables.apply(p, entry)
        rows = {int(row["variant"]): row for row in tables.moments.of("x", 1)}
        for variant in ("a", "b"):
            units = [held for (_, _, named), held in self.units.items() if named == variant]
            if not units:
                assert category_hash(variant) not in rows
                continue
            row, counted = rows[category_hash(variant)], np.array(units, np.int64)
            assert row["sums"].tolist() == counted.sum(0).tolist()
            if self.linked_again:
                continue
            assert row["units"] == len(units)
            assert row["squares"].tolist() == (counted.T @ counted).tolist()

    def check_person(self, memory: Memory, who: int) -> None:
        """The actions of a person and of all ids linked to them, in any partition."""
        mine = [e for e in self.acts if self.owners.of(e) == person(who)]
        plain = [
            event
            for one in {e.person for e in mine}
            for event in recents.by_person((n, e) for n, e in enumerate(mine) if e.person == one)[
                one
            ]
        ]
        row = read_row(memory.values.get(PLAIN.row(HOME, person(who))))
        if plain:
            assert counts.value(row) == counts.reference(plain)
            entered, entries = ring.reference(plain)
            assert int(row["n"]) == entered
            # the flags of an entry say how it came into a list, and these are other lists
            assert [key[:5] for key in ring.keys(row)] == [
                ring.key(entry)[:5] for entry in reversed(entries)
            ]
        string = seen.read(memory.values.get(PLAIN.seen(HOME, person(who))))
        assert row["seen_n"] == len(string)
        found = seen.by_item(seen.of_person(string, row))
        every = reference.by_item(
            (e.item, e.time // 1000, reference.bits_of(e.action, e.time % 1000)) for e in plain
        )
        some = {item: it for item, it in every.items() if it.bits or it.showing}
        assert found.item.tolist() == sorted(some)
        assert found.bits.tolist() == [some[item].bits for item in sorted(some)]
        assert found.time.tolist() == [some[item].time for item in sorted(some)]
        assert found.since.tolist() == [some[item].since for item in sorted(some)]
        shown = impressions.read(memory.values.get(PLAIN.impressions(HOME, person(who))))
        slates = [s for s in self.slates.values() if self.owners.of(s) == person(who)]
        assert impressions.value(shown) == impressions.reference(
            (s.received_at // 1000, [item_hash(item) for item in dict.fromkeys(s.items)])
            for s in sorted(slates, key=lambda s: s.received_at)
        )

    def check_anonymous(self, memories: Sequence[Memory]) -> None:
        """Nothing of before its last unlink is stored of an anonymous id."""
        for of in (ANN, BEN):
            p = partition(of)
            plain = [
                event
                for one in recents.by_person(
                    (n, e)
                    for n, e in enumerate(self.acts)
                    if e.person == person(of) and self.owners.last(e)
                ).values()
                for event in one
            ]
            blob = memories[p].values.get(PLAIN.row(p, person(of)))
            assert counts.value(read_row(blob)) == counts.reference(plain)
            string = seen.read(memories[p].values.get(PLAIN.seen(p, person(of))))
            assert string.tolist() == recents.seen(plain).entries
            shown = impressions.read(memories[p].values.get(PLAIN.impressions(p, person(of))))
            slates = [s for s in self.slates.values() if s.person == person(of)]
            expected = {item_hash(i) for s in slates if self.owners.last(s) for i in s.items}
            assert set(shown["item"].tolist()) == expected

    def check_links(self, memory: Memory, who: int) -> None:
        held = links.decode(memory.values.get(PLAIN.link(HOME, person(who))))
        won = {(e.received_at, e.person) for e in self.owners.won if e.to == person(who)}
        earliest = min([s.received_at for s in self.slates.values() if s.person == person(who)],
                       default=None)  # fmt: skip
        # of two links of one id to the same person the first is the one
        early = {(at, of) for at, of in won if earliest is None or at <= earliest}
        assert held.pending == 0
        assert held.first == (min(early)[1] if early else "")


linkings = st.lists(
    st.tuples(
        st.integers(0, 60),
        st.sampled_from([ANN, ANN, BEN]),
        st.sampled_from([USER, USER, OTHER, -USER, -USER, -OTHER]),
    ),
    max_size=6,
)


@law
@given(records, linkings, splits, st.randoms(use_true_random=False))
def test_everything_counts_once_whenever_an_outbox_arrives(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], sizes: list[int], rnd: Any
) -> None:
    check(case(drawn, linked), rnd, sizes)


@pytest.mark.parametrize("seed", range(20))
def test_everything_counts_once_in_a_crowded_log(seed: int) -> None:
    """Ann and Ben are linked and unlinked, once and again, in the middle of much that comes of their
    slates."""
    rnd = random.Random(seed)
    drawn = [
        {
            "who": rnd.choice([ANN, ANN, BEN, USER, USER, OTHER]),
            "what": rnd.choice(["served", "display", "click", "click", "purchase", "hide"]),
            "item": rnd.choice(ITEMS),
            "slate": (rnd.choice([ANN, ANN, BEN, USER, OTHER]), rnd.randrange(4)),
            "named": rnd.random() < 0.9,
            "back": rnd.choice([0, 0, 0, 5_000]),
        }
        for _ in range(rnd.choice([40, 200]))
    ]
    linked = [
        (rnd.randrange(len(drawn)), of, rnd.choice([USER, USER, OTHER, -USER, -OTHER]))
        for of in (ANN, ANN, BEN, ANN, ANN, BEN, BEN)[: rnd.choice([3, 7])]
    ]
    check(case(drawn, linked), rnd, [rnd.randrange(1, 30) for _ in range(3)])


def check(made: Case, rnd: Any, sizes: Sequence[int]) -> None:
    done, expected = folded(made, rnd, sizes), Expected(made)
    expected.check_sums(done.memories)
    for who in (USER, OTHER):
        expected.check_person(done.home, who)
        expected.check_links(done.home, who)
    expected.check_anonymous(done.memories)
    # what they did counts where they did it (three times a day, with what a merge brought among it)
    acted = {offset for offset, event in enumerate(done.log) if isinstance(event, Action)}
    assert {fact[0] for fact in done.home.all_facts(HOME)} <= acted


@law
@given(records_with_money, linkings, splits, st.randoms(use_true_random=False))
def test_law_4_any_split_gives_the_same_state_with_links(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], sizes: list[int], rnd: Any
) -> None:
    made = case(drawn, linked)
    log = folded(made, rnd).log
    for p, of in ((0, made.logs[0]), (1, made.logs[1]), (HOME, log)):
        if not of:
            continue
        whole = fold_log(log_of(of), partition=p)
        single = fold_log(log_of(of), [1], partition=p, restart=True)
        pieces = fold_log(log_of(of), sizes, partition=p, restart=len(sizes) % 2 == 0)
        assert whole.state() == single.state() == pieces.state()
        assert whole.arms(p) == single.arms(p) == pieces.arms(p)
        assert whole.moments(p) == single.moments(p) == pieces.moments(p)


def test_one_persons_links_do_not_split_the_runs_of_actions_of_others() -> None:
    """One list more each time that a person turns from acting to being merged, whatever the log does."""
    mixed: list[events.Event] = []
    for n in range(40):
        who = person(n % 4)
        mixed.append(action(n, n % 8, f"i{n}"))
        mixed.append(Merge(person=who, source=1, offset=n, n=1, received_at=T0, of=person(9)))
        mixed.append(events.Preferences(event_id=f"p{n}", person=who, received_at=T0))
    columns = read_of(0, 0, len(mixed), log_of(mixed)).columns
    people = [person(n) for n in range(8)]
    slots = [-1 if type(it) is events.Preferences else people.index(it.person) for it in mixed]
    cut = [layer.tolist() for layer in layers(columns.kind, np.array(slots))]
    assert [{type(mixed[row]) for row in layer} for layer in cut] == [{Action}, {Merge}] * 5
    for n in range(8):
        theirs = [row for layer in cut for row in layer if mixed[row].person == person(n)]
        assert theirs == sorted(theirs)
    assert sum(map(len, cut)) == 80


@law
@given(records_with_money, linkings, st.randoms(use_true_random=False))
def test_law_7_what_is_sent_twice_changes_nothing(
    drawn: list[dict[str, Any]], linked: list[tuple[int, int, int]], rnd: Any
) -> None:
    log = folded(case(drawn, linked), rnd).log
    numbers: set[object] = set()
    once = []
    for event in log:
        if isinstance(event, Merge):
            if (event.source, event.offset, event.n) in numbers:
                continue
            numbers.add((event.source, event.offset, event.n))
        once.append(event)
    one, twice = (fold_log(log_of(it), partition=HOME) for it in (once, log))
    for state in (one, twice):
        for key in [key for key in state.values if key.startswith(b"dd:")]:
            del state.values[key]  # buckets are of record times, and these logs differ in length
    assert one.state() == twice.state()
    assert [row[1:] for row in one.arms(HOME)] == [row[1:] for row in twice.arms(HOME)]
