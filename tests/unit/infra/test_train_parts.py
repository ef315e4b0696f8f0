"""Parts of the trainer: strangers, slices, checks, and what becomes of a release that loses."""

from __future__ import annotations

import io

import numpy as np
import pytest
from rich.console import Console

from flows.offline.history import Log
from infra.apps.replay.scenes import FEATURES
from infra.apps.train import checks, publish, run, strangers
from infra.apps.train.log import interactions, split_by_time
from infra.apps.train.run import Sizes
from infra.apps.train.slices import FEW, indices, slices
from infra.apps.train.strangers import PopularLists
from infra.apps.train.trained import TrainedRelease
from infra.settings import Settings
from infra.terminal.progress import Reporter
from models.evaluation.gate import COARSE, RANKER
from models.evaluation.ranking import Lists
from models.training import ranker
from schemas.items import Item
from schemas.state.counting import BUILT_IN, only
from schemas.state.tables import WINDOWS, Meta
from serving.decide import offline
from serving.edge.identity import People
from tests.support import demo_data

PEOPLE = People(demo_data.KEY, demo_data.PARTITIONS)
SETTINGS = Settings(partitions=demo_data.PARTITIONS)


def quiet() -> Reporter:
    return Reporter(Console(file=io.StringIO(), width=200))


def small_log(people: int = 200, each: int = 12) -> Log:
    return demo_data.log(demo_data.catalogue(people, each, films=40), PEOPLE)


@pytest.fixture(scope="module")
def kept() -> TrainedRelease:
    """Learnt of people who choose at random: nothing can be told apart."""
    chance, found = np.random.default_rng(0), demo_data.catalogue(200, 12, films=300)
    at_random = [
        it._replace(item_id=found.items[chance.integers(300)].item_id) for it in found.ratings
    ]
    log = demo_data.log(found._replace(ratings=tuple(at_random)), PEOPLE)
    return run.train(log, SETTINGS, quiet(), Sizes(200, 100, 20))


def test_a_release_that_nothing_tells_from_its_rivals_is_kept(kept: TrainedRelease) -> None:
    assert not kept.released
    assert not kept.metrics["released"]
    assert {it.outcome for it in kept.verdicts.values()} <= {"undecided", "refused"}
    said = io.StringIO()
    publish.summary(kept, Reporter(Console(file=said, width=300)))
    assert "needed" in said.getvalue() or "refused" in said.getvalue()
    assert kept.release("kept").counting == kept.counting


def test_what_is_kept_is_the_better_of_the_two(kept: TrainedRelease) -> None:
    assert kept.verdict == kept.verdicts[COARSE if kept.model is None else RANKER]
    better = kept.arms[RANKER].ndcg >= kept.arms[COARSE].ndcg and kept.arms[RANKER].ndcg > 0
    assert (kept.model is not None) == better


def test_the_first_choices_of_people_are_those_of_strangers() -> None:
    log = small_log()
    acts = interactions(log)
    planned = split_by_time(log, acts, 250, 120)
    at = strangers.first_choices(acts, planned)
    assert len(set(acts.person[at].tolist())) == len(at)
    for n in at.tolist():
        assert acts.time[acts.person == acts.person[n]].min() == acts.time[n]
        assert planned.learnt <= acts.time[n] // 1000
        assert acts.time[n] < planned.judged


def test_strangers_are_shown_what_was_popular_before_them() -> None:
    items = [Item(item_id=f"i{n}") for n in range(30)]
    world = offline.world(items)
    hashes = {item.item_id: int(world.items.hash[world.items.find(item.item_id)]) for item in items}
    lists = PopularLists()
    for version, star in ((1, "i3"), (2, "i5")):
        rows = {
            hashes[item.item_id]: np.full(len(WINDOWS), float(item.item_id == star)).tobytes()
            for item in items
        }
        world.tables.load(Meta(version=version, positions=[version], landmarks=[0.0] * 4), {}, rows)
        lists.add(world, 1_000 * version)
        lists.add(world, 1_000 * version + 1)
    time = np.array([500, 1_500, 2_500])
    wanted = np.array([hashes["i3"], hashes["i3"], hashes["i5"]], np.uint64)
    ranks = lists.ranks(time, wanted)
    assert ranks[only("24h")].tolist() == [0, 1, 1]
    acts = interactions(small_log())
    mix, hit_rate = strangers.choose(lists, acts, np.empty(0, np.int64), BUILT_IN.strangers)
    assert (mix, hit_rate) == (BUILT_IN.strangers, 0.0)


def test_slices_are_of_what_was_known_before_the_cut() -> None:
    log = small_log()
    acts = interactions(log)
    planned = split_by_time(log, acts, 250, 120)
    partition, offset = np.array([it[:2] for it in planned.judge]).T
    at = indices(acts, partition, offset)
    assert [int(acts.item[n]) for n in at] == [it.item for it in planned.judge]
    cut = int(acts.time[len(acts.time) // 2])
    found = slices(acts, at, cut, log.items)
    for name, mask in found.items():
        assert mask.shape == at.shape, name
    for n, new, few, rare in zip(
        at.tolist(),
        found["new people"].tolist(),
        found["people with few acts"].tolist(),
        found["new items"].tolist(),
        strict=True,
    ):
        before = acts.time < cut
        mine = int((before & (acts.person == acts.person[n])).sum())
        assert new == (mine == 0)
        assert few == (0 < mine < FEW)
        assert rare == (int((before & (acts.item == acts.item[n])).sum()) < FEW)
    assert {name for name in found if name.startswith("category ")} == {
        "category Drama",
        "category War",
    }


def lists_of(choices: int) -> Lists:
    chance = np.random.default_rng(0)
    rows = chance.random((choices, 20, len(FEATURES)), np.float32)
    target = rows[..., 0].argmax(1)[:, None] == np.arange(20)
    return Lists(rows.reshape(-1, len(FEATURES)), target.ravel(), np.full(choices, 20))


def test_a_blunder_of_speed_size_or_export_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    lists = lists_of(50)
    fitted = ranker.fit(lists, FEATURES, {FEATURES[0]: 1.0})
    model = fitted.export()
    assert all(it.passed for it in checks.check(fitted, model, lists.rows))
    assert all(it.passed for it in checks.check(fitted, model, lists.rows[:0]))
    for name in ("MAX_BYTES", "MAX_MS"):
        monkeypatch.setattr(checks, name, 0)
    other = fitted._replace(start=fitted.start + 1.0)
    failed = {it.name for it in checks.check(other, model, lists.rows) if not it.passed}
    assert failed == {"parity", "latency", "size"}
