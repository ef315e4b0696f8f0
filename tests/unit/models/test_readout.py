"""The readout of an experiment, from moments alone, and its display."""

from __future__ import annotations

import io
import math
import re

import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from infra.cli.tail import experiments
from models.aggregates.moments import Moments
from models.experiments.metrics import METRICS
from models.experiments.ratio import lift, ratio
from models.experiments.readout import readout
from schemas.control import Experiment, Variant
from schemas.identity import category_hash
from schemas.readouts import Readout, decode
from schemas.state import facts
from schemas.state.facts import STATES
from tests.support import loop

AB = Experiment(
    placement="home", variants=(Variant(name="a", share=0.5), Variant(name="b", share=0.5))
)
counts = st.tuples(*[st.integers(0, 40)] * len(STATES))
slots = loop.counts


def moments(people: dict[str, list[tuple[int, ...]]]) -> Moments:
    """Each person's counts by variant, as one fact."""
    made = Moments()
    for variant, each in people.items():
        n = len(each)
        after = np.array([slots(held) for held in each], np.uint32).reshape(n, len(STATES))
        number = np.full(n, category_hash(variant), np.uint32)
        experiment = np.full(n, category_hash("e"), np.uint32)
        made.add(
            facts.Moments(
                np.zeros(n, np.uint32),
                experiment,
                np.full(n, 2, np.uint16),
                number,
                np.zeros_like(after),
                after,
            )
        )
    return made


def readout_of(people: dict[str, list[tuple[int, ...]]], experiment: Experiment = AB) -> Readout:
    return readout("e", 2, experiment, moments(people).of("e", 2), (5, 7), 41, 1_700_000_000_000)


def test_a_worked_case_agrees() -> None:
    """Served, displayed, clicked, converted of three people against two."""
    found = readout_of(
        {"a": [(2, 2, 1, 0), (2, 1, 0, 0), (6, 6, 2, 1)], "b": [(4, 0, 1, 1), (4, 0, 3, 0)]}
    )
    a, b = found.variants
    assert (a.variant, a.units, a.counts["served"], a.counts["clicked"]) == ("a", 3, 10, 3)
    assert (a.metrics["ctr"].value, a.metrics["ctr"].numerator) == (0.3, 3)
    assert a.metrics["conversion"].value == 1 / 3
    assert (b.units, b.metrics["ctr"].value, b.metrics["ctr"].denominator) == (2, 0.5, 8)
    ctr = found.comparisons[0]
    assert (ctr.metric, ctr.control, ctr.treatment) == ("ctr", "a", "b")
    assert (ctr.method, ctr.alpha, ctr.always_valid) == ("delta", 0.05, False)
    expected = lift(ratio(3, 3, 10, 5, 14, 44), ratio(2, 4, 8, 10, 16, 32))
    assert ctr.lift == expected.value == 0.5 / 0.3 - 1
    assert ctr.ci == expected.interval(least=-1.0)
    assert (found.revision, found.positions) == (41, (5, 7))
    assert decode(msgspec.json.encode(found)) == found


def test_conversions_are_shown_in_all_and_by_their_attribution() -> None:
    found = readout_of({"a": [(9, 8, 4, 1, 2, 1), (9, 0, 2, 1, 0, 0)]}).variants[0]
    assert found.counts == {"served": 18, "displayed": 8, "clicked": 6, "converted": 5}
    assert found.attribution == {"direct": 2, "last_click": 2, "last_view": 1}
    conversion = found.metrics["conversion"]
    assert (conversion.numerator, conversion.denominator) == (5, 6)
    # the sum of three counts is one count: (4, 4) and (1, 2)
    assert conversion.ci == ratio(2, 5, 6, 17, 18, 20).interval()


def test_no_person_and_one_person_have_no_interval() -> None:
    empty = readout_of({})
    assert [v.units for v in empty.variants] == [0, 0]
    assert all(m.value is None and m.ci is None for v in empty.variants for m in v.metrics.values())
    assert all(it.lift is None and it.ci is None for it in empty.comparisons)
    alone = readout_of({"a": [(10, 0, 1, 0)]}).variants[0]
    assert (alone.metrics["ctr"].value, alone.metrics["ctr"].ci) == (0.1, None)
    assert alone.metrics["conversion"].value == 0


def test_every_treatment_is_compared_with_the_first_variant() -> None:
    three = Experiment(
        placement="home", variants=tuple(Variant(name=name, share=0.3) for name in "xyz")
    )
    found = readout_of({}, three).comparisons
    assert [(it.metric, it.control, it.treatment) for it in found] == [
        (metric.name, "x", other) for metric in METRICS for other in "yz"
    ]


def test_a_removed_variant_is_named_by_its_hash() -> None:
    found = readout_of({"a": [(1, 0, 0, 0)], "old": [(5, 0, 2, 0)]})
    assert [v.variant for v in found.variants] == ["a", "b", f"#{category_hash('old'):08x}"]
    assert found.variants[2].counts["served"] == 5


@given(st.lists(counts, max_size=6), st.lists(counts, max_size=6))
def test_every_number_is_finite_or_null(a: list[tuple[int, ...]], b: list[tuple[int, ...]]) -> None:
    def numbers(value: object) -> list[float]:
        if isinstance(value, dict):
            return [n for it in value.values() for n in numbers(it)]
        if isinstance(value, list | tuple):
            return [n for it in value for n in numbers(it)]
        return [float(value)] if isinstance(value, int | float) else []

    found = readout_of({"a": a, "b": b})
    plain = msgspec.json.decode(msgspec.json.encode(found))
    assert all(map(math.isfinite, numbers(plain)))
    for variant, people in zip(found.variants, (a, b), strict=True):
        assert variant.units == sum(any(person) for person in people)
        for metric in variant.metrics.values():
            if metric.ci is not None:
                assert metric.value is not None
                assert 0 <= metric.ci[0] <= metric.value <= metric.ci[1]
    # a reader in a terminal gets a line each, whatever is null
    assert len(experiments.block(found, found.as_of).splitlines()) == 2 + len(found.variants)


def test_a_readout_is_printed_for_people() -> None:
    shown = experiments.block(
        readout_of({"a": [(1000, 0, 40, 0), (3000, 0, 160, 9)], "b": [(2000, 0, 120, 8)] * 2}),
        1_700_000_001_500,
    )
    head, columns, a, b = shown.splitlines()
    assert head == "e version 2 at home, revision 41, as of 1.5 s ago"
    assert " ".join(columns.split()) == "variant people served clicks CTR lift of CTR conversion"
    assert a.split()[:5] == ["a", "2", "4,000", "200", "5.00%"]
    assert a.split()[6:8] == ["to", "5.98%"]
    assert b.split()[:5] == ["b", "2", "4,000", "240", "6.00%"]
    assert "+20.0%" in b


@pytest.mark.parametrize("value", [None, "text", {"experiment_id": "e"}, {"version": "\x1b[2J"}])
def test_an_unreadable_readout_is_shown_as_none(value: object) -> None:
    assert experiments.parsed(value) is None


def test_names_do_not_steer_a_terminal() -> None:
    evil = msgspec.structs.replace(readout_of({}), experiment_id="e\x1b[2J", placement="\x07")
    assert "\x1b" not in experiments.block(evil, evil.as_of)
    assert "\x07" not in experiments.block(evil, evil.as_of)


def test_a_terminal_of_80_columns_shows_every_number_whole() -> None:
    people: dict[str, list[tuple[int, ...]]] = {
        "a": [(90_000, 0, 3000, 200), (90_000, 0, 3100, 240)],
        "b": [(90_000, 0, 6000, 300), (90_000, 0, 7000, 300)],
    }
    out = Console(width=80, file=io.StringIO(), force_terminal=True)
    out.print(experiments.panel([readout_of(people)], 1_700_000_000_400))
    shown = re.sub(r"\x1b\[[\d;]*m", "", out.file.getvalue())  # type: ignore[attr-defined]
    for whole in ("180,000", "13,000", "7.22%", "+80.3 to +146.0%", "4.62%", "as of 0.4 s ago"):
        assert whole in shown
    assert re.search(r"\x1b\[1;32m *\+113\.1%", out.file.getvalue())  # type: ignore[attr-defined]
