"""Who sends a request, as the token says."""

from __future__ import annotations

import math
from typing import Final, NamedTuple

from infra import tokens
from schemas.access.scopes import ANYBODY, SCOPES


class Caller(NamedTuple):
    """`client`: who the token was made for (`client_id`). `subject`: the user id that the scopes of the own
    subject are of, "" for none. `anonymous_id` and `origin`: of a browser's token, the one id that it is of
    and the origin that it is bound to. `expires`: Unix seconds. `token_id`: the claim `jti`."""

    client: str
    subject: str = ""
    scopes: frozenset[str] = frozenset()
    anonymous_id: str = ""
    origin: str = ""
    expires: float = math.inf
    token_id: str = ""

    @property
    def name(self) -> str:
        """For records of what was done: the client, and for whom if that is somebody else."""
        of = self.anonymous_id or self.subject
        return f"{self.client}:{of}" if of and of != self.client else self.client

    @property
    def person(self) -> str:
        """The one that limits of a subject are of, whichever client has the token."""
        if self.anonymous_id:
            return f"anonymous_id:{self.anonymous_id}"
        return f"user_id:{self.subject or self.client}"

    @property
    def is_shared(self) -> bool:
        """Whether the token, or its absence, names nobody: whoever works here may hold it."""
        named = self.anonymous_id or self.subject not in ("", self.client)
        return self.client in (LOCAL.client, HOLDER.client, tokens.CLIENT) and not named

    def has(self, scope: str) -> bool:
        """Whether it may use what needs `scope`: by itself, or by the one that covers it."""
        return scope in self.scopes or ANYBODY.get(scope) in self.scopes

    def may_for_anybody(self, scope: str) -> bool:
        """Whether it may do what `scope`, one of `ANYBODY`, allows for the own subject, for anybody."""
        return ANYBODY[scope] in self.scopes


EVERY_SCOPE: Final = frozenset(SCOPES)
UNKNOWN: Final = Caller("")
"""Of a request without a token, to a route that needs none."""
LOCAL: Final = Caller("local", scopes=EVERY_SCOPE)
"""Everybody on this machine, where no token is asked for."""
HOLDER: Final = Caller("token", scopes=EVERY_SCOPE)
"""Whoever has the one token of a small installation."""
