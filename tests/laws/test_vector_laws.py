"""A person's vector is a cache: it equals its re-encoding under its tag, exactly (law 4)."""

from __future__ import annotations

import random

import numpy as np
import pytest

from models.features.registry import ROW, read_row
from models.release import content
from models.release.interest import LATEST_ACTIONS, VECTOR_FADING, items
from models.release.person import Encoder, Finder, person_vector
from models.release.release import NO_SPACE, Space
from schemas import events
from schemas.actions import ACTIONS, RECENT, code_of
from schemas.identity import item_hash
from schemas.keys import PLAIN
from schemas.state import vectors
from tests.laws.world import T0, Memory, Record, action, fold_log, log_of, person

NAMES = [a.name for a in ACTIONS]


def space(n: int, seed: int = 0) -> Space:
    """A space of random vectors of the items i0 to i<n - 1>."""
    rng = np.random.default_rng(seed)
    hashes = np.sort(np.array([item_hash(f"i{i}") for i in range(n)], np.uint64))
    made = [content.on_grid(rng.normal(size=content.DIM)) for _ in range(n)]
    return Space(hashes, np.array(made, np.float32).reshape(n, content.DIM), np.zeros_like)


def traffic(seed: int, n: int = 600) -> list[Record]:
    """Forty people, some with few actions; 30 items, some of which the space may lack."""
    rnd = random.Random(seed)
    made: list[events.Event] = []
    for i in range(n):
        who = min(40, int(rnd.paretovariate(0.5)))
        at = T0 + i * 1000 - rnd.choice([0, 0, 0, 90_000])
        made.append(action(i, who, f"i{rnd.randrange(30)}", rnd.choice(NAMES), at=at))
    return log_of(made)


def vector(memory: Memory, who: int) -> vectors.Vector | None:
    held = memory.values.get(PLAIN.vector(0, person(who)))
    return None if held is None else vectors.DECODER.decode(held)


@pytest.mark.parametrize("size", [0, 1, 12, 30])
@pytest.mark.parametrize("sizes", [[1], [37, 90], [600]])
def test_every_vector_equals_its_re_encoding(size: int, sizes: list[int]) -> None:
    release = space(size)
    memory = fold_log(traffic(size), sizes, encoder=Encoder("r1", release))
    some = 0
    for who in range(1, 41):
        row = read_row(memory.values.get(PLAIN.row(0, person(who))))
        plain, complete = person_vector(items(row), release)
        held = vector(memory, who)
        assert (held is not None) == plain.any()
        if held is None:
            continue
        some += 1
        assert (held.release, held.complete) == ("r1", complete)
        grid = np.frombuffer(held.grid, "<i2").astype(np.float32) / np.float32(content.GRID)
        assert (grid == plain).all()
    assert some or not size


def test_a_vector_by_hand_is_a_function_of_the_last_actions() -> None:
    release = space(3)
    log = log_of([action(0, item="i0"), action(1, item="i9"), action(2, item="i1", what="dislike"),
                  action(3, item="i2")])  # fmt: skip
    held = vector(fold_log(log, [2], encoder=Encoder("r1", release)), 1)
    assert held is not None
    assert not held.complete  # i9 is unknown: it takes no rank, like an action without weight
    of = {
        int(h): v.astype(np.float64) for h, v in zip(release.hashes, release.vectors, strict=True)
    }
    total = of[item_hash("i2")] + VECTOR_FADING[1] * of[item_hash("i0")]
    expected = np.rint(total / np.sqrt(total @ total) * content.GRID)
    assert np.frombuffer(held.grid, "<i2").tolist() == expected.tolist()


def test_sums_are_exact_in_any_order() -> None:
    """Batch, single person and serving agree, therefore, in whatever order each adds up."""
    rng = np.random.default_rng(3)
    vectors_ = np.array(
        [content.on_grid(rng.normal(size=content.DIM)) for _ in range(LATEST_ACTIONS + 1)]
    )
    vectors_[1:] = vectors_[0]  # the longest there is
    weights = VECTOR_FADING.astype(np.float32)
    assert (weights == VECTOR_FADING).all()
    one = weights @ vectors_
    order = rng.permutation(LATEST_ACTIONS + 1)
    assert (weights[order] @ vectors_[order] == one).all()
    assert (VECTOR_FADING @ vectors_.astype(np.float64) == one).all()
    squares = np.sort(one.astype(np.float64) ** 2)
    assert squares.sum() == squares[::-1].cumsum()[-1] == one.astype(np.float64) @ one


def test_a_person_whose_actions_the_release_does_not_hold_loses_their_vector() -> None:
    release = space(1)
    log = log_of(
        [action(0, item="i0")] + [action(1 + n, item=f"j{n}") for n in range(LATEST_ACTIONS)]
    )
    encoder = Encoder("r1", release)
    memory = fold_log(log[:LATEST_ACTIONS], [5], encoder=encoder)
    assert vector(memory, 1) is not None
    assert vector(fold_log(log, [5], encoder=encoder), 1) is None


def test_another_release_tags_what_it_makes_and_none_makes_none() -> None:
    log = traffic(5)
    assert not [key for key in fold_log(log).values if key[:2] == b"v:"]
    memory = fold_log(log[:300], encoder=Encoder("r1", space(30, seed=1)))
    before = {who: vector(memory, who) for who in range(1, 41)}
    memory = fold_log(log[300:], memory=memory, encoder=Encoder("r2", space(30, seed=2)))
    after = {who: vector(memory, who) for who in range(1, 41)}
    spoke = {
        int(e.person, 16)
        for _, _, e in log[300:]
        if isinstance(e, events.Action) and RECENT[code_of(e.action, e.negative)]
    }
    for who in range(1, 41):
        if who not in spoke:
            assert after[who] == before[who]
        elif (held := after[who]) is not None:
            assert held.release == "r2"


def test_the_vector_of_a_merged_person_counts_what_they_did_before() -> None:
    link = events.Link(event_id="l", person=person(1), to=person(2), received_at=T0)
    sent = fold_log(log_of([action(0, 1, "i0"), link])).streams[PLAIN.outbox(0)]
    merge = events.decode_stored(sent[0][1][b"v"])
    release = space(1)
    held = vector(fold_log(log_of([merge]), encoder=Encoder("r1", release)), 2)
    assert held is not None
    assert np.frombuffer(held.grid, "<i2").tolist() == (release.vectors[0] * content.GRID).tolist()


@pytest.mark.parametrize("n", [0, 1, 2, 1000])
def test_the_finder_finds_what_the_space_does(n: int) -> None:
    rng = np.random.default_rng(n)
    near = np.uint64(2**64 - 1) - rng.integers(0, 50, n, dtype=np.uint64)  # all in one place
    for hashes in (np.unique(rng.integers(0, 2**64, n, dtype=np.uint64)), np.unique(near)):
        held = Space(hashes, np.zeros((len(hashes), content.DIM), np.float32), np.zeros_like)
        edges = np.array([0, 1, 2**63, 2**64 - 1], np.uint64)
        sought = np.concatenate([hashes, edges, rng.integers(0, 2**64, 500, dtype=np.uint64)])
        assert (Finder(hashes)(sought) == held.find(sought)).all()
    assert len(Finder(hashes)(sought[:0])) == 0


def test_no_history_and_no_space_give_no_vector() -> None:
    rows = np.zeros(3, ROW)
    for release in (NO_SPACE, space(2)):
        encoded = Encoder("r", release).encode(rows)
        assert not encoded.has_vector.any()
        assert not encoded.grid.any()
        assert encoded.complete.all()
