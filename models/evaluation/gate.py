"""The gate: a release serves only if the choices held out show that no rival is better.

Three outcomes: "released"; "refused", as a rival is better; "undecided", with the number of choices that
would decide. The ratio of means is paired: all arms have the same choices, and a bootstrap over people gives
its 95 % interval (`intervals`). A release must be at least as good as the best rival, and the lower end of
the interval above `MARGIN` for every rival: a test of non-inferiority, with that margin.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Final, Literal

import msgspec
import numpy as np

from models.arrays import F64, I64, Mask
from models.evaluation.intervals import (
    ROUNDS,
    IntervalEstimate,
    Persons,
    Resamples,
    needed,
)
from models.evaluation.ranking import Ranks, hit_rate, ndcg

RANKER: Final = "ranker"
COARSE: Final = "coarse"
BUILT_IN: Final = "built_in"
MARGIN: Final = 0.97
"""The lower end of the ratio's interval must lie above it."""
MIN_CHOICES: Final = 100
MIN_PEOPLE: Final = 20
"""With fewer choices, or people, neither a release nor a slice is judged: the interval says too little."""
MAX_CHOICES_A_PERSON: Final = 20
"""Of one person, so that nobody decides alone."""
METRIC: Final = "NDCG@10"
Outcome = Literal["released", "undecided", "refused"]


class RankingQuality(msgspec.Struct, frozen=True):
    """HR@10 and NDCG@10 of one arm, over the held-out choices."""

    hit_rate: float
    ndcg: float


class Condition(msgspec.Struct, frozen=True):
    """Another check of the candidate: parity, latency, size. `why`: a sentence with its figures."""

    name: str
    passed: bool
    why: str


class Verdict(msgspec.Struct, frozen=True):
    """`why`: a sentence with the figures. `rival`: the one that decided; `ratio`, `lower`, `upper`: the
    candidate's mean over the rival's and its interval, None where it has none (the rival found nothing, one
    person). `n` choices of `people`; `needed`: the choices that would decide at this ratio, None where no
    number would, or where it is decided. `rivals`, `slices`: the ratio to each rival, and to the best one in
    each slice that had enough choices.
    """

    outcome: Outcome
    why: str
    ratio: float | None = None
    lower: float | None = None
    upper: float | None = None
    rival: str = ""
    n: int = 0
    people: int = 0
    needed: int | None = None
    rivals: dict[str, IntervalEstimate] = {}
    slices: dict[str, IntervalEstimate] = {}
    conditions: tuple[Condition, ...] = ()

    @property
    def released(self) -> bool:
        return self.outcome == "released"


def qualities(ranks: Mapping[str, Ranks]) -> dict[str, RankingQuality]:
    return {name: RankingQuality(hit_rate(of), ndcg(of)) for name, of in ranks.items()}


def at_most(person: Persons, seed: int = 0, limit: int = MAX_CHOICES_A_PERSON) -> I64:
    """Indices, in order, of a sample of the choices `person` (G,): at most `limit` of each person, uniform.

    >>> person = np.array([7] * 50 + [8])
    >>> chosen = at_most(person, seed=1)
    >>> len(chosen), int(chosen[-1])
    (21, 50)
    """
    chance = np.random.default_rng(seed)
    shuffled = chance.permutation(len(person))
    _, index = np.unique(person, return_inverse=True)
    grouped = shuffled[np.argsort(index[shuffled], kind="stable")]
    of_group = index[grouped]
    begin = np.flatnonzero(np.diff(of_group, prepend=-1))
    number = np.arange(len(grouped)) - np.repeat(begin, np.diff(begin, append=len(grouped)))
    return np.sort(grouped[number < limit])


def judge(
    candidate: str,
    gains: Mapping[str, F64],
    person: Persons,
    slices: Mapping[str, Mask] | None = None,
    conditions: Sequence[Condition] = (),
    seed: int = 0,
    rounds: int = ROUNDS,
) -> Verdict:
    """The verdict on `candidate` against every other arm of `gains`, by the mean gain.

    `gains[name]` (G,) >= 0: what that arm gained on each of the same G choices (`ranking.gains`); `person`
    (G,): whose they are; `slices[name]` (G,): the choices of a slice. Give at most `MAX_CHOICES_A_PERSON`
    choices of a person (`at_most`). Errors: ValueError without a rival.

    - refused: a condition failed; or the upper end to a rival, or to the best one in a slice, is below 1;
    - released: the ratio to the best rival is >= 1, and the lower end above `MARGIN` for each;
    - undecided: everything else.

    A candidate as good as its rival is refused by one slice in forty: name few of them.

    >>> gains = {"new": np.tile([1.0, 0.5], 100), "old": np.tile([0.5, 0.5], 100)}
    >>> verdict = judge("new", gains, np.arange(200) // 4)
    >>> verdict.outcome, verdict.rival, verdict.ratio, verdict.n, verdict.people
    ('released', 'old', 1.5, 200, 50)
    """
    means = {name: float(of.mean()) if len(of) else 0.0 for name, of in gains.items()}
    best = max((name for name in gains if name != candidate), key=lambda name: means[name])
    sums = Resamples(person, gains, seed, rounds)
    ratios = {name: sums.ratio(candidate, name) for name in gains if name != candidate}
    rival = _deciding(best, ratios)
    ratio = ratios[rival]
    of = f"{means[rival]:.4f} of the {'best rival' if rival == best else 'rival'} {rival}"
    made = Verdict(
        outcome="undecided",
        why=f"{METRIC} {means[candidate]:.4f} against {of} ({_in_words(ratio)})",
        ratio=ratio.value,
        lower=ratio.lower,
        upper=ratio.upper,
        rival=rival,
        n=len(person),
        people=sums.people,
        rivals=ratios,
        slices=_slices(candidate, best, gains, person, slices or {}, seed, rounds),
        conditions=tuple(conditions),
    )
    return _decided(made, means[candidate])


def _deciding(best: str, ratios: Mapping[str, IntervalEstimate]) -> str:
    """The best rival; where it lets the candidate pass, the rival of the lowest lower end that does not."""
    lowest = min(ratios, key=lambda name: _lower(ratios[name]))
    passes = _passes(ratios[best]) and not _passes(ratios[lowest])
    return lowest if passes else best


def _passes(ratio: IntervalEstimate) -> bool:
    """A rival that found nothing has no ratio: the candidate passes it."""
    return ratio.value is None or (ratio.value >= 1 and _lower(ratio) > MARGIN)


def _lower(ratio: IntervalEstimate) -> float:
    return math.inf if ratio.lower is None else ratio.lower


def _below(ratio: IntervalEstimate) -> bool:
    """Told to be worse."""
    return ratio.upper is not None and ratio.upper < 1


def _decided(made: Verdict, own: float) -> Verdict:
    """`made` with its outcome; `own`: the candidate's mean gain."""
    ratio = IntervalEstimate(made.ratio, made.lower, made.upper)
    against = [f"{it.name} failed: {it.why}" for it in made.conditions if not it.passed]
    few = made.n < MIN_CHOICES or made.people < MIN_PEOPLE
    if not few:
        worse = {name: it for name, it in made.slices.items() if _below(it)}
        against += [f"worse for {name} ({_in_words(it)})" for name, it in worse.items()]
    if against or (not few and any(_below(it) for it in made.rivals.values())):
        return _with(made, "refused", *against)
    if few:
        least = f"{MIN_CHOICES} choices of {MIN_PEOPLE} people are the least"
        a_person = made.n / max(1, made.people)
        enough = max(MIN_CHOICES, math.ceil(MIN_PEOPLE * a_person))
        return _with(made, "undecided", least, choices=enough)
    if not own:
        return _with(made, "undecided", "it found no choice")
    if _passes(ratio):
        return _with(made, "released")
    value = made.ratio or 0.0
    margin = value - MARGIN if value >= 1 else 1 - value
    return _with(made, "undecided", choices=needed(ratio, made.n, margin))


def _with(made: Verdict, outcome: Outcome, *reasons: str, choices: int | None = None) -> Verdict:
    few = (f"{made.n:,} choices of {made.people:,} people, {choices:,} needed",) if choices else ()
    why = "; ".join((made.why, *reasons, *few))
    return msgspec.structs.replace(made, outcome=outcome, why=why, needed=choices)


def _slices(
    candidate: str,
    best: str,
    gains: Mapping[str, F64],
    person: Persons,
    slices: Mapping[str, Mask],
    seed: int,
    rounds: int,
) -> dict[str, IntervalEstimate]:
    """The ratio to the best rival within each slice of enough choices and people."""
    found = {}
    for name, inside in slices.items():
        if int(inside.sum()) >= MIN_CHOICES:
            pair = {candidate: gains[candidate][inside], best: gains[best][inside]}
            sums = Resamples(person[inside], pair, seed, rounds)
            if sums.people >= MIN_PEOPLE:
                found[name] = sums.ratio(candidate, best)
    return found


def _in_words(ratio: IntervalEstimate) -> str:
    """The ratio and its interval, in words.

    >>> _in_words(IntervalEstimate(1.02, 0.95, 1.09)), _in_words(IntervalEstimate(None))
    ('1.020 x, .950 to 1.090', 'no ratio')
    """
    if ratio.value is None:
        return "no ratio"
    if ratio.lower is None:
        return f"{ratio.value:.3f} x"
    lower = f"{ratio.lower:.3f}".removeprefix("0")
    upper = "no end" if ratio.upper is None else f"{ratio.upper:.3f}".removeprefix("0")
    return f"{ratio.value:.3f} x, {lower} to {upper}"
