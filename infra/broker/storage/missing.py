"""Unsupported features: for each an error code, a sentence, and a line in the log.

Transactions, KIP-848 groups, fetch sessions, newer leader epochs, replication, compaction.
"""

from __future__ import annotations

import time
from typing import Final

from infra.broker.codes import LOG, Code, Refused

LOG_INTERVAL_SECONDS: Final = 60.0  # between two lines on one feature: clients try again and again
_last_logged: dict[str, float] = {}


def unsupported(code: Code, feature: str) -> Refused:
    """The refusal to raise where a client asks for `feature`."""
    now = time.monotonic()
    if now - _last_logged.get(feature, -LOG_INTERVAL_SECONDS) >= LOG_INTERVAL_SECONDS:
        _last_logged[feature] = now
        LOG.warning("refused with %s: this broker has no %s", code.name, feature)
    return Refused(code, f"this broker has no {feature}")
