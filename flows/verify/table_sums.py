"""Compares tables in Redis with the sums of the log up to exactly their positions."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from math import isclose
from typing import Final

from flows.verify import waiting
from flows.verify.report import Findings
from flows.verify.stored_tables import Listed, Pairs, Stored, growth, rescaled_pairs
from flows.verify.waiting import PartitionWaits
from models.aggregates.covisit import LARGEST_SHARE, NEIGHBOURS_PER_ITEM, PAIR_HALF_LIFE
from models.aggregates.popularity import HALF_LIVES
from models.reference.sums import PAIR_COLUMNS, Sums, grown
from schemas.state.counting import BUILT_IN, LAG_POWERS
from schemas.state.facts import STATES, currency_name

SUM_TOLERANCE: Final = 1e-9
UNDERFLOW_TOLERANCE: Final = 1e-290
"""Absolute: sums so small have lost digits to underflow."""
SHARE_TOLERANCE: Final = 1e-6
HALF_TOLERANCE: Final = 1e-3
"""Relative: shares are published in half precision too."""
PAIR_NAMES: Final = tuple(
    f"{gap} lag^-{power}" for gap in ("session", "beyond") for power in LAG_POWERS
)
_NO_SUMS: Final = [0.0] * PAIR_COLUMNS


def compare(
    findings: Findings, stored: Stored, sums: Sums, waits: Sequence[PartitionWaits] = ()
) -> None:
    """Compares every table. `sums`, and `waits` by partition: of the log before `stored.positions`."""
    _popularity(findings, stored, sums)
    if stored.pairs is not None:
        _pairs(findings, stored, stored.pairs, sums)
    if stored.neighbours is not None:
        _neighbours(findings, stored, stored.neighbours, sums)
    _arms(findings, stored, sums)
    _experiments(findings, stored, sums)
    _money(findings, stored, sums)
    waiting.compare(findings, stored, sums.marks, waits)


def _popularity(findings: Findings, stored: Stored, sums: Sums) -> None:
    """Compares rows of popularity; a missing row is all 0."""
    held, expected = stored.popularity, sums.popularity
    windows = list(HALF_LIVES.items())
    factors = growth(stored.marks.items, sums.marks.items)
    nothing = [0.0] * len(windows)
    for key in held.keys() | expected.keys():
        one, other = held.get(key, nothing), expected.get(key, nothing)
        back = sums.taken_back.get(key, nothing)
        for column, (window, _) in enumerate(windows):
            # what is taken back leaves the rounding of what was there
            tiny = max(UNDERFLOW_TOLERANCE, SUM_TOLERANCE * back[column])
            findings.compare(
                "popularity", window, one[column] * factors[column], other[column],
                stored.keys["popularity"], place=f"{key}", close=SUM_TOLERANCE, tiny=tiny,
            )  # fmt: skip


def _pairs(findings: Findings, stored: Stored, held: Pairs, sums: Sums) -> None:
    factor = grown(stored.marks.pairs - sums.marks.pairs, PAIR_HALF_LIFE)
    rescaled = rescaled_pairs(held, factor)
    for item in held.keys() | sums.pairs.keys():
        ours, theirs = rescaled.get(item, {}), sums.pairs.get(item, {})
        for column, name in enumerate(PAIR_NAMES):
            one, other = (
                {partner: its.get(partner, _NO_SUMS)[column] for partner in ours.keys() | theirs}
                for its in (ours, theirs)
            )
            findings.compare_sums(
                "pairs", name, one, other, stored.keys["pairs"],
                place=f"{item}", close=SUM_TOLERANCE, tiny=UNDERFLOW_TOLERANCE,
            )  # fmt: skip


def _neighbours(
    findings: Findings, stored: Stored, held: Mapping[int, list[Listed]], sums: Sums
) -> None:
    countings = stored.countings or [BUILT_IN.pairs]
    expected = [(counting.backward, sums.partners(counting)) for counting in countings]
    for item in held.keys() | expected[0][1].keys():
        # a list that waits is one of an earlier counting
        wrong = [
            _first_wrong_place(held.get(item, []), partners.get(item, {}), backward)
            for backward, partners in expected
        ]
        place, one, other = (all(wrong) and wrong[0]) or ("", 0, 0)
        findings.compare(
            "neighbours",
            place,
            one,
            other,
            stored.keys["pairs"],
            place=f"{item}",
            close=SHARE_TOLERANCE,
        )


def _first_wrong_place(
    held: Sequence[Listed], partners: Mapping[int, tuple[float, float]], weight: float
) -> tuple[str, float, float] | None:
    """The first place where a list differs from the best partners, best first, with their shares of the sum.
    Partners with equal sums may come in any order. `weight`: of the backward sums."""
    scores = {
        partner: score
        for partner, (forward, backward) in partners.items()
        if (score := forward + weight * backward) > 0
    }
    if len(held) != min(len(scores), NEIGHBOURS_PER_ITEM):
        return "length", len(held), min(len(scores), NEIGHBOURS_PER_ITEM)
    total = sum(scores.get(partner, 0.0) for partner, *_ in held)
    remaining = dict(scores)
    for place, (partner, score, *shares) in enumerate(held):
        share = remaining.pop(partner, 0.0) / total if total else 0.0
        if abs(share - score) > SHARE_TOLERANCE:
            return f"share {place}", score, share
        for name, one, sum_ in zip(
            ("forward", "backward"), shares, partners.get(partner, (0.0, 0.0)), strict=True
        ):
            other = min(sum_ / total, LARGEST_SHARE)
            if not isclose(one, other, rel_tol=HALF_TOLERANCE, abs_tol=SHARE_TOLERANCE):
                return f"{name} {place}", one, other
        if place and score > held[place - 1][1] + SHARE_TOLERANCE:
            return f"order {place}", score, held[place - 1][1]
    best = max(remaining.values(), default=0.0) / total if total else 0.0
    if held and best > held[-1][1] + SHARE_TOLERANCE:
        return "left out", held[-1][1], best
    return None


def _arms(findings: Findings, stored: Stored, sums: Sums) -> None:
    names = (*STATES, "explored", "n", "mean")
    nothing = (*[0] * 7, 0.0, 0.0)
    for arm in stored.arms.keys() | sums.arms.keys():
        counts = sums.arms.get(arm, [0] * 7)
        mean = counts[2] / counts[0] if counts[0] else 0.0
        for name, one, other in zip(
            names, stored.arms.get(arm, nothing), (*counts, float(counts[0]), mean), strict=True
        ):
            findings.compare(
                "arms", name, one, other, stored.keys["arms"],
                place=f"{arm[0]} {arm[1]}", close=SUM_TOLERANCE,
            )  # fmt: skip


def _experiments(findings: Findings, stored: Stored, sums: Sums) -> None:
    nothing = (0, [0] * 6, [[0] * 6] * 6)
    expected = sums.moments()
    for unit in stored.moments.keys() | expected.keys():
        one, other = stored.moments.get(unit, nothing), expected.get(unit, nothing)
        for name, mine, theirs in zip(("units", "sums", "squares"), one, other, strict=True):
            place = "{} version {} variant {}".format(*unit)
            findings.compare(
                "experiments", name, mine, theirs, stored.keys["experiments"], place=place
            )


def _money(findings: Findings, stored: Stored, sums: Sums) -> None:
    expected = {currency_name(code): tuple(held) for code, held in sums.money.items()}
    for currency in stored.money.keys() | expected.keys():
        one, other = stored.money.get(currency, (0, 0, 0)), expected.get(currency, (0, 0, 0))
        for name, mine, theirs in zip(("purchases", "quantity", "amount"), one, other, strict=True):
            findings.compare("money", name, mine, theirs, stored.keys["money"], place=currency)
