"""Learning by itself: vectors that content shares, a ranker that starts from the coarse score."""

from __future__ import annotations

import lightgbm
import numpy as np
import pytest
from numpy.typing import NDArray

from models.evaluation import ranking
from models.evaluation.ranking import Lists, gains
from models.release import artefact, content
from models.training import ranker, vectors
from models.training.onnx import export, in_float32
from models.training.vectors import CoVisits, Learnt, Visits
from schemas.items import Item

GENRES, EACH, PEOPLE = 12, 15, 120
ITEMS = GENRES * EACH
FEATURES = ("flat", "coarse", "signal")
WEIGHTS = {"coarse": 1.0}


def about(items: int = ITEMS) -> NDArray[np.float32]:
    """Content of items: number n is of genre n % GENRES and has a title of its own."""
    made = [
        Item(item_id=f"i{n}", category=f"genre {n % GENRES}", title=f"name{n}")
        for n in range(items)
    ]
    return np.array([content.vector(item) for item in made])


def learn(untouched: int, seed: int = 0) -> Learnt:
    """Each person keeps to two genres, and none acts on item `untouched`."""
    chance = np.random.default_rng(seed)
    person, item = [], []
    for number in range(PEOPLE):
        genres = chance.choice(GENRES, 2, replace=False)
        for genre in genres:
            some = chance.choice(EACH, 8, replace=False) * GENRES + genre
            some = some[some != untouched]
            person += [number] * len(some)
            item += some.tolist()
    one, other = np.array(item[:-1]), np.array(item[1:])
    visits = Visits(np.array(person), np.array(item))
    return vectors.learn(about(), visits, CoVisits(one, other, np.ones(len(one))))


def test_an_untouched_item_lies_near_its_like() -> None:
    untouched = 3
    learnt = learn(untouched)
    cosines = learnt.vectors @ learnt.vectors[untouched]
    near = np.argsort(-cosines)[1:11]
    assert (near % GENRES == untouched % GENRES).mean() >= 0.8
    # it is where the encoder puts an item of this content that comes later
    encode = artefact.encoder(learnt.encoder)
    assert np.array_equal(encode(about()[untouched : untouched + 1])[0], learnt.vectors[untouched])


def test_vectors_lie_on_the_grid_and_no_further_than_one() -> None:
    learnt = learn(3)
    scaled = learnt.vectors * content.GRID
    assert np.array_equal(scaled, np.rint(scaled))
    norms = np.linalg.norm(learnt.vectors, axis=1)
    assert norms.max() <= 1.01
    assert norms[3] < norms[4]  # an item known by its content alone is not similar to all others


def test_the_same_log_gives_the_same_bytes() -> None:
    one, other = learn(3), learn(3)
    assert one.vectors.tobytes() == other.vectors.tobytes()
    assert one.encoder.tobytes() == other.encoder.tobytes()
    assert one.vectors.tobytes() != learn(3, seed=1).vectors.tobytes()


def test_little_or_no_data_gives_valid_vectors() -> None:
    none = np.empty(0, np.int64)
    nothing = vectors.learn(about(5), Visits(none, none), CoVisits(none, none, np.empty(0)))
    assert not nothing.vectors.any()
    assert not nothing.encoder.any()
    few = vectors.learn(
        about(5),
        Visits(np.array([0, 0, 1]), np.array([0, 1, 1])),
        CoVisits(np.array([0]), np.array([1]), np.ones(1)),
    )
    assert float(few.vectors[0] @ few.vectors[1]) > 0.5
    assert np.isfinite(few.vectors).all()


def some_lists(count: int, size: int = 20, seed: int = 0) -> Lists:
    """The target is chosen by `signal`, of which the coarse score holds half."""
    chance = np.random.default_rng(seed)
    rows = chance.random((count, size, 3), np.float32)
    rows[..., 0] = 0.5
    rows[..., 1] = (rows[..., 2] + rows[..., 1]) / 2
    target = np.zeros((count, size), np.bool_)
    best = (rows[..., 2] + 0.1 * chance.random((count, size))).argmax(axis=1)
    target[np.arange(count), best] = True
    return Lists(rows.reshape(-1, 3), target.ravel(), np.full(count, size))


def ndcg(held: Lists, scores: NDArray[np.float64]) -> float:
    size = int(held.size[0])
    by_list, target = scores.reshape(-1, size), held.target.reshape(-1, size)
    return ranking.ndcg(1 + (by_list > by_list[target][:, None]).sum(axis=1))


def test_a_ranker_finds_what_the_coarse_score_misses_and_leaves_out_what_brings_nothing() -> None:
    made = ranker.fit(some_lists(600), FEATURES, WEIGHTS)
    held = some_lists(200, seed=1)
    columns = [FEATURES.index(name) for name in made.features]
    rows = np.ascontiguousarray(held.rows[:, columns])
    assert "signal" in made.features
    assert "flat" not in made.features
    coarse = held.rows[:, 1].astype(np.float64)
    assert ndcg(held, made.predict(rows)) > ndcg(held, coarse) + 0.1


def test_where_there_is_nothing_to_learn_the_coarse_order_stays() -> None:
    held = some_lists(50)
    plain = held._replace(rows=held.rows * np.array([0, 1, 0], np.float32))
    flat = plain._replace(target=np.tile(np.arange(20) == 0, 50))
    made = ranker.fit(flat, FEATURES, WEIGHTS)
    assert made.features == ("coarse",)
    rows = np.linspace(-5, -4, 30, dtype=np.float32)[:, None]  # outside of what it saw
    assert np.all(np.diff(made.predict(rows)) > 0)


def test_the_same_lists_give_the_same_model() -> None:
    one, other = (ranker.fit(some_lists(300), FEATURES, WEIGHTS).export() for _ in range(2))
    assert one == other


def test_python_and_onnx_say_the_same_also_a_hair_beside_a_threshold() -> None:
    made = ranker.fit(some_lists(600), FEATURES, WEIGHTS)
    rank = artefact.ranker(made.export(), len(made.features))
    cuts = np.array([
        float(text)
        for line in made.trees.model_to_string().splitlines()
        if line.startswith("threshold=")
        for text in line.removeprefix("threshold=").split()
    ])  # fmt: skip
    assert np.array_equal(cuts, cuts.astype(np.float32))
    exact = cuts.astype(np.float32)
    values = np.concatenate([exact, np.nextafter(exact, np.float32(9)), np.nextafter(exact, -9)])
    rows = np.random.default_rng(0).choice(values, (3000, len(made.features))).astype(np.float32)
    assert np.abs(rank(rows) - made.predict(rows)).max() <= 1e-5


def test_a_threshold_between_two_neighbours_still_separates_them() -> None:
    low = np.float32(0.7)
    pair = np.array([low, np.nextafter(low, np.float32(1))])
    data = lightgbm.Dataset(pair.repeat(200)[:, None], (np.arange(400) >= 200).astype(float))
    options = {"verbosity": -1, "num_threads": 1, "min_data_in_leaf": 1, "min_data_in_bin": 1}
    model = lightgbm.train(options, data, 3)
    wanted = model.predict(pair[:, None])
    assert wanted[0] != wanted[1]
    made = in_float32(model)
    assert np.array_equal(made.predict(pair[:, None]), wanted)
    assert artefact.ranker(export(made, [0.0]), 1)(pair[:, None]) == pytest.approx(wanted, abs=1e-6)


def test_gains_by_hand_agree() -> None:
    assert gains(np.array([1, 3, 10, 11, 0])).round(4).tolist() == [1, 0.5, 0.2891, 0, 0]
    assert gains(np.array([11]), 100).round(4).tolist() == [0.2789]
    assert ranking.hit_rate(np.array([1, 10, 11, 0])) == 0.5
