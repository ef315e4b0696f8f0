"""A decision by the kernel is the one that Python defines. A score depends on nobody else in the list, and no
answer on the numbers of slots.

List-wise steps, which do look at the others: the scores of what the ranker was not asked about lie below the
least of those it ranked, the caps, the fresh item, the draw, and one variant a group. They change who is
shown and in what order, never the columns of an item, its row or what the ranker says of it.
"""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.kernels.loading import kernel
from serving.decide.case import Ask
from serving.decide.decide import decide, decide_by_numpy
from serving.decide.results import Decision
from tests.support import drawn_worlds
from tests.support.decisions import Seeds, Setting, assert_same, made, seeds

compiled = pytest.mark.skipif(kernel is None, reason="no kernel was built")
MERGED = "ranker"
"""The contribution whose effect is a score: that of an item that was ranked is its own."""


@compiled
@given(seeds)
def test_the_kernel_decides_as_python_does(of: Seeds) -> None:
    setting = made(of)
    assert_same(_decided(setting, setting.ask), _by_numpy(setting, setting.ask))


@pytest.mark.check
@compiled
@settings(max_examples=12)
@given(st.builds(Seeds, drawn_worlds.large, *[st.integers(0, 2**32 - 1)] * 3))
def test_the_kernel_scores_the_same_of_more_than_can_be_scored(of: Seeds) -> None:
    setting = made(of)
    assert_same(_decided(setting, setting.ask), _by_numpy(setting, setting.ask))


@given(seeds, st.data())
def test_a_score_depends_on_nobody_else_in_the_list(of: Seeds, data: st.DataObject) -> None:
    setting = made(of)._replace(explain="full")
    one = _decided(setting, setting.ask)
    ids = [it.item_id for it in one.items]
    gone = tuple(data.draw(st.lists(st.sampled_from(ids), unique=True))) if ids else ()
    rest = replace(setting.ask, exclude=(*setting.ask.exclude, *gone))
    other = {it.item_id: it for it in _decided(setting, rest).items}
    for item in one.items:
        alone = other.get(item.item_id)
        # what stands for a group counts what the others of it bring, so their presence is its own
        if alone is None or item.group:
            continue
        own, others = ({it.feature: it for it in each.contributions} for each in (item, alone))
        for feature in own.keys() - {MERGED, "fatigue"}:
            assert own[feature] == others[feature]
        if item.features and alone.features:
            assert item.features == alone.features
        if MERGED in own and MERGED in others:
            assert own[MERGED] == others[MERGED]
            assert item.score == alone.score


@given(seeds, st.integers(1, 5))
def test_no_answer_depends_on_the_numbers_of_slots(of: Seeds, order: int) -> None:
    setting = made(of)
    shuffled = replace(drawn_worlds.world(of.shape, order), recipe=setting.world.recipe)
    one, other = (
        _decided(setting, setting.ask),
        _decided(setting._replace(world=shuffled), setting.ask),
    )
    assert_same(_without_slots(one), _without_slots(other))


def _without_slots(decision: Decision) -> Decision:
    return decision._replace(items=[it._replace(slot=0) for it in decision.items])


def _decided(setting: Setting, ask: Ask) -> Decision:
    return decide(setting.person, setting.world, ask, setting.explain)


def _by_numpy(setting: Setting, ask: Ask) -> Decision:
    return decide_by_numpy(setting.person, setting.world, ask, setting.explain)
