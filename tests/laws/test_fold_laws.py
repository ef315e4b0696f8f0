"""Laws 3, 4, 9, 11, 12 and 13 of the commit: properties of the fold, for any log, cut anyhow."""

from __future__ import annotations

import ast
import random
import struct
from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from flows.people.batch import deduped, read_of
from flows.people.outcome_records import repeated
from models.dedupe import WINDOW_BUCKETS, Deduper, action_identity, identities
from models.features import registry, ring
from models.features.plain import Event
from models.features.registry import FEATURES, read_row
from models.reference import recents, seen
from models.reference.dedupe import name_of
from models.reference.partition import Partition
from models.reference.sample import Sample
from models.seen import SeenItems, by_item, of_person, read
from schemas import events
from schemas.actions import ACTIONS
from schemas.identity import item_hash
from schemas.keys import PLAIN
from tests.laws.world import DAY, T0, Memory, Record, action, fold_log, log_of, person, served

ROOT = Path(__file__).resolve().parents[2]
NAMES = [a.name for a in ACTIONS]
CLOCKS = {"datetime.now", "datetime.utcnow", "datetime.today", "date.today"}
SEEDED = ("default_rng", "PCG64", "Philox", "SeedSequence", "Generator")
SPARED = {
    "models/kernels/loading.py",  # whether there is a kernel: an environment variable
    "models/kernels/build.py",  # runs a compiler, at the installation
    "models/release/write.py",  # a release is complete on disk or not there: that takes the file system
    "models/release/runtime.py",  # its library must not write at home: an environment variable
}

HALF_HOUR = 30 * 60_000
splits = st.lists(st.integers(1, 60), max_size=5)
gaps = st.sampled_from([0, 1, 900, 1000, 60_000, HALF_HOUR, HALF_HOUR + 1, DAY])
one_action = st.fixed_dictionaries(
    {
        "who": st.integers(1, 3),
        "item": st.sampled_from([f"i{n}" for n in range(12)]),
        "what": st.sampled_from([*NAMES, "click", "view", "view"]),
        "gap": gaps,
        "back": st.sampled_from([0, 0, 0, 0, 5000, DAY, 9 * DAY]),
        "session": st.sampled_from(["", "", "s1", "s2"]),
        "known": st.sampled_from([True, True, True, False]),
        "group": st.sampled_from(["", "", "g1"]),
        "again": st.sampled_from([False] * 9 + [True]),
    }
)


def build(drawn: Sequence[dict[str, Any]]) -> list[Record]:
    """A log out of what hypothesis drew: times that jump back, repeated events, late ones."""
    made: list[events.Event] = []
    now = T0
    for n, d in enumerate(drawn):
        now += d["gap"]
        if d["again"] and made:
            made.append(made[n // 2])
            continue
        made.append(
            action(
                n,
                d["who"],
                d["item"],
                d["what"],
                at=now - d["back"],
                received_at=now,
                session_id=d["session"],
                known=d["known"],
                group=d.get("group", ""),
            )
        )
    return log_of(made)


def plain(log: Sequence[Record]) -> defaultdict[str, list[Event]]:
    """Each person's actions, as the slow definitions take them: marked where they were taken back."""
    reference = Partition(DAY, Sample(None))
    for offset, timestamp, event in log:
        reference.take(offset, timestamp, event)
    kept = {name: person.kept for name, person in reference.people.items()}
    return defaultdict(list, {name: history.acts for name, history in kept.items() if history})


@given(st.lists(one_action, min_size=1, max_size=150), st.lists(st.integers(1, 60), max_size=5))
def test_law_4_any_split_of_the_log_gives_the_same_state(
    drawn: list[dict[str, object]], sizes: list[int]
) -> None:
    log = build(drawn)
    whole, one_by_one = fold_log(log), fold_log(log, [1], restart=True)
    pieces = fold_log(log, sizes, restart=len(sizes) % 2 == 0)
    assert whole.state() == one_by_one.state() == pieces.state()
    assert whole.all_facts() == one_by_one.all_facts() == pieces.all_facts()


LIKED = {"who": 1, "item": "i0", "gap": 0, "back": 0, "session": "", "known": True}
LIKED |= {"group": "", "again": False}


@given(st.lists(one_action, min_size=1, max_size=150), st.lists(st.integers(1, 60), max_size=5))
@example([{**LIKED, "what": "like"}, {**LIKED, "what": "unlike"}], [])
def test_law_11_every_feature_equals_its_reference(
    drawn: list[dict[str, object]], sizes: list[int]
) -> None:
    log = build(drawn)
    memory = fold_log(log, sizes)
    histories = plain(log)
    for who in (1, 2, 3):
        history = histories[person(who)]
        row = read_row(memory.values.get(PLAIN.row(0, person(who))))
        assert (row["version"] == 0) == (not history)
        for feature in FEATURES:
            if history:
                assert feature.value(row) == feature.reference(history), feature.name


MERGES = (
    events.Merge(
        person=person(1),
        source=0,
        offset=3,
        n=1,
        received_at=9,
        counts=(1, 0, 2),
        entered=2,
        first=5,
        newest=8_000,
        recent=(events.MergedAction(1, 2, 5, 0), events.MergedAction(3, 2, 8_000, 2)),
    ),
)


@given(st.lists(one_action, min_size=1, max_size=150), st.integers(0, 150), st.booleans())
def test_law_11_every_reference_goes_on_from_its_own_value(
    drawn: list[dict[str, object]], cut: int, merged_before: bool
) -> None:
    log = build(drawn)
    histories = plain(log)
    for who in (1, 2, 3):
        history = histories[person(who)]
        head, tail = (MERGES, ()) if merged_before else ((), MERGES)
        for feature in FEATURES:
            before = feature.reference(history[:cut], head)
            whole = feature.reference(history, MERGES)
            assert feature.reference(history[cut:], tail, before) == whole, feature.name
            assert feature.reference([], (), whole) == whole, feature.name


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("sizes", [[500], [1], [37, 90]])
def test_law_11_lists_at_their_bounds_equal_their_definition(seed: int, sizes: list[int]) -> None:
    """One person, 400 actions in order, more items than the list holds and than a session pairs."""
    rnd = random.Random(seed)
    made = [
        action(n, 1, f"i{rnd.randrange(rnd.choice([5, 60, 75]))}", session_id=f"s{n // 60}")
        for n in range(400)
    ]
    log = log_of(made)
    check_facts_and_sets(log, fold_log(log, sizes))
    row = read_row(fold_log(log, sizes).values[PLAIN.row(0, person(1))])
    history = plain(log)[person(1)]
    for feature in FEATURES:
        assert feature.value(row) == feature.reference(history), feature.name


@given(st.lists(one_action, min_size=1, max_size=120), st.lists(st.integers(1, 60), max_size=5))
def test_law_11_facts_and_sets_equal_their_plain_definitions(
    drawn: list[dict[str, object]], sizes: list[int]
) -> None:
    log = build(drawn)
    check_facts_and_sets(log, fold_log(log, sizes))


@given(
    st.lists(one_action, min_size=60, max_size=150),
    st.lists(st.integers(1, 60), max_size=5),
    st.integers(1, 12),
)
def test_law_4_a_small_bound_of_seen_items_holds_for_any_split(
    drawn: list[dict[str, object]], sizes: list[int], max_seen: int
) -> None:
    log = build([{**d, "who": 1} for d in drawn])
    memory = fold_log(log, sizes, max_seen=max_seen)
    whole = fold_log(log, max_seen=max_seen)
    assert memory.state() == whole.state()
    string = recents.seen(plain(log)[person(1)], max_seen)
    assert read(memory.values.get(PLAIN.seen(0, person(1)))).tolist() == string.entries


def check_facts_and_sets(log: Sequence[Record], memory: Memory, people: int = 3) -> None:
    expected = []
    histories = plain(log)
    for who in range(1, people + 1):
        history = histories[person(who)]
        for e, partners in recents.facts(history):
            mates, lags = tuple(p for p, _ in partners), tuple(lag for _, lag in partners)
            expected.append((e.offset, e.item, e.time // 1000, e.action, mates, lags))
        check_seen(memory, who, history)
        held = memory.values.get(PLAIN.overflow(0, person(who)))
        list_ = recents.after(history)
        assert [*struct.unpack(f"<{len(held or b'') // 4}I", held or b"")] == list_.overflow
        flags = read_row(memory.values.get(PLAIN.row(0, person(who))))["flags"]
        assert bool(flags & registry.OVERFLOW) == bool(list_.overflow)
    backs = set(memory.backs())  # what an unlike takes back is no fact of the list
    assert [fact for fact in memory.all_facts() if fact[:4] not in backs] == sorted(expected)


def check_seen(memory: Memory, who: int, history: Sequence[Event]) -> None:
    """The string is its slow definition's; with the list it says what all actions together say."""
    row, string = read_row(memory.values.get(PLAIN.row(0, person(who)))), recents.seen(history)
    held = read(memory.values.get(PLAIN.seen(0, person(who))))
    assert held.tolist() == string.entries
    assert (row["seen_n"], row["seen_limit"]) == (len(string.entries), string.limit)
    every = seen.by_item(
        [(e.item, e.time // 1000, seen.bits_of(e.action, e.time % 1000)) for e in history]
        + [
            (e.group, e.time // 1000, 4)
            for e in history
            if e.group and NAMES[e.action] == "purchase"
        ]
    )
    assert acted(memory, who) == {item: it[:2] for item, it in every.items() if it.bits}
    assert since(memory, who) == {item: it.since for item, it in every.items() if it.showing}


def acted(memory: Memory, who: int) -> dict[int, tuple[int, int]]:
    """Item -> bits and time of what the person did."""
    it = seen_by(memory, who)
    return {
        item: (bits, time)
        for item, bits, time in zip(
            it.item.tolist(), it.bits.tolist(), it.time.tolist(), strict=True
        )
        if bits
    }


def since(memory: Memory, who: int) -> dict[int, int]:
    """Item -> when it was hidden, disliked or shown again last."""
    it = seen_by(memory, who)
    return {i: at for i, at in zip(it.item.tolist(), it.since.tolist(), strict=True) if at}


def seen_by(memory: Memory, who: int) -> SeenItems:
    row = read_row(memory.values.get(PLAIN.row(0, person(who))))
    return by_item(of_person(read(memory.values.get(PLAIN.seen(0, person(who)))), row))


@pytest.mark.parametrize("later", [0, 60])
@pytest.mark.parametrize(
    ("first", "second", "hidden"),
    [
        ("like", "hide", True),
        ("hide", "like", False),
        ("dislike", "unhide", False),
        ("unhide", "dislike", True),
        ("like", "dislike", True),
        ("dislike", "like", False),
    ],
)
def test_of_opposites_in_one_second_the_later_wins(
    first: str, second: str, hidden: bool, later: int
) -> None:
    """In whatever order they come, in the list or out of it."""
    both = [action(1, what=first, at=T0 + 300), action(2, what=second, at=T0 + 800)]
    others = [action(n, item=f"o{n}", what="view") for n in range(3, 3 + later)]
    for opposites in (both, both[::-1]):
        found = seen_by(fold_log(log_of([*opposites, *others]), [1]), 1)
        assert found.hidden[found.item == item_hash("i1")].tolist() == [hidden]


@given(st.lists(one_action, min_size=2, max_size=100), st.randoms(use_true_random=False))
def test_law_11_commutative_features_do_not_see_the_order(
    drawn: list[dict[str, object]], rnd: random.Random
) -> None:
    log = build([{**d, "again": False} for d in drawn])
    shuffled = [e for _, _, e in log]
    rnd.shuffle(shuffled)
    one, other = fold_log(log, [7]), fold_log(log_of(shuffled), [11])
    for who in (1, 2, 3):
        a, b = (read_row(m.values.get(PLAIN.row(0, person(who)))) for m in (one, other))
        for feature in FEATURES:
            if feature.order == "commutative":
                assert feature.value(a) == feature.value(b), feature.name
        assert unflagged(a) == unflagged(b)
        assert acted(one, who) == acted(other, who)


def unflagged(row: Any) -> list[Any]:
    """The list without the flags of its entries, which say how they came in."""
    return [key[:5] for key in ring.keys(row)]


def test_law_11_what_says_it_is_log_ordered_is() -> None:
    made = [action(n, 1, f"i{n}", session_id=f"s{n % 2}", at=T0 + n * DAY) for n in range(6)]
    one, other = (
        read_row(fold_log(log_of(order)).values[PLAIN.row(0, person(1))])
        for order in (made, made[::-1])
    )
    for feature in FEATURES:
        assert (feature.value(one) == feature.value(other)) == (feature.order == "commutative")


def test_law_9_gaps_in_the_log_are_no_gaps_in_the_batches() -> None:
    dense = log_of([action(n) for n in range(6)])
    gappy = [(2 * offset + 5, timestamp, e) for offset, timestamp, e in dense]
    memory = fold_log(gappy, [2])
    assert [fields for _, fields in memory.streams[PLAIN.deltas(0)]]
    assert [fact[0] for fact in memory.all_facts()] == [5, 7, 9]  # and 3 more fell to the cap


@given(
    st.lists(st.tuples(st.integers(1, 25), st.integers(-3, 12)), min_size=1, max_size=80),
    st.lists(st.integers(1, 9), max_size=4),
)
def test_law_12_a_hit_counts_within_the_window_of_the_running_maximum(
    drawn: list[tuple[int, int]], sizes: list[int]
) -> None:
    width, deduper = 1000, Deduper(window=4000)
    times = np.maximum.accumulate(np.array([0, *[step for _, step in drawn]]).cumsum())[1:] * 300
    times = times - np.array([(i * 7) % 5 * 400 for i, _ in drawn])  # clocks run apart
    times = np.maximum(times, 0)
    ids = np.array([i for i, _ in drawn], np.uint64)
    expected, held, top = [], {}, 0  # type: ignore[var-annotated]
    for i, t in zip(ids.tolist(), times.tolist(), strict=True):
        top = max(top, t // width)
        hit = any(top - WINDOW_BUCKETS <= b <= top for b in held.get(i, ()))
        expected.append(not hit)
        if not hit and t // width >= top - WINDOW_BUCKETS:
            held.setdefault(i, set()).add(t // width)
    at = 0
    found: list[bool] = []
    sizes = sizes or [len(ids)]
    while at < len(ids):
        size = sizes[len(found) % len(sizes)]
        found += deduper.fresh(ids[at : at + size], times[at : at + size])[0].tolist()
        at += size
    assert found == expected


def test_law_12_a_repeat_within_the_window_is_dropped_and_the_window_forgets() -> None:
    once = [action(1), action(2, item="i2")]
    memory = fold_log(log_of([*once, *once]), [1], restart=True)
    assert read_row(memory.values[PLAIN.row(0, person(1))])["n"] == 2
    later = [(offset, T0 + offset * 2 * DAY, e) for offset, _, e in log_of([*once, *once])]
    forgotten = fold_log(later, [1], restart=True)
    assert read_row(forgotten.values[PLAIN.row(0, person(1))])["n"] == 4
    assert sum(key.startswith(b"dd:") for key in forgotten.values) == 1  # old buckets are deleted


def test_law_13_an_import_is_not_late() -> None:
    ancient = T0 - 900 * DAY
    imported, late = (
        fold_log(log_of([action(1, at=ancient, received_at=received)]))
        for received in (ancient, T0)
    )
    assert read_row(imported.values[PLAIN.row(0, person(1))])["n"] == 1
    assert read_row(late.values[PLAIN.row(0, person(1))])["n"] == 0
    assert read_row(late.values[PLAIN.row(0, person(1))])["counts"].sum() == 1
    assert late.all_facts()  # it counts in sums
    assert late.all_facts() == imported.all_facts()


def order(lines: Sequence[tuple[str, str, bool]], n: int = 1, who: int = 1) -> list[events.Action]:
    """The lines of one order under one event id: (item, action, taken back)."""
    return [action(n, who, item, what, negative=back) for item, what, back in lines]


lines = st.lists(
    st.tuples(st.sampled_from("abc"), st.sampled_from(["purchase", "like"]), st.booleans()),
    max_size=12,
).map(lambda drawn: [(item, what, back and what == "purchase") for item, what, back in drawn])


@given(st.lists(st.tuples(st.integers(1, 2), st.integers(1, 3), lines), max_size=6), splits)
def test_law_12_each_line_of_an_order_counts_once_and_what_is_dropped_is_tallied(
    orders: list[tuple[int, int, list[tuple[str, str, bool]]]], sizes: list[int]
) -> None:
    made = [e for n, who, each in orders for e in order(each, n, who)]
    memory = fold_log(log_of(made), sizes, restart=len(sizes) % 2 == 0)
    names = {(e.person, e.event_id, e.item_id, e.action, e.negative) for e in made}
    total = 0
    for who in (1, 2, 3):
        row = read_row(memory.values.get(PLAIN.row(0, person(who))))
        mine = [e for e in made if e.person == person(who)]
        assert row["counts"].sum() == sum(name[0] == person(who) for name in names)
        assert row["duplicates"] == len(mine) - row["counts"].sum()
        total += int(row["duplicates"])
    tallies = memory.hashes.get(PLAIN.tallies(0), {})
    assert tallies.get(b"duplicate", b"0") == b"%d" % total
    assert memory.counts["duplicate"] == total


def test_law_12_no_two_names_are_equal_and_a_person_is_no_piece_of_an_action() -> None:
    """Joined without a separator, the first two and the second two would be one."""
    made: list[events.Action | events.Served | events.Preferences] = [
        action(1, item="ab", what="view"),
        *order([("b", "purchase", False), ("b", "purchase", True)]),
        action(1, item="b", what="purchase", event_id="e1b"),
        served("e1"),
        served("e1", who=2),
        events.Preferences(event_id="e1", person=person(1), received_at=T0),
    ]
    _, whole = identities(made)
    assert len(set(whole.tolist())) == len(made)
    assert len({name_of(e) for e in made}) == len(made)
    same, other = action(1, 2, "ab", "view", quantity=3), action(1, 1, "ab", "view")
    assert action_identity(same) == action_identity(other)
    alike, other_id = identities([same])
    assert other_id[0] != whole[0]
    assert alike[0] == action_identity(same)


def test_records_of_other_kinds_are_tallied_by_their_kind() -> None:
    made: list[events.Event] = [
        served("s1"),
        events.Preferences(event_id="e1", person=person(1), received_at=T0),
    ]
    memory = fold_log(log_of([*made, *made, made[0]]), [2])
    expected = {b"duplicate_served": b"2", b"duplicate_preferences": b"1"}
    assert memory.hashes[PLAIN.tallies(0)] == expected
    assert PLAIN.row(0, person(1)) not in memory.values


def test_dropped_purchases_that_name_a_slate_are_handed_on() -> None:
    first = action(1, item="a", what="purchase")
    again = [msgspec.structs.replace(first, slate_id=slate) for slate in ("s1", "")]
    records = log_of([first, *again, action(2), action(2, slate_id="s1")])
    batch = deduped(read_of(0, 0, 5, records), [Deduper(DAY)])
    assert batch.offsets.tolist() == [0, 3]
    assert batch.dropped is not None
    assert batch.dropped.offsets.tolist() == [1, 2, 4]
    attributing = np.flatnonzero(repeated(batch.dropped.columns))
    assert batch.dropped.at(attributing) == [records[1]]


PURE = {
    "acts",
    "batch",
    "changed",
    "fold",
    "layers",
    "links",
    "listings",
    "partition",
    "read",
    "rows",
}
PURE |= {"slates", "transfer"}
"""The modules of `people` that fold."""


def pure(room: str) -> list[Path]:
    if room == "flows/people":
        return [ROOT / room / f"{name}.py" for name in PURE]
    return list((ROOT / room).rglob("*.py"))


@pytest.mark.parametrize("room", ["models", "flows/people", "schemas"])
def test_law_3_a_fold_uses_no_clock_no_chance_no_socket(room: str) -> None:
    forbidden = {"time", "random", "secrets", "socket", "uuid", "os", "redis", "kafka", "requests"}
    forbidden |= {"datetime"}
    for path in pure(room):
        if path.is_relative_to(ROOT / "models" / "training"):
            continue  # an application, like a flow
        if str(path.relative_to(ROOT)) in SPARED:
            continue
        for node in ast.walk(ast.parse(path.read_text())):
            names = (
                [a.name for a in node.names]
                if isinstance(node, ast.Import)
                else [node.module or ""]
                if isinstance(node, ast.ImportFrom)
                else []
            )
            if path != ROOT / "schemas" / "times.py":  # the format of a time, not the clock
                assert not {n.split(".")[0] for n in names} & forbidden, (path.name, names)
            if isinstance(node, ast.Call):
                called = ast.unparse(node.func)
                assert called not in CLOCKS, (path.name, called)
                if called.startswith(("np.random.", "numpy.random.")) or called in SEEDED:
                    # chance comes in as an argument: a generator, or the seed of one
                    assert called.rpartition(".")[2] in SEEDED, (path.name, called)
                    assert node.args, (path.name, called)


def test_law_3_the_same_log_twice_gives_the_same_bytes() -> None:
    log = log_of([action(n, n % 3, f"i{n % 7}") for n in range(200)])
    one, other = fold_log(log, [13]), fold_log(log, [13])
    assert one.state() == other.state()
    assert one.streams == other.streams
