"""Co-visitation found by hand: each choice scored from the acts alone, fresh, late, and left out."""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import pytest

from infra.apps.evaluate.protocols.plan import Protocol, Seen
from models.evaluation.choices import Scored, expected
from tests.support.acts import Row, made
from tests.unit.infra.evaluate.test_evaluate import evaluated

ITEMS, PEOPLE, WEEK = 60, 12, 7 * 86_400
HALF_LIFE = 1825 * 86_400
SPLIT = 0.8


class ChoiceByHand(NamedTuple):
    """Of one choice: places of the person's acts before it, and of those that are known; the tables hold
    what is before `now` (s)."""

    target: int
    own: list[int]
    known: list[int]
    now: int


def rows() -> list[Row]:
    """People who mostly go from an item to one that follows it, at moments that differ."""
    chance, latest, found = random.Random(9), dict[int, int](), list[Row]()
    for n in range(300):
        who = chance.randrange(PEOPLE)
        what = (latest[who] * 5 + 3) % ITEMS if who in latest and chance.random() < 0.6 else -1
        latest[who] = what if what >= 0 else chance.randrange(ITEMS)
        found.append((who, latest[who], 900 * n))
    return found


def prequential(acts: Sequence[Row], delay: str) -> list[ChoiceByHand]:
    found = []
    for target in range(int(SPLIT * len(acts)), len(acts)):
        who, _, now = acts[target]
        own = [place for place in range(target) if acts[place][0] == who]
        known = own
        if delay == "1h":
            now = now // 3_600 * 3_600
            known = [place for place in own if acts[place][2] < now]
        elif delay == "1event" and own:
            known, now = own[:-1], acts[own[-1]][2]
        found.append(ChoiceByHand(target, own, known, now))
    return found


def leave_one_out(acts: Sequence[Row], delay: str) -> tuple[list[ChoiceByHand], list[Row]]:
    """Also the acts that the tables are made of."""
    last = {who: place for place, (who, _, _) in enumerate(acts)}
    history = [it for place, it in enumerate(acts) if place not in last.values()]
    now, found = max(at for *_, at in history) + WEEK, []
    for who, target in last.items():
        own = [place for place in range(target) if acts[place][0] == who]
        found.append(ChoiceByHand(target, own, own[:-1] if delay else own, now))
    return found, history


def lists(acts: Sequence[Row], now: int) -> dict[int, dict[int, float]]:
    """Of each item its partners' shares: 1 / lag for what came after it, half of it for what came before."""
    sums: dict[int, dict[int, float]] = defaultdict(lambda: defaultdict(float))
    latest: dict[int, list[int]] = defaultdict(list)
    for who, item, at in acts:
        before, partners = latest[who][:-17:-1], list[int]()
        for lag, other in enumerate(before, 1):
            if other in (item, *before[: lag - 1]) or len(partners) == 10 or at >= now:
                continue
            partners.append(other)
            weight = 0.5 ** ((now - at) / HALF_LIFE) / lag
            sums[other][item] += weight
            sums[item][other] += weight / 2
        latest[who].append(item)
    best = {it: sorted(of.items(), key=lambda pair: -pair[1])[:50] for it, of in sums.items()}
    return {it: {a: b / sum(s for _, s in of) for a, b in of} for it, of in best.items()}


def ranked(
    choice: ChoiceByHand, acts: Sequence[Row], tables: Sequence[Row], seen: Seen
) -> list[float]:
    """HR and NDCG of one choice, with what has no score tied at the end."""
    scores: dict[int, float] = defaultdict(float)
    shares = lists(tables, choice.now)
    for age, place in enumerate(choice.known[:-21:-1]):
        for item, share in shares.get(acts[place][1], {}).items():
            scores[item] += 0.6**age * share
    had = {acts[place][1] for place in choice.own} if seen == "masked" else set()
    candidates = {item: score for item, score in scores.items() if item not in had}
    own = candidates.get(acts[choice.target][1], 0.0)
    above = sum(score > own for score in candidates.values())
    equal = 0 if own else ITEMS - len(had) - above - 1
    scored = Scored(np.array([above]), np.array([equal]))
    return [float(expected(metric, scored)[0]) for metric in ("hr", "ndcg")]


@pytest.mark.parametrize(
    ("protocol", "delay", "seen"),
    [
        ("prequential", "", "masked"),
        ("prequential", "1h", "kept"),
        ("prequential", "1event", "masked"),
        ("leave-one-out", "", "kept"),
        ("leave-one-out", "1event", "kept"),
    ],
)
def test_co_visitation_is_scored_as_by_hand(protocol: Protocol, delay: str, seen: Seen) -> None:
    acts = rows()
    tables = acts
    choices = prequential(acts, delay)
    if protocol == "leave-one-out":
        choices, tables = leave_one_out(acts, delay)
    if seen == "masked":
        choices = [it for it in choices if acts[it.target][1] not in {acts[n][1] for n in it.own}]
    by_hand = np.mean([ranked(it, acts, tables, seen) for it in choices], axis=0)
    found = evaluated(made(acts, ITEMS), protocol, delay=delay or None, seen=seen, targets=0)
    assert found["n"] == len(choices)
    arm = found["sources"]["covisit"]
    assert [arm["hr_uncapped"], arm["ndcg_uncapped"]] == pytest.approx(by_hand, abs=2e-6)
