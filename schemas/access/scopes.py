"""The scopes of access tokens, and which of them covers which."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

REC_READ: Final = "rec:read"
REC_READ_ANY: Final = "rec:read:any"
EVENTS_WRITE: Final = "events:write"
EVENTS_WRITE_ANY: Final = "events:write:any"
ITEMS_WRITE: Final = "items:write"
EXP_READ: Final = "exp:read"
EXP_ADMIN: Final = "exp:admin"
ANALYST: Final = "analyst"
PRIVACY_SELF: Final = "privacy:self"
PRIVACY_ADMIN: Final = "privacy:admin"
OPS: Final = "ops"
IMPORT: Final = "import"
EXPLAIN: Final = "explain"
TOKENS_WRITE: Final = "tokens:write"

SCOPES: Final[Mapping[str, str]] = {
    REC_READ: "recommendations for the token's own subject; items",
    REC_READ_ANY: "recommendations for anybody",
    EVENTS_WRITE: "events, preferences and links of the token's own subject",
    EVENTS_WRITE_ANY: "events, preferences and links of anybody",
    ITEMS_WRITE: "change the catalogue",
    EXP_READ: "experiments, placements and their metrics",
    EXP_ADMIN: "change experiments, placements and releases",
    ANALYST: "slates, and the assignments of anybody",
    PRIVACY_SELF: "data and erasure of the token's own subject",
    PRIVACY_ADMIN: "data and erasure of anybody",
    OPS: "metrics and status",
    IMPORT: "send history, set the time of a read",
    EXPLAIN: "propensities and feature values",
    TOKENS_WRITE: "make tokens for browsers",
}
"""Name -> what it allows. A token with another one has that one for nothing."""
ANYBODY: Final[Mapping[str, str]] = {
    REC_READ: REC_READ_ANY,
    EVENTS_WRITE: EVENTS_WRITE_ANY,
    PRIVACY_SELF: PRIVACY_ADMIN,
}
"""A scope of the token's own subject -> the one of the same for anybody, which covers it."""
BROWSER: Final = frozenset((REC_READ, EVENTS_WRITE))
"""All that a token bound to an anonymous id may have."""


def named(scope: str) -> frozenset[str]:
    """The scopes that the claim `scope` names, with spaces between them (RFC 6749, 3.3); unknown ones are
    left out.

    >>> sorted(named("ops rec:read ops unknown"))
    ['ops', 'rec:read']
    """
    return frozenset(scope.split(" ")) & SCOPES.keys()
