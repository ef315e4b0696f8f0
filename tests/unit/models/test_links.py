"""Links: pending ones, the first id, and slates that move to the other person."""

from __future__ import annotations

import itertools
from collections.abc import Callable

import msgspec
import pytest

from models.features.registry import read_row
from models.outcomes import links
from models.outcomes.holders import MAX_GUESTS
from models.outcomes.join import act, close_account, receive, serve
from models.outcomes.open_slates import Account, Mark, Outcome, decode, encode
from models.outcomes.slots import WINDOW_MS, Assignment, Shown
from models.outcomes.waiting import MAX_OPEN_SLATES
from models.release.person import Encoder
from models.seen import HIDE, VIEW, by_item, of_person, read
from schemas import events
from schemas.events import Link, Linking, Merge, Preferences, Unlink
from schemas.keys import PLAIN
from schemas.state import links as stored
from tests.laws.test_vector_laws import space
from tests.laws.world import T0, action, fold_log, log_of, person, served

CLICKED, CONVERTED = 2, 3
IN_A = [Assignment(7, 1, 70)]
A, B = Mark("ann", "l1", T0), Mark("ben", "l2", T0 + 5)


def shown(n: int, at: int = T0) -> Shown:
    return Shown(n, at + n, 1, [10, 11, 12], explored=3, assigned=IN_A)


def test_the_first_id_is_a_function_of_the_links_in_any_order() -> None:
    steps: list[Callable[[Account], object]] = [
        lambda account: links.mark(account, A),
        lambda account: links.mark(account, B),
        lambda account: links.answer(account, A, lost=False),
        lambda account: links.answer(account, B, lost=False),
        lambda account: serve(account, shown(1, T0 + 1)),
    ]
    for order in itertools.permutations(steps):
        account = Account()
        for step in order:
            step(account)
        assert links.view(account) == stored.Links(first="ann", pending=0)
        assert decode(encode(account)) == account


def test_a_link_counts_while_it_is_on_its_way_and_no_more_once_it_lost() -> None:
    account = Account()
    links.mark(account, B)
    links.mark(account, A)
    assert links.view(account) == stored.Links(first="ann", pending=2)
    links.answer(account, A, lost=True)
    assert links.view(account) == stored.Links(first="ben", pending=1)
    links.answer(account, B, lost=True)
    assert links.view(account) == stored.Links()


@pytest.mark.parametrize(("at", "first"), [(T0 - 1, ""), (T0, "ann"), (T0 + 1, "ann")])
def test_who_was_served_before_keeps_their_own_id(at: int, first: str) -> None:
    account = Account()
    links.answer(account, A, lost=False)
    serve(account, shown(0, at))
    assert links.first(account) == first
    assert links.view(account).pending == 0


def test_pending_and_answered_links_are_bounded() -> None:
    account = Account()
    for n in range(3 * links.MAX_LINKS):
        links.mark(account, Mark("ann", f"p{n}", T0))
        links.answer(account, Mark("ann", f"a{n}", T0), lost=True)
    held = links.of(account)
    assert len(held.pending) == len(held.answered) == links.MAX_LINKS
    assert held.pending[-1].link == f"p{3 * links.MAX_LINKS - 1}"


def test_links_are_stored_and_older_versions_are_read() -> None:
    assert stored.decode(None) == stored.decode(b"") == stored.NONE
    held = stored.Links(first="a" * 32, pending=2)
    assert stored.decode(stored.encode(held)) == held
    assert stored.decode(b"0" * 32) == stored.Links(
        "0" * 32
    )  # as the fold's second version stored it


def test_a_slot_counts_once_for_the_guest_or_the_user() -> None:
    ann, user = Account(), Account()
    serve(ann, shown(1))
    assert act(ann, 1, Outcome(10, CLICKED, T0 + 9)).arms
    act(ann, 2, Outcome(11, CLICKED, T0 + 9))  # of a slate whose record is late
    act(user, 1, Outcome(12, CLICKED, T0 + 9))  # quicker than the link
    transfer = close_account(ann, "user")
    assert (ann.slates, ann.waiting, ann.units) == ([], [], [])
    assert ann.links is not None
    assert ann.links.to == "user"

    arms = receive(user, "ann", transfer).arms
    assert [(arm.item, arm.state, arm.explored) for arm in arms] == [(12, CLICKED, True)]
    assert not act(user, 1, Outcome(10, CLICKED, T0 + 9)).arms
    assert act(user, 1, Outcome(10, CONVERTED, T0 + 9)).arms
    effect = serve(user, shown(2), "ann")
    assert (11, CLICKED) in [arm[1:3] for arm in effect.arms]
    # the unit goes on from what it had
    assert effect.unit_changes[0].before == (3, 0, 2, 1, 0, 0)
    assert effect.unit_changes[0].after == (6, 0, 3, 1, 0, 0)
    assert user.units == []
    assert user.since == 0


def test_a_guest_pushes_out_no_slate_of_the_person_and_guests_are_bounded() -> None:
    user = Account()
    serve(user, shown(1))
    for n in range(2 * MAX_GUESTS):
        for slate in range(MAX_OPEN_SLATES + 3):
            serve(user, shown(100 * n + 10 + slate, T0 + n), f"ann{n}")
    assert user.links is not None
    guests = user.links.guests
    assert [guest.of for guest in guests] == [f"ann{n}" for n in range(MAX_GUESTS, 2 * MAX_GUESTS)]
    assert {len(guest.slates) for guest in guests} == {MAX_OPEN_SLATES}
    assert [slate.id for slate in user.slates] == [1]
    serve(user, shown(1_000_000, T0 + WINDOW_MS))
    assert not any(guest.slates for guest in guests)
    assert all(len(guest.units) == 1 for guest in guests)


# -- the records -------------------------------------------------------------------------------


def test_a_long_seen_list_is_sent_in_several_records_of_bounded_size() -> None:
    items = [f"i{n}" for n in range(9_000)]
    made: list[events.Event] = [action(n, 1, item, "view") for n, item in enumerate(items)]
    made.append(Link(event_id="l", person=person(1), to=person(2), received_at=T0))
    memory = fold_log(log_of(made), [4_000])
    values = [fields[b"v"] for _, fields in memory.streams[PLAIN.outbox(0)]]
    assert max(map(len, values)) < 200_000
    records = [events.decode_stored(value) for value in values]
    assert [(p.offset, p.n, p.link) for p in records if isinstance(p, Merge)] == [
        (9_000, 1, ""),
        (9_000, 2, ""),
        (9_000, 3, "l"),
    ]
    mark = Linking(person=person(2), of=person(1), link="l", received_at=T0)
    for upto, pending in ((1, 1), (2, 1), (3, 0)):
        home = fold_log(log_of([mark, *records[:upto]]), partition=1)
        assert stored.decode(home.values[PLAIN.link(1, person(2))]).pending == pending
    row = read_row(home.values[PLAIN.row(1, person(2))])
    string = read(home.values[PLAIN.seen(1, person(2))])
    assert row["n"] == len(items)
    assert len(by_item(of_person(string, row)).item) == len(items)


def test_a_link_between_two_without_actions_is_answered_and_leaves_no_row() -> None:
    link = Link(event_id="l", person=person(1), to=person(2), received_at=T0)
    sent = fold_log(log_of([link])).streams[PLAIN.outbox(0)]
    [merge] = [events.decode_stored(fields[b"v"]) for _, fields in sent]
    home = fold_log(log_of([merge]), partition=1)
    assert PLAIN.row(1, person(2)) not in home.values
    assert stored.decode(home.values[PLAIN.link(1, person(2))]).first == person(1)


@pytest.mark.parametrize("to", [1, 2])
def test_a_link_to_oneself_and_a_cycle_terminate(to: int) -> None:
    """The API takes neither, but the fold of any log must terminate."""
    made: list[events.Event] = [
        served("s", ["i1"], 1),
        Link(event_id="l1", person=person(1), to=person(to), received_at=T0),
        Link(event_id="l2", person=person(2), to=person(1), received_at=T0),
        action(1, 1, "i1", slate_id="s"),
    ]
    sent: list[events.Event] = []
    for _ in range(4):
        memory = fold_log(log_of([*made, *sent]))
        said = [events.decode_stored(fields[b"v"]) for _, fields in memory.streams[PLAIN.outbox(0)]]
        if len(said) == len(sent):
            break
        sent = said
    assert len(said) == len(sent)
    assert [row[3] for row in memory.arms()].count(CLICKED) <= 1
    assert stored.decode(memory.values.get(PLAIN.link(0, person(1)))).pending == 0


@pytest.mark.parametrize("sizes", [[1], [2], [9]])
def test_an_unlink_deletes_every_key_but_the_verdict(sizes: list[int]) -> None:
    """Also preferences, which the API takes of users only, and a vector of a release."""
    preferences = Preferences(event_id="p", person=person(1), received_at=T0, hidden_items=("i9",))
    made: list[events.Event] = [
        served("s", ["i1"], 1),
        action(1, 1, "i1", slate_id="s"),
        action(2, 1, "i2", "hide"),
        preferences,
        Link(event_id="l", person=person(1), to=person(2), received_at=T0),
        Unlink(event_id="v", person=person(1), to=person(3), received_at=T0),
    ]
    end = Unlink(event_id="u", person=person(1), to=person(2), received_at=T0)
    encoder = Encoder("r", space(3))

    def held(records: list[events.Event]) -> dict[bytes, bytes]:
        values = fold_log(log_of(records), sizes, encoder=encoder).values
        return {
            key[: key.index(b":")]: value
            for key, value in values.items()
            if key.endswith(person(1).encode())
        }

    linked = held(made)
    assert linked.keys() >= {b"u", b"s", b"p", b"l", b"im", b"o", b"v"}
    assert stored.decode(linked[b"l"]) == stored.Links(person(2), by="l")
    ended = held([*made, end])
    assert ended.keys() == {b"l", b"o"}
    assert stored.decode(ended[b"l"]) == stored.Links(by="u")
    assert held([*made, end, msgspec.structs.replace(preferences, event_id="q")]).keys() == {
        b"l", b"o", b"p",
    }  # fmt: skip
    again = held([*made, end, action(9, 1, "i2", "view")])
    assert again.keys() == {b"u", b"l", b"o", b"v"}
    assert again[b"v"] == held([action(9, 1, "i2", "view")])[b"v"]


def test_an_unlink_without_a_link_stores_nothing_of_the_person() -> None:
    end = Unlink(event_id="u", person=person(1), to=person(2), received_at=T0)
    values = fold_log(log_of([end])).values
    assert not [key for key in values if key.endswith(person(1).encode())]


def test_merges_of_the_previous_version_are_read() -> None:
    old = (
        b'{"kind":"merge","person":"%032x","source":0,"offset":7,"n":1,"received_at":%d,'
        b'"counts":[1,0,0,0,0,0,0,0],"entered":1,"first":%d,"newest":%d,"recent":[[5,6,%d,0]],"seen":[5],"hidden":[6]}'
    ) % (2, T0, T0, T0, T0)
    home = fold_log(log_of([events.decode_stored(old)]), partition=1)
    string = read(home.values[PLAIN.seen(1, person(2))])
    assert string.tolist() == [(5, T0 // 1000, VIEW), (6, T0 // 1000, HIDE)]
    assert PLAIN.open_slates(1, person(2)) not in home.values
    assert PLAIN.link(1, person(2)) not in home.values
