"""Whatever bytes the store holds of a person, the kernel answers what Python answers, or both refuse; and
requests at the edges of what may be asked."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing
from schemas.control import Filter, Recipe
from serving.decide import offline
from serving.decide.case import Ask
from serving.decide.decide import decide, decide_by_numpy
from serving.decide.person import EMPTY_PERSON, STORED_FIELDS, Unreadable, decode
from tests.support.decisions import Seeds, Setting, assert_same, made, seeds

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)
DAMAGED = ("row", "seen", "impressions", "vector")


@st.composite
def damaged(draw: st.DrawFn, blob: bytes) -> bytes:
    """Cut anywhere, of another version, with a byte changed, longer, or other bytes."""
    kind = draw(st.sampled_from(["cut", "version", "byte", "longer", "other"]))
    if kind == "cut":
        return blob[: draw(st.integers(0, len(blob)))]
    if kind == "version":
        return draw(st.binary(min_size=2, max_size=2)) + blob[2:]
    if kind == "longer":
        return blob + draw(st.binary(max_size=40))
    if kind == "byte" and blob:
        at = draw(st.integers(0, len(blob) - 1))
        return blob[:at] + draw(st.binary(min_size=1, max_size=1)) + blob[at + 1 :]
    return draw(st.binary(max_size=1400))


@given(seeds, st.data())
def test_damaged_bytes_are_refused_or_decided_as_python_does(
    of: Seeds, data: st.DataObject
) -> None:
    setting = made(of)
    blobs = list(setting.blobs)
    for name in data.draw(st.sets(st.sampled_from(DAMAGED), min_size=1)):
        at = STORED_FIELDS.index(name)
        blobs[at] = data.draw(damaged(blobs[at] or b""))
    try:
        person = decode(blobs)
    except Unreadable:
        return
    arguments = (setting.world, setting.ask, setting.explain)
    assert_same(decide(person, *arguments), decide_by_numpy(decode(blobs), *arguments))


def same(setting: Setting, ask: Ask) -> int:
    """How many items both ways show."""
    arguments = (setting.world, ask, setting.explain)
    one = decide(setting.person, *arguments)
    assert_same(one, decide_by_numpy(setting.person, *arguments))
    return len(one.items)


@settings(max_examples=25)
@given(seeds)
def test_edges_of_what_may_be_asked(of: Seeds) -> None:
    setting = made(of)
    names = setting.world.items.item_ids()
    # more than there is
    assert same(setting, replace(setting.ask, count=len(names) + 100)) <= len(names)
    # nothing is left
    nothing = Filter(types=("no such type",))
    assert same(setting, replace(setting.ask, filter=nothing)) == 0
    assert same(setting, replace(setting.ask, exclude=tuple(names))) == 0
    many = tuple([f"gone{n}" for n in range(10_000 - len(names))])
    assert same(setting, replace(setting.ask, exclude=(*names, *many))) == 0


def test_an_empty_catalogue_shows_nothing() -> None:
    world = offline.world([], recipe=Recipe())
    for ask in (Ask(now=0), Ask(now=2**62, count=100, item_id="i", category="c")):
        one = decide(EMPTY_PERSON, world, ask)
        assert one.items == []
        assert_same(one, decide_by_numpy(EMPTY_PERSON, world, ask))
