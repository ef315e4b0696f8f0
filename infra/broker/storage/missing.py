"""What this broker does not do: an error code, a sentence, and a line in its log for each.

Transactions, KIP-848 groups, fetch sessions, newer leader epochs, replication, compaction.
"""

from __future__ import annotations

import time
from typing import Final

from infra.broker.codes import LOG, Code, Refused

QUIET_SECONDS: Final = 60.0  # between two lines on the same thing: clients try again and again
_told: dict[str, float] = {}


def lacks(code: Code, what: str) -> Refused:
    """The refusal to raise where a client asks for `what`."""
    now = time.monotonic()
    if now - _told.get(what, -QUIET_SECONDS) >= QUIET_SECONDS:
        _told[what] = now
        LOG.warning("refused with %s: this broker has no %s", code.name, what)
    return Refused(code, f"this broker has no {what}")
