"""Records that concern the outcomes of one person, in the terms of the slow definitions."""

from __future__ import annotations

from msgspec.structs import asdict

from models.outcomes.join import STATE_BY_ACTION
from models.outcomes.open_slates import Conversion, Reversible
from models.reference import plain
from models.reference.holders import CONVERTED
from schemas import events
from schemas.events import Action, Link, Linking, Merge, MergedReversible, Served
from schemas.state.facts import currency_code

OutcomeRow = tuple[int, int, int, int]
"""Item, state, receipt in ms, identity of a purchase."""
PURCHASE = 2
LIKE = 5


def reversible(e: Action, counted: bool) -> Reversible:
    return Reversible(
        plain.list_identity(e),
        plain.item(e.item_id),
        PURCHASE,
        e.occurred_at // 1000,
        counted,
        min(e.amount, 2**53),
        currency_code(e.currency) if e.currency else 0,
        min(e.quantity, 2**31 - 1),
    )


def read(merged: MergedReversible) -> Reversible:
    slot = Conversion(**asdict(merged.conversion)) if merged.conversion is not None else None
    return Reversible(**{**asdict(merged), "conversion": slot})


def mark_of(e: Action) -> OutcomeRow:
    state = STATE_BY_ACTION[e.action]
    identity = plain.list_identity(e) if state == CONVERTED else 0
    return plain.item(e.item_id), state, e.received_at, identity


def row_of(merged: events.MergedOutcome) -> OutcomeRow:
    return merged.item, merged.state, merged.at, merged.identity


def attributes(e: events.Event) -> bool:
    """Whether a record is a purchase that names its slate: its repetition may attribute it."""
    return isinstance(e, Action) and e.action == "purchase" and not e.negative and bool(e.slate_id)


def concerns(e: events.Event) -> bool:
    """Whether a record concerns the outcomes of slates, or links."""
    if isinstance(e, Action):
        named = bool(e.slate_id) and e.action in STATE_BY_ACTION
        return named or e.action in ("purchase", "like", "unlike")
    if isinstance(e, Merge):
        reasons = (e.link, e.outcomes, e.served, e.slates, e.units, e.impressions, e.touched,
                   e.reversibles, e.likes, e.acted, e.reversal)  # fmt: skip
        return any(reasons)
    return isinstance(e, Served | Link | Linking)
