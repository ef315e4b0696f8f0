"""Chunks are gathered for speed: no row is lost, doubled or moved, wherever the file ends."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from hypothesis import given
from hypothesis import strategies as st

from infra.apps.bulk_import.gather import MAX_ROWS, gathered
from infra.datasets.rows import Chunk, Fault, NotReadable

SIZES = st.lists(
    st.tuples(st.sampled_from([0, 1, 7, MAX_ROWS - 1, 2 * MAX_ROWS + 3]), st.integers(0, 2))
)


def chunks(sizes: list[tuple[int, int]], cut: bool) -> Iterator[Chunk]:
    line = 1
    for rows, faults in sizes:
        lines = range(line, line + rows)
        bad = [Fault(line + rows + n, "line", "malformed_json") for n in range(faults)]
        yield Chunk([b"%d" % it for it in lines], lines, bad)
        line += rows + faults
    if cut:
        raise NotReadable("cut")


@given(SIZES, st.booleans())
def test_the_rows_and_faults_are_the_same(sizes: list[tuple[int, int]], cut: bool) -> None:
    given_ = [*chunks(sizes, cut=False)]
    found = []
    try:
        for chunk in gathered(chunks(sizes, cut)):
            found.append(chunk)
        assert not cut
    except NotReadable:
        assert cut
    assert [b for it in found for b in it.bodies] == [b for it in given_ for b in it.bodies]
    assert [n for it in found for n in it.lines] == [n for it in given_ for n in it.lines]
    assert [f for it in found for f in it.faults] == [f for it in given_ for f in it.faults]
    assert all(len(it.bodies) == len(it.lines) < 2 * MAX_ROWS + 3 for it in found)


def test_faults_alone_do_not_pile_up() -> None:
    bad = [Chunk([], [], [Fault(1, "line", "malformed_json")] * 600)] * 100
    sizes = [len(it.faults) for it in gathered(iter(bad))]
    assert sum(sizes) == 60_000
    assert max(sizes) < 2 * MAX_ROWS


def test_what_came_before_the_cut_comes_first() -> None:
    found = gathered(chunks([(3, 0)], cut=True))
    assert next(found).bodies == [b"1", b"2", b"3"]
    with pytest.raises(NotReadable):
        next(found)
