"""Facts that are packed before they are encoded give the entry that the columns give."""

from __future__ import annotations

from itertools import accumulate

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from schemas.state import facts

byte, u32, u64 = st.integers(0, 255), st.integers(0, 2**32 - 1), st.integers(0, 2**64 - 1)
PAIR = st.tuples(u64, byte)
FACT = st.tuples(u32, u64, u32, byte, byte, st.lists(PAIR, max_size=3))
Drawn = list[tuple[int, int, int, int, int, list[tuple[int, int]]]]


def actions(drawn: Drawn) -> facts.Actions:
    columns = list(zip(*[(*it[:5], len(it[5])) for it in drawn], strict=True)) or [()] * 6
    pairs = [list(it) for it in zip(*[pair for it in drawn for pair in it[5]], strict=True)]
    types = (np.uint32, np.uint64, np.uint32, np.uint8, np.uint8, np.uint8, np.uint64, np.uint8)
    held = [*columns, *(pairs or [[], []])]
    return facts.Actions(*[np.array(it, of) for it, of in zip(held, types, strict=True)])


@given(st.lists(st.lists(FACT, max_size=4), min_size=1, max_size=4), st.integers(0, 2**40))
def test_packed_facts_of_several_partitions_are_the_entries_of_each(
    drawn: list[Drawn], first: int
) -> None:
    whole = actions([it for its in drawn for it in its])
    stops = list(accumulate(map(len, drawn)))
    pair_stops = list(accumulate(sum(len(it[5]) for it in its) for its in drawn))
    entries = [facts.encode(facts.Delta(first, first + 9, actions(its))) for its in drawn]
    for pack in (facts.packed_few, facts.packed_actions):
        packed = pack(whole, stops, pair_stops)
        assert [facts.encode_plain(first, first + 9, it) for it in packed] == entries
        empty = facts.Delta(first, first + 9)
        assert [facts.encode(empty, it.sections()) for it in packed] == entries
        assert [facts.encode(facts.Delta(first, first + 9, it.whole())) for it in packed] == entries
