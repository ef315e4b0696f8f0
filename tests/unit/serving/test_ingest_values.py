"""What an event says with numbers: ratings against their scale, the money of a purchase, a time spent."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.actions import CLIENT_ACTIONS
from schemas.events import MAX_VALUE, Action, Scale
from serving.edge.currencies import MINOR_UNITS, minor_units
from tests.unit.serving.test_ingest import VIEW, action, rejections, send

RATE = {**VIEW, "action": "rate"}
BUY = {**VIEW, "action": "purchase"}
NUMBERS = st.floats(-MAX_VALUE, MAX_VALUE)


def taken(event: dict[str, Any], **options: Any) -> Action:
    return action(send(event, **options))


def money(event: dict[str, Any]) -> tuple[int, str, int, bool]:
    found = taken(event)
    return found.amount, found.currency, found.quantity, found.negative


@pytest.mark.parametrize(
    ("value", "negative"), [(1, True), (2.9, True), (3, False), (5, False), (None, False)]
)
def test_a_rating_below_the_middle_of_its_scale_speaks_against_the_item(
    value: float | None, negative: bool
) -> None:
    rated = taken({**RATE, "value": value})
    assert (rated.value, rated.negative) == (value, negative)
    assert rated.scale == (None if value is None else Scale(1, 5))


def test_one_star_and_five_and_a_purchase_below_zero() -> None:
    lines = [
        {**RATE, "event_id": "r1", "value": 1.0},
        {**RATE, "event_id": "r2", "value": 5.0},
        {**BUY, "event_id": "r3", "value": -19.0},
    ]
    assert [taken(line).negative for line in lines] == [True, False, True]


def test_a_rating_may_bring_its_scale_and_the_settings_have_one() -> None:
    half = {**RATE, "value": 0.5, "scale": {"min": 0.5, "max": 5}}
    assert (taken(half).negative, taken(half).scale) == (True, Scale(0.5, 5))
    strict = {**RATE, "value": 5, "scale": {"min": 1, "max": 10, "middle": 7}}
    assert taken(strict).negative
    assert not taken({**RATE, "value": 40}, scale=Scale(0, 100, 40)).negative
    assert taken({**RATE, "value": 39}, scale=Scale(0, 100, 40)).negative


@pytest.mark.parametrize(
    ("event", "field", "code"),
    [
        ({**RATE, "value": 0.5}, "value", "out_of_scale"),
        ({**RATE, "value": 5.5}, "value", "out_of_scale"),
        ({**RATE, "value": 3, "scale": {"min": 5, "max": 1}}, "scale.max", "out_of_range"),
        ({**RATE, "value": 3, "scale": {"min": 3, "max": 3}}, "scale.max", "out_of_range"),
        ({**RATE, "scale": {"min": 1, "max": 5, "middle": 6}}, "scale.middle", "out_of_range"),
        ({**RATE, "scale": {"min": 1, "max": 5, "middle": 0}}, "scale.middle", "out_of_range"),
        ({**RATE, "scale": {"min": -1e300, "max": 5}}, "scale.min", "out_of_range"),
        ({**RATE, "scale": {"min": 1}}, "scale.max", "required"),
        ({**RATE, "scale": {"min": 1, "max": 5, "mid": 3}}, "scale.mid", "unknown_field"),
        ({**BUY, "value": 1, "currency": "ABC"}, "currency", "unknown_currency"),
        ({**BUY, "value": 1, "currency": "XAU"}, "currency", "unknown_currency"),
        ({**BUY, "value": 1, "currency": "eur"}, "currency", "malformed"),
        ({**BUY, "value": 1, "currency": "€"}, "currency", "malformed"),
        ({**BUY, "value": 1, "currency": ""}, "currency", "malformed"),
        ({**BUY, "quantity": 0}, "quantity", "out_of_range"),
        ({**BUY, "quantity": 1_000_001}, "quantity", "out_of_range"),
        ({**BUY, "quantity": 1.5}, "quantity", "wrong_type"),
        ({**BUY, "value": 1e13}, "value", "out_of_range"),
    ],
)
def test_a_number_is_refused_by_name(event: dict[str, Any], field: str, code: str) -> None:
    done = send({"events": [VIEW, event]})
    assert (rejections(done), len(done.records)) == ([(1, field, code)], 1)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        ({"value": 39.99, "currency": "EUR"}, (3999, "EUR", 1, False)),
        ({"value": 59.97, "currency": "EUR", "quantity": 3}, (5997, "EUR", 3, False)),
        ({"value": -19, "currency": "USD"}, (1900, "USD", 1, True)),
        ({"value": 500, "currency": "JPY"}, (500, "JPY", 1, False)),
        ({"value": 1.234, "currency": "KWD"}, (1234, "KWD", 1, False)),
        ({"value": 39.99}, (0, "", 1, False)),
        ({"currency": "EUR", "quantity": 1_000_000}, (0, "EUR", 1_000_000, False)),
        ({"value": 0, "currency": "EUR"}, (0, "EUR", 1, False)),
        ({}, (0, "", 1, False)),
    ],
)
def test_the_money_of_a_purchase_is_in_minor_units(event: Any, expected: Any) -> None:
    assert money({**BUY, **event}) == expected


def test_a_value_where_an_action_takes_none_is_null() -> None:
    said = {"value": 4, "currency": "EUR", "quantity": 3, "scale": {"min": 9, "max": 1}}
    for name in set(CLIENT_ACTIONS) - {"rate", "purchase", "cart"}:
        found = taken({**VIEW, **said, "action": name})
        numbers = (found.value, found.scale, found.amount, found.currency, found.quantity)
        assert (numbers, found.negative) == ((None, None, 0, "", 1), False)
    assert taken({**VIEW, "action": "cart", "value": 4}).value == 4


def test_a_time_spent_may_have_a_fraction() -> None:
    spent = {"user_id": "kim", "item_id": "cup", "action": "dwell", "dwell_ms": 1234.5}
    assert taken(spent).dwell_ms == 1234


@given(NUMBERS, NUMBERS, NUMBERS | st.none(), NUMBERS)
def test_a_rating_is_refused_or_judged_by_the_middle(
    least: float, most: float, middle: float | None, value: float
) -> None:
    scale = {"min": least, "max": most, "middle": middle}
    done = send({**RATE, "value": value, "scale": scale})
    between = (least + most) / 2 if middle is None else middle
    if not least < most:
        assert rejections(done) == [(0, "scale.max", "out_of_range")]
    elif not least <= between <= most:
        assert rejections(done) == [(0, "scale.middle", "out_of_range")]
    elif not least <= value <= most:
        assert rejections(done) == [(0, "value", "out_of_scale")]
    else:
        assert action(done).negative is (value < between)


@given(st.integers(-(10**9), 10**9), st.sampled_from(sorted(MINOR_UNITS)))
def test_whole_minor_units_come_back_exactly(units: int, currency: str) -> None:
    value = units / MINOR_UNITS[currency]
    assert minor_units(value, currency) == abs(units)
    bought = taken({**BUY, "value": value, "currency": currency})
    assert (bought.amount, bought.negative) == (abs(units), units < 0)
