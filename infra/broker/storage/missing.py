"""Unsupported features: for each an error code, a sentence, and a line in the log.

Transactions, KIP-848 groups, fetch sessions, newer leader epochs, replication, compaction.
"""

from __future__ import annotations

from infra.broker.codes import REQUESTS_LOG, Code, Refused


def unsupported(code: Code, feature: str) -> Refused:
    """The refusal to raise where a client asks for `feature`."""
    REQUESTS_LOG.warning(
        "refused with %s: this broker has no %s", code.name, feature, extra={"pace": feature}
    )
    return Refused(code, f"this broker has no {feature}")
