"""The metrics on public data: figures that other code measured before, where the data is at hand."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from infra.datasets import movielens
from models.arrays import F64, I64
from models.evaluation import judged
from models.evaluation.choices import Scored, among_negatives, expected
from models.evaluation.judged import JudgedLists

pytestmark = pytest.mark.check
LENGTH = 24
"""Of a judged list."""
DRAWS = 10
"""Of the films of each person's list."""


@pytest.fixture(scope="module")
def films() -> Path:
    found = movielens.find()
    if found is None:
        pytest.skip("MovieLens is not here")
    return found


def leave_one_out(person: I64, item: I64) -> tuple[Scored, I64]:
    """Each person's last item, scored by popularity without the last items, among the items that the person
    did not have before; and how many others there are. Acts by time."""
    order = np.argsort(person, kind="stable")
    person, item = person[order], item[order]
    last = np.flatnonzero(np.diff(person, append=-1))
    items = int(item.max()) + 1
    count = np.bincount(np.delete(item, last), minlength=items)
    above, equal, others = [], [], []
    for begin, end in zip(np.concatenate(([0], last[:-1] + 1)), last, strict=True):
        target, unseen = item[end], np.ones(items, np.bool_)
        unseen[item[begin:end]] = False
        if not unseen[target]:
            continue
        own = count[unseen]
        above.append((own > count[target]).sum())
        equal.append((own == count[target]).sum() - 1)
        others.append(len(own) - 1)
    return Scored(np.array(above), np.array(equal)), np.array(others)


def of_popularity(person: I64, item: I64) -> list[float]:
    """HR@10, NDCG@10 of the full ranking, and both among 100 negatives."""
    scored, others = leave_one_out(person, item)
    full = [expected(name, scored).mean() for name in ("hr", "ndcg")]
    return full + [among_negatives(name, scored, others).mean() for name in ("hr", "ndcg")]


def ratings(films: Path) -> tuple[I64, I64, F64]:
    """(user, film, rating) by time, user, film."""
    with (films / "ratings.csv").open() as file:
        user, film, rating, time = np.loadtxt(file, delimiter=",", skiprows=1).T
    order = np.lexsort((film, user, time))
    user, film = (np.unique(it, return_inverse=True)[1][order] for it in (user, film))
    return user, film, rating[order]


def test_popularity_on_movielens(films: Path) -> None:
    user, film, _ = ratings(films)
    assert of_popularity(user, film) == pytest.approx([0.042, 0.019, 0.603, 0.354], abs=5e-4)


def test_popularity_on_amazon_games(films: Path) -> None:
    path = films.parent / "amazon-games-sasrec" / "Video.txt"
    if not path.exists():
        pytest.skip("Amazon Games is not here")
    person, item = np.loadtxt(path, np.int64).T
    # 1 in 300 people have their last item twice; they count as misses there, and are no choices here
    wanted = [0.0215, 0.0123, 0.495, 0.292]
    assert of_popularity(person, item) == pytest.approx(wanted, rel=0.01)


@pytest.mark.parametrize(
    ("gain", "least", "by_chance", "by_mean"),
    [
        ("linear", 0.0, 0.82, 0.875),
        ("exponential", 0.0, 0.645, 0.729),
        ("binary", 4.0, 0.636, 0.737),
        ("binary", 4.5, 0.414, 0.547),
    ],
)
def test_judged_lists_on_movielens(
    films: Path, gain: str, least: float, by_chance: float, by_mean: float
) -> None:
    """Of the last fifth, 24 films of each person with as many: an order by chance, all scores equal, and by
    the shrunken mean rating. So NDCG says nothing without the row of chance."""
    user, film, rating = ratings(films)
    cut = len(user) * 4 // 5
    mean, n = rating[:cut].mean(), np.bincount(film[:cut], minlength=int(film.max()) + 1)
    score = (np.bincount(film[:cut], rating[:cut], len(n)) + 5 * mean) / (n + 5)
    chance = np.random.default_rng(0)
    late = np.arange(cut, len(user))
    several = [late[user[late] == it] for it in np.unique(user[late])]
    enough = [it for it in several if len(it) >= LENGTH] * DRAWS
    rows = np.concatenate([chance.permutation(it)[:LENGTH] for it in enough])
    grade = rating[rows] * (rating[rows] >= least)
    size = np.full(len(rows) // LENGTH, LENGTH)
    found = []
    for scores in (np.zeros(len(rows)), score[film[rows]]):
        lists = JudgedLists(scores, grade, size)
        found.append(judged.ndcg(lists, gain=gain)[lists.has_relevant].mean())
    assert found == pytest.approx([by_chance, by_mean], abs=0.025)
