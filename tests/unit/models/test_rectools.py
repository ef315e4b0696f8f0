"""The metrics against RecTools: the same predictions score the same to 1e-9."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from rectools import Columns
from rectools.metrics import (
    MRR,
    NDCG,
    AvgRecPopularity,
    CatalogCoverage,
    HitRate,
    IntraListDiversity,
    MeanInvUserFreq,
    Precision,
    Recall,
)
from rectools.metrics.distances import PairwiseHammingDistanceCalculator

from models.arrays import F64, I64
from models.evaluation import judged, slates
from models.evaluation.choices import gained
from models.evaluation.judged import JudgedLists

PEOPLE, ITEMS, SHOWN, CATEGORIES = 400, 120, 20, 9
CUTS = (1, 5, 10)
CHANCE = np.random.default_rng(17)
SLATES = np.argsort(CHANCE.random((PEOPLE, ITEMS)), axis=1)[:, :SHOWN]
CATEGORY = CHANCE.integers(0, CATEGORIES, ITEMS)
CHOSEN = CHANCE.integers(0, ITEMS, PEOPLE)
HISTORY = [np.unique(CHANCE.zipf(1.3, 30) % (ITEMS - 10)) for _ in range(PEOPLE)]
"""Of each person, without repeats; ten items are in none."""
COUNT = np.bincount(np.concatenate(HISTORY), minlength=ITEMS)


def frame(rows: list[Any] | I64) -> pd.DataFrame:
    """Of a list of items a person."""
    items = np.concatenate([np.asarray(row) for row in rows])
    person = np.repeat(np.arange(len(rows)), [len(row) for row in rows])
    made = pd.DataFrame({Columns.User: person, Columns.Item: items})
    made[Columns.Rank] = made.groupby(Columns.User).cumcount() + 1
    return made


SHOWN_ROWS = frame(SLATES)


def agree(ours: F64 | float, theirs: float) -> None:
    assert float(np.mean(ours)) == pytest.approx(theirs, rel=0, abs=1e-9)


@pytest.mark.parametrize("cut", CUTS)
def test_one_relevant_item(cut: int) -> None:
    there = CHOSEN[:, None] == SLATES
    ranks = np.where(there.any(axis=1), there.argmax(axis=1) + 1, 0)
    assert 0.1 < (ranks > 0).mean() < 0.3
    theirs = {
        "hr": HitRate(cut),
        "recall": Recall(cut),
        "precision": Precision(cut),
        "mrr": MRR(cut),
        "ndcg": NDCG(cut, divide_by_achievable=True),
    }
    relevant = frame(CHOSEN[:, None])
    for name, metric in theirs.items():
        agree(gained(name, ranks, cut), metric.calc(SHOWN_ROWS, relevant))


@pytest.mark.parametrize("cut", CUTS)
def test_several_relevant_items(cut: int) -> None:
    size = CHANCE.integers(1, 15, PEOPLE)
    order = np.argsort(CHANCE.random((PEOPLE, ITEMS)), axis=1)
    relevant = [order[at, : size[at]] for at in range(PEOPLE)]
    score, grade = np.zeros((2, PEOPLE, ITEMS))
    for at in range(PEOPLE):
        score[at, SLATES[at]] = SHOWN - np.arange(SHOWN)
        grade[at, relevant[at]] = 1
    lists = JudgedLists(score.ravel(), grade.ravel(), np.full(PEOPLE, ITEMS))
    rows = frame(relevant)
    agree(judged.recall(lists, cut), Recall(cut).calc(SHOWN_ROWS, rows))
    agree(judged.precision(lists, cut), Precision(cut).calc(SHOWN_ROWS, rows))
    agree(judged.mrr(lists, cut), MRR(cut).calc(SHOWN_ROWS, rows))
    agree(judged.hits(lists, cut), HitRate(cut).calc(SHOWN_ROWS, rows))
    theirs = NDCG(cut, divide_by_achievable=True).calc(SHOWN_ROWS, rows)
    agree(judged.ndcg(lists, cut, "binary"), theirs)


@pytest.mark.filterwarnings("ignore:Bitwise inversion:DeprecationWarning")  # RecTools' own, on 3.12
@pytest.mark.parametrize("cut", [2, 5, 10])
def test_slates(cut: int) -> None:
    shown, history = SLATES[:, :cut], frame(HISTORY)
    catalogue = np.arange(ITEMS)
    agree(slates.coverage(shown, ITEMS), CatalogCoverage(cut, True).calc(SHOWN_ROWS, catalogue))
    differ = PairwiseHammingDistanceCalculator(pd.DataFrame({"category": CATEGORY}))
    ours = slates.diversity(shown, CATEGORY)
    agree(ours.values, IntraListDiversity(cut, differ).calc(SHOWN_ROWS))
    novelty = slates.novelty(shown, COUNT, PEOPLE)
    agree(novelty.values, MeanInvUserFreq(cut).calc(SHOWN_ROWS, history))
    arp = slates.popularity(shown, COUNT)
    agree(arp.values, AvgRecPopularity(cut).calc(SHOWN_ROWS, history))
