"""What an event's numbers say: a rating against its scale, the money of a purchase."""

from __future__ import annotations

import re
from typing import Final

from schemas.events import MAX_QUANTITY, MAX_VALUE, Action, EventIn, Scale
from schemas.reject import Rejected
from serving.edge.currencies import MINOR_UNITS, minor_units

DEFAULT_SCALE: Final = Scale(1.0, 5.0)
_CURRENCY: Final = re.compile("[A-Z]{3}")


JUDGED: Final = frozenset({"rate", "purchase"})
"""The actions whose numbers say more than how much."""
VALUED: Final = JUDGED | {"cart"}
"""The actions that take a value."""


def set_values(action: Action, event: EventIn, scale: Scale) -> None:
    """Sets what the event says with numbers. `scale`: of a rating that brings none.

    Only a rating, a purchase and a cart take a value: that of any other action is dropped, as are a scale, a
    currency and a quantity where they have no meaning; what they may be does not depend on the action.
    Errors: `Rejected`.
    """
    value = event.value
    _check(event)
    if event.action not in VALUED:
        return
    if event.action == "rate":
        _set_rating(action, value, event.scale or scale)
    elif event.action == "purchase":
        _set_purchase(action, event)
    else:
        action.value = value


def _check(event: EventIn) -> None:
    value, currency, quantity = event.value, event.currency, event.quantity
    if value is not None and not abs(value) <= MAX_VALUE:
        raise Rejected("value", "out_of_range")
    if quantity is not None and not 1 <= quantity <= MAX_QUANTITY:
        raise Rejected("quantity", "out_of_range")
    if currency is not None and currency not in MINOR_UNITS:
        well_formed = _CURRENCY.fullmatch(currency)
        raise Rejected("currency", "unknown_currency" if well_formed else "malformed")
    if event.scale is not None:
        _check_bounds(event.scale)


def _set_rating(action: Action, value: float | None, scale: Scale) -> None:
    """A rating below the middle of its scale is negative; one without a value is not."""
    check_scale(scale)
    if value is None:
        return
    if not scale.min <= value <= scale.max:
        raise Rejected("value", "out_of_scale")
    middle = (scale.min + scale.max) / 2 if scale.middle is None else scale.middle
    action.value, action.scale, action.negative = value, scale, value < middle


def _check_bounds(scale: Scale) -> None:
    for name in ("min", "max", "middle"):
        end: float | None = getattr(scale, name)
        if end is not None and not abs(end) <= MAX_VALUE:
            raise Rejected(f"scale.{name}", "out_of_range")


def check_scale(scale: Scale) -> None:
    """Errors: `Rejected` unless min < max and the middle lies between them."""
    _check_bounds(scale)
    if not scale.min < scale.max:
        raise Rejected("scale.max", "out_of_range")
    if scale.middle is not None and not scale.min <= scale.middle <= scale.max:
        raise Rejected("scale.middle", "out_of_range")


def _set_purchase(action: Action, event: EventIn) -> None:
    """`value` is the price of the whole line, for all of `quantity`; below 0 it takes a purchase back."""
    value, currency, quantity = event.value, event.currency, event.quantity
    if quantity is not None:
        action.quantity = quantity
    if currency is not None:
        action.currency = currency
        action.amount = minor_units(value or 0, currency)
    if value is not None:
        action.value, action.negative = value, value < 0
