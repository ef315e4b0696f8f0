"""The records of a batch that concern slates, links, or what can be taken back."""

from __future__ import annotations

from typing import Final

import numpy as np

from flows.people import transfer
from flows.people.batch import PURCHASED, Decoded, Span
from models.arrays import Mask
from models.outcomes.join import STATE_BY_ACTION
from models.records import ACTION, KIND, RecordColumns
from schemas import events
from schemas.actions import ACTIONS, CODE, NEGATIVE
from schemas.events import Action, Link, Linking, Merge, Served, Unlink

Record = Served | Action | Link | Unlink | Linking | Merge
# built once: to build a union for each isinstance() costs more than the check
SLATE_EVENTS: Final = (Served, Action)
WITHOUT_SLATE: Final = frozenset({"purchase", "like", "unlike"})
"""Actions that concern outcomes whether or not they name a slate."""
_KINDS: Final = np.zeros(256, np.bool_)
_KINDS[[KIND[it] for it in (Served, Link, Unlink, Linking, Merge)]] = True
_CODE_NAMES: Final = [
    next((name for name, code in NEGATIVE.items() if code == CODE[it.name]), it.name)
    for it in ACTIONS
]
"""By code, the name under which the action is in the log."""
_ALONE: Final = np.isin(_CODE_NAMES, list(WITHOUT_SLATE))
_WITH_SLATE: Final = np.isin(_CODE_NAMES, list(STATE_BY_ACTION))
"""By code, whether an action concerns outcomes without a slate, and with one."""
OutcomeRecords = list[tuple[int, Record]]
"""(offset, event) in log order: slates served, actions on them, purchases and likes and what takes them
back, and records that link ids."""


def concerned(columns: RecordColumns, *, plain: bool) -> Mask:
    """(n,) the records that concern slates, links, or what can be taken back; of merges all. `plain`: all are
    actions."""
    acts: Mask = _ALONE[columns.action] | (_WITH_SLATE[columns.action] & (columns.slate != 0))
    return acts if plain else _KINDS[columns.kind] | (acts & (columns.kind == ACTION))


def repeated(columns: RecordColumns) -> Mask:
    """(n,) of records that de-duplication dropped the purchases that name a slate: one of them may attribute
    a purchase that counted."""
    bought: Mask = (columns.kind == ACTION) & (columns.action == PURCHASED) & (columns.slate != 0)
    return bought


def outcome_records(batch: Decoded, span: Span, chosen: Mask) -> OutcomeRecords:
    """The span's records under `chosen` (n,), and its `repeated` ones."""
    columns, offsets = batch.columns, batch.offsets
    at = span.start + np.flatnonzero(chosen[span.start : span.stop])
    made = zip(offsets[at].tolist(), map(columns.event, at.tolist()), strict=True)
    found: list[tuple[int, events.Event]] = [it for it in made if _concerns(it[1])]
    if span.repeated:
        again = [(offset, event) for offset, _, event in span.repeated]
        found = sorted([*found, *again], key=lambda it: it[0])
    return found  # type: ignore[return-value]


def _concerns(event: events.Event) -> bool:
    """Whether a record under `concerned` does."""
    if isinstance(event, Merge):
        return transfer.has_outcomes(event)
    if isinstance(
        event, Action
    ):  # the codes of refunds and purchases have names that no record has
        return event.action in WITHOUT_SLATE or event.action in STATE_BY_ACTION
    return True


def changes_impressions(event: Record) -> bool:
    """Whether the event changes the impressions of its person."""
    if isinstance(event, Merge):
        return bool(event.impressions or event.served)
    return isinstance(event, Served)
