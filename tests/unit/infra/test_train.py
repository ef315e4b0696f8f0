"""From a log to a release: what a trainer may use for each choice, and its result."""

from __future__ import annotations

import io
from dataclasses import replace

import msgspec
import numpy as np
import pytest
from numpy.typing import NDArray
from rich.console import Console

from flows.offline.history import Log
from flows.offline.records import Records
from flows.snapshots.until import BadUntil
from infra.apps.replay.ranks import SINGLE_SOURCES, CandidateLists, ShownRanks, single_source
from infra.apps.replay.scenes import FEATURES, RECIPE, TrainingReplay
from infra.apps.train import arms, publish, run
from infra.apps.train.arms import STRANGERS
from infra.apps.train.log import TooLittle, cut, interactions, split_by_time
from infra.apps.train.run import Sizes
from infra.apps.train.trained import TrainedRelease
from infra.datasets.generated import generated
from infra.datasets.movielens import Dataset
from infra.settings import Settings
from infra.terminal.progress import Reporter
from models.evaluation import ranking
from models.evaluation.gate import BUILT_IN, COARSE, RANKER, at_most, judge
from models.evaluation.ranking import gains
from models.release.release import Release, Space
from models.training.dataset import SHARES
from schemas.events import Action
from schemas.identity import item_hash
from schemas.state.counting import FORMAT_1
from serving.decide.columns import COLUMN_NAMES
from serving.edge.identity import People
from tests.support import demo_data

PEOPLE = People(demo_data.KEY, demo_data.PARTITIONS)
SETTINGS = Settings(partitions=demo_data.PARTITIONS)
SIZES = Sizes(train=220, judge=110, choose=30)
RATINGS = 6_000


def small() -> Log:
    whole = generated()
    return demo_data.log(Dataset(whole.items, whole.ratings[:RATINGS], whole.source), PEOPLE)


LOG = small()


@pytest.fixture(scope="module")
def made() -> TrainedRelease:
    return train()


def train(log: Log = LOG) -> TrainedRelease:
    said = Reporter(Console(file=io.StringIO()))
    return run.train(log, SETTINGS, said, SIZES)


def no_progress(count: int) -> None:
    pass


def test_targets_are_later_than_what_vectors_are_learnt_from_and_first_choices() -> None:
    done = interactions(LOG)
    planned = split_by_time(LOG, done, 300, 200)
    assert (len(planned.train), len(planned.judge)) == (300, 200)
    assert min(it.now for it in planned.train) // 1000 >= planned.learnt
    assert max(it.now for it in planned.train) < min(it.now for it in planned.judge)
    choices = done.time[done.first & done.earlier & done.clear]
    assert abs((choices // 1000 < planned.learnt).mean() - SHARES[0][0]) < 0.05
    for target in (*planned.train, *planned.judge):
        mine = [
            (offset, event)
            for offset, _, event in LOG.events[target.partition]
            if isinstance(event, Action) and event.person == target.person
        ]
        own = next(event for offset, event in mine if offset == target.offset)
        assert (own.action, item_hash(own.item_id)) == ("like", target.item)
        earlier = [event for offset, event in mine if offset < target.offset]
        assert earlier
        assert target.item not in {item_hash(event.item_id) for event in earlier}


def test_neither_state_nor_table_knows_the_choice_or_anything_later() -> None:
    planned = split_by_time(LOG, interactions(LOG), 60, 60)
    replay = TrainingReplay(LOG, planned.judge, SETTINGS)
    basis = Release(
        "basis", (), {}, Space(np.empty(0, np.uint64), np.empty((0, 64), np.float32), np.zeros_like)
    )
    times = np.array(replay.facts.entry(0, len(replay.facts)).actions.time)
    for target, person, world in replay.play(planned.judge, basis, no_progress):
        position = world.tables.meta.positions[0]
        assert times[:position].max() < target.now // 1000
        assert target.item not in set(person.seen["item"].tolist())
        assert target.item not in set(person.row["ring"]["item"].tolist())
        mine = {
            item_hash(event.item_id)
            for offset, _, event in LOG.events[target.partition]
            if isinstance(event, Action)
            and event.person == target.person
            and offset < target.offset
        }
        assert set(person.seen["item"].tolist()) == mine


def test_a_log_that_is_too_small_is_refused_with_a_sentence() -> None:
    tiny = LOG._replace(events=[records[:50] for records in LOG.events])
    with pytest.raises(TooLittle, match="too small"):
        train(tiny)
    with pytest.raises(TooLittle, match="nothing"):
        train(LOG._replace(events=[Records(), Records(), Records()]))


def test_a_log_is_cut_at_a_time_or_at_offsets() -> None:
    whole = interactions(LOG)
    middle = int(whole.time[len(whole.time) // 2])
    seconds = np.datetime64(middle, "ms").astype("datetime64[s]")
    earlier = interactions(cut(LOG, f"{seconds}Z"))
    assert len(earlier.time) == int((whole.time < int(seconds.astype(np.int64)) * 1000).sum())
    assert [len(records) for records in cut(LOG, "10.0.7").events] == [10, 0, 7]
    assert cut(LOG, "") == LOG
    for bad in ("yesterday", "10.0", "2026-11-23T00:00:00", "1.2.x"):
        with pytest.raises(BadUntil, match="--until takes"):
            cut(LOG, bad)


def test_the_trainer_makes_a_release_that_can_serve(made: TrainedRelease) -> None:
    every = {item_hash(item.item_id) for item in LOG.items}
    assert set(made.hashes.tolist()) == every
    assert made.learnt.vectors.any(axis=1).mean() > 0.99  # also those of items without actions
    assert {*SINGLE_SOURCES, STRANGERS, BUILT_IN, COARSE, RANKER} == set(made.arms)
    assert set(made.verdicts) == {COARSE, RANKER}
    assert set(made.features) <= COLUMN_NAMES
    assert made.counting.fault == ""
    assert made.data.events == RATINGS
    assert made.data.offsets == tuple(len(records) for records in LOG.events)
    checks = made.verdicts[RANKER].conditions
    assert {it.name: it.passed for it in checks} == {"parity": True, "latency": True, "size": True}


def test_what_was_judged_is_what_is_released(made: TrainedRelease) -> None:
    planned = split_by_time(LOG, interactions(LOG), SIZES.train, SIZES.judge)
    replay = TrainingReplay(LOG, planned.judge, SETTINGS)
    chosen = at_most(np.array([it.person for it in planned.judge]))
    targets = [planned.judge[n] for n in chosen.tolist()]
    shown = ShownRanks({"alone": RECIPE})
    for scene in replay.play(targets, made.release("again"), no_progress):
        shown.add(scene)
    judged = COARSE if made.model is None else RANKER
    assert ranking.ndcg(shown.ranks["alone"]) == pytest.approx(made.arms[judged].ndcg, abs=1e-5)


def test_the_release_that_serves_is_a_rival_with_what_is_its_own(made: TrainedRelease) -> None:
    planned = split_by_time(LOG, interactions(LOG), 10, 30)
    replay = TrainingReplay(LOG, planned.judge, SETTINGS)
    said, release = Reporter(Console(file=io.StringIO())), made.release("new")
    other = replace(release, id="old", counting=FORMAT_1, coarse={"popular": 1.0}, rank=None)
    found = arms.play(replay, planned.judge, release, replace(release, id="old"), said)
    serves = COARSE if made.model is None else RANKER
    assert np.array_equal(found[arms.PARENT], found[serves])
    older = arms.play(replay, planned.judge, release, other, said)
    assert not np.array_equal(older[arms.PARENT], older[serves])
    assert all(np.array_equal(older[name], found[name]) for name in found if name != arms.PARENT)


def test_the_best_of_the_two_is_kept_and_the_verdict_is_on_it(made: TrainedRelease) -> None:
    assert made.verdict == made.verdicts[COARSE if made.model is None else RANKER]
    assert made.released == any(it.released for it in made.verdicts.values())
    if not made.released:
        assert (made.model is not None) == (made.arms[RANKER].ndcg >= made.arms[COARSE].ndcg)
    assert made.arms[COARSE].ndcg > made.arms["popular_90d"].ndcg  # these people do have tastes


def test_the_manifest_has_verdicts_with_intervals(made: TrainedRelease) -> None:
    metrics = msgspec.json.decode(msgspec.json.encode(made.metrics))
    assert metrics["released"] == made.released
    for name, verdict in made.verdicts.items():
        its = metrics["gate"][name]
        assert its["outcome"] == verdict.outcome
        assert its["lower"] <= its["ratio"] <= its["upper"]
        assert its["rival"] in its["rivals"]
        assert its["n"] == metrics["choices"]["judged"]
    for arm in metrics["arms"].values():
        assert arm["ndcg_at_10_lo"] <= arm["ndcg_at_10"] <= arm["ndcg_at_10_hi"]


def test_an_evaluation_says_when_an_item_comes_back(made: TrainedRelease) -> None:
    assert made.metrics["repeat"] == msgspec.structs.asdict(RECIPE.repeat)
    printed = io.StringIO()
    publish.summary(made, Reporter(Console(file=printed, width=200)))
    assert "comes back after a view: never, after a click: never," in printed.getvalue()
    assert made.metrics["data"]["dropped"] == dict(made.dropped)
    for reason, count in made.dropped.items():
        assert f"{reason} {count:,}" in printed.getvalue()


def test_the_same_log_gives_the_same_release(made: TrainedRelease) -> None:
    again = train()
    assert again.learnt.vectors.tobytes() == made.learnt.vectors.tobytes()
    assert again.learnt.encoder.tobytes() == made.learnt.encoder.tobytes()
    assert again.model == made.model
    assert again.metrics == made.metrics


def test_a_bad_ranker_does_not_pass_the_gate(made: TrainedRelease) -> None:
    planned = split_by_time(LOG, interactions(LOG), 10, 150)
    replay = TrainingReplay(LOG, planned.judge, SETTINGS)
    at = FEATURES.index("covisit")

    def worst(rows: NDArray[np.float32]) -> NDArray[np.float32]:
        return -rows[:, at]

    bad = replace(made.release("bad"), features=FEATURES, rank=worst)
    shown = ShownRanks({RANKER: RECIPE, "covisit": single_source("covisit")})
    listed = CandidateLists()
    for scene in replay.play(planned.judge, bad, no_progress):
        shown.add(scene)
        listed.add(scene)
    person = np.array([target.person for target in planned.judge])
    verdict = judge(RANKER, {name: gains(of) for name, of in shown.ranks.items()}, person)
    assert not verdict.released
    assert "covisit" in verdict.why
    lists = listed.lists(np.empty(0, np.uint64))
    assert lists.rows.shape == (int(lists.size.sum()), len(FEATURES))
    assert int(lists.target.sum()) == len(lists.size)
