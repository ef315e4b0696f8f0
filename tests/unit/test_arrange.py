"""The category cap: never broken in the head unless the answer says so."""

from __future__ import annotations

from collections import Counter

from hypothesis import example, given
from hypothesis import strategies as st

from serving.arrange import CATEGORY_CAP, HEAD, arrange, cap

orders = st.lists(st.integers(0, 4), max_size=60)
counts = st.integers(1, 100)
shares = st.floats(0, 1)


@given(orders, counts, shares)
@example([1] * 20, 10, 0.3)
def test_the_cap_holds_in_the_head_or_is_reported(
    kinds: list[int], count: int, share: float
) -> None:
    taken, relaxed = arrange(enumerate(kinds), count, share)
    head = Counter(kinds[place] for place in taken[:HEAD] if kinds[place])
    assert relaxed in ((), (CATEGORY_CAP,))
    assert relaxed or all(n <= cap(share, count) for n in head.values())


@given(orders, counts, shares)
def test_as_many_as_there_are_each_once(kinds: list[int], count: int, share: float) -> None:
    taken, _ = arrange(enumerate(kinds), count, share)
    assert len(taken) == min(count, len(kinds)) == len(set(taken))


@given(orders, counts, shares)
def test_it_is_greedy(kinds: list[int], count: int, share: float) -> None:
    """Whoever was passed over stands behind no one of their own category."""
    taken, _ = arrange(enumerate(kinds), count, share)
    for category in set(kinds):
        own = [place for place in taken if kinds[place] == category]
        first = [place for place, kind in enumerate(kinds) if kind == category]
        assert own == first[: len(own)]


@given(orders, counts, shares)
def test_relaxed_only_where_candidates_ran_out(kinds: list[int], count: int, share: float) -> None:
    _, relaxed = arrange(enumerate(kinds), count, share)
    most = cap(share, count)
    possible = sum(min(n, most) if kind else n for kind, n in Counter(kinds).items())
    short = possible < min(HEAD, count) and possible < len(kinds)
    assert bool(relaxed) == short


def test_by_hand() -> None:
    # c1 c1 c1 c1 c2 c3 ...: the fourth of c1 waits until the head is full
    kinds = [1, 1, 1, 1, 2, 3, 4, 5, 6, 7, 8, 9, 2]
    assert arrange(enumerate(kinds), 12, 0.3) == ([0, 1, 2, 4, 5, 6, 7, 8, 9, 10, 3, 11], ())


def test_lifted_where_the_request_filters_on_category() -> None:
    assert arrange(enumerate([1] * 5), 4, 0.3, lifted=True) == ([0, 1, 2, 3], (CATEGORY_CAP,))
