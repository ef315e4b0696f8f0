"""The records of a batch that concern slates, links, or what can be taken back."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from flows.people import transfer
from flows.people.batch import Decoded
from models.outcomes.join import STATE_BY_ACTION
from schemas import events
from schemas.events import Action, Link, Linking, Merge, Served, Unlink

Record = Served | Action | Link | Unlink | Linking | Merge
# built once: to build a union for each isinstance() costs more than the check
SLATE_EVENTS: Final = (Served, Action)
_LINK_EVENTS: Final = (Served, Link, Unlink, Linking)
WITHOUT_SLATE: Final = frozenset({"purchase", "like", "unlike"})
"""Actions that concern outcomes whether or not they name a slate."""
OutcomeRecords = list[tuple[int, Record]]
"""(offset, event) in log order: slates served, actions on them, purchases and likes and what takes them
back, and records that link ids."""


def outcome_records(batch: Decoded) -> OutcomeRecords:
    """The batch's records that concern slates, links, or what can be taken back, its `repeated` ones too."""
    found = _outcome_records(batch.records)
    if batch.repeated:
        found = sorted([*found, *_outcome_records(batch.repeated)], key=lambda it: it[0])
    return found


def _outcome_records(records: Sequence[tuple[int, int, events.Event]]) -> OutcomeRecords:
    return [
        (offset, event)  # type: ignore[misc]
        for offset, _, event in records
        if (
            event.action in WITHOUT_SLATE or (event.slate_id and event.action in STATE_BY_ACTION)
            if type(event) is Action
            else _concerns(event)
        )
    ]


def _concerns(event: events.Event) -> bool:
    """Whether a record that is no action does."""
    return isinstance(event, _LINK_EVENTS) or (
        isinstance(event, Merge) and transfer.has_outcomes(event)
    )


def changes_impressions(event: Record) -> bool:
    """Whether the event changes the impressions of its person."""
    if isinstance(event, Merge):
        return bool(event.impressions or event.served)
    return isinstance(event, Served)
