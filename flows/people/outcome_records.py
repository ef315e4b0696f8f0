"""The records of a batch that concern slates, links, or what can be taken back."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping
from itertools import repeat
from typing import Any, Final

import msgspec
import numpy as np

from flows.people import transfer
from flows.people.batch import PURCHASED, Decoded, Span
from models.arrays import I64, Mask
from models.outcomes import likes, reversibles
from models.outcomes.join import STATE_BY_ACTION
from models.outcomes.purchases import LIKE
from models.records import ACTION, KIND, NOT_IN_COLUMNS, RecordColumns
from schemas import events
from schemas.actions import ACTIONS, CODE, NEGATIVE
from schemas.events import Action, Link, Linking, Merge, Served, Unlink


class FirstAct(msgspec.Struct, frozen=True, gc=False):
    """Stands before the first record of a span with which `person` acts, or is linked, where they may be a
    stranger (`flows.people.strangers`)."""

    person: str


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
_NEVER: Final = bytes(np.flatnonzero(~_ALONE).tolist())
"""Codes of the actions that need a slate for it."""
Price = tuple[int, int, int]
"""Currency, amount, quantity (`models.records.price_of`)."""
Short = tuple[RecordColumns, int, str, int, int, bytes, Price | None]
"""A purchase that names no slate, or a like: where its event is (columns and row), person, item, when it
occurred (s), its row in the person's string if it counted, price (None: a like). Most need no event."""
OutcomeRecords = list[tuple[int, Record | Short | FirstAct]]
"""(offset, record) in log order: slates served, actions on them, purchases and likes and what takes them
back, and records that link ids; and the first acts of strangers."""


def concerned(columns: RecordColumns, *, plain: bool) -> Mask:
    """(n,) the records that concern slates, links, or what can be taken back; of merges all. `plain`: all are
    actions."""
    acts: Mask = _ALONE[columns.action] | (_WITH_SLATE[columns.action] & (columns.slate != 0))
    return acts if plain else _KINDS[columns.kind] | (acts & (columns.kind == ACTION))


def concerns_none(columns: RecordColumns) -> bool:
    """Whether `concerned` is all False of records that are all actions, where that is found at once."""
    return not columns.action.tobytes().translate(None, _NEVER) and not columns.slate.any()


def repeated(columns: RecordColumns) -> Mask:
    """(n,) of records that de-duplication dropped the purchases that name a slate: one of them may attribute
    a purchase that counted."""
    bought: Mask = (columns.kind == ACTION) & (columns.action == PURCHASED) & (columns.slate != 0)
    return bought


def outcome_records(
    batch: Decoded, chosen: Mask, first_acts: Mapping[int, FirstAct]
) -> list[OutcomeRecords]:
    """Of each span the records under `chosen` (n,), its `repeated` ones, and the `first_acts`, by row, each
    before the record of its row."""
    columns, at = batch.columns, np.flatnonzero(chosen)
    found, rows = short_records(columns, at), at.tolist()
    for n, short in enumerate(found):
        if short is None and _concerns(event := columns.event(rows[n])):
            found[n] = event
    made = list(zip(batch.offsets[at].tolist(), found, strict=True))
    if first_acts:
        acts = np.array(list(first_acts), np.int64)
        both = [*zip(acts.tolist(), batch.offsets[acts].tolist(), first_acts.values(), strict=True)]
        both += [(row, *it) for row, it in zip(rows, made, strict=True)]
        both.sort(key=lambda it: it[0])  # it is stable
        made = [it[1:] for it in both]
        at = np.array([it[0] for it in both])
    stops = np.searchsorted(at, [span.stop for span in batch.spans]).tolist()
    return [
        _of_span(span, made[start:stop])
        for span, start, stop in zip(batch.spans, [0, *stops], stops, strict=False)
    ]


def _of_span(span: Span, made: list[tuple[int, Any]]) -> OutcomeRecords:
    found = [it for it in made if it[1] is not None]
    if span.repeated:
        again = [(offset, event) for offset, _, event in span.repeated]
        found = sorted([*found, *again], key=lambda it: it[0])
    return found


def short_records(columns: RecordColumns, at: I64) -> list[Any]:
    """(k,) of the records at the rows `at`: those that are `Short`; None for the others."""
    found: list[Short | None] = [None] * len(at)
    action = columns.action[at]
    bought = (action == PURCHASED) & (columns.slate[at] == 0)
    bought &= columns.currency[at] != NOT_IN_COLUMNS
    for which, made in ((bought, _purchases), (action == LIKE, _likes)):
        if len(places := np.flatnonzero(which)):
            for place, short in zip(places.tolist(), made(columns, at[places]), strict=True):
                found[place] = short
    return found


def _purchases(columns: RecordColumns, at: I64) -> Iterator[Short]:
    item, second = _items_and_seconds(columns, at)
    identity = np.maximum(columns.name[at].astype(np.uint32), 1).tolist()
    received = (columns.received[at] // 1000).tolist()
    prices = [it[at].tolist() for it in (columns.currency, columns.amount, columns.quantity)]
    packed = reversibles.pending_rows(item, identity, second, PURCHASED, received, prices)
    people, rows, price = columns.people(at), at.tolist(), zip(*prices, strict=True)
    return zip(repeat(columns), rows, people, item, second, packed, price)


def _likes(columns: RecordColumns, at: I64) -> Iterator[Short]:
    item, second = _items_and_seconds(columns, at)
    packed = likes.counted_rows(item, second)
    people, rows = columns.people(at), at.tolist()
    return zip(repeat(columns), rows, people, item, second, packed, repeat(None))


def _items_and_seconds(columns: RecordColumns, at: I64) -> tuple[list[int], list[int]]:
    return columns.item[at].tolist(), (columns.occurred[at] // 1000).tolist()


def _concerns(event: events.Event) -> bool:
    """Whether a record under `concerned` does."""
    if isinstance(event, Merge):
        return transfer.has_outcomes(event)
    if isinstance(
        event, Action
    ):  # the codes of refunds and purchases have names that no record has
        return event.action in WITHOUT_SLATE or event.action in STATE_BY_ACTION
    return True


def acts(offset: int, event: events.Event, new_merges: Container[int]) -> bool:
    """Whether its person does something, or is linked: something is stored of them then. `new_merges`: the
    offsets of merges that were not received before."""
    if isinstance(event, Merge):
        return offset in new_merges
    if isinstance(event, Link):
        return event.to != event.person
    return isinstance(event, Action | Linking)


def changes_impressions(event: Record) -> bool:
    """Whether the event changes the impressions of its person."""
    if isinstance(event, Merge):
        return bool(event.impressions or event.served)
    return isinstance(event, Served)
