"""What becomes of the records of one append."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final, NamedTuple

from infra.kafka.produce.errors import NotDurable


class AppendOutcome(NamedTuple):
    """`offsets`: partition -> highest offset written there, where the broker has every record. `error`: why
    it has not. Neither: the spool has the records, synced."""

    offsets: Mapping[int, int] | None
    error: NotDurable | None = None


SPOOLED: Final = AppendOutcome(None)
Done = Callable[[AppendOutcome], None]
"""Takes the outcome, once, on the event loop."""
