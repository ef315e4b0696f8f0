"""The head of a request, and the one function that stands before every way of answering it."""

from __future__ import annotations

import hmac
from collections.abc import Mapping
from typing import Final, NamedTuple

from starlette.types import Scope

from serving.http.errors import Problem

OPEN: Final = "open"
"""A route of this scope needs no token, even where one is set: for health checks."""


class Head(NamedTuple):
    """`target`: as it was sent. `headers`: name in lower case -> value, the first of each name, undecoded."""

    method: bytes
    target: bytes
    headers: Mapping[bytes, bytes]

    @classmethod
    def of(cls, scope: Scope) -> Head:
        """That of a request of ASGI."""
        query: bytes = scope["query_string"]
        path: bytes = scope.get("raw_path") or scope["path"].encode()
        target = b"%b?%b" % (path, query) if query else path
        return cls(scope["method"].encode(), target, dict(reversed(scope["headers"])))


def admit(head: Head, scope: str, token: str) -> None:
    """Whether a caller may use a route of `scope`. `token`: the one that is set, "" for none.

    It keeps no state: a request that is answered the usual way after the direct one passes twice.
    Errors: `Problem` 401 without the token, 403 for a page of another site in a browser.
    """
    if scope == OPEN:
        return
    if not token:
        # only its address guards a server without a token, and a browser on this machine would let any page
        # send requests to it
        if head.headers.get(b"sec-fetch-site") == b"cross-site":
            raise Problem(403, "cross_site", "Set FRESHET_TOKEN to take requests of other sites.")
        return
    authorization = head.headers.get(b"authorization", b"").decode("latin-1")
    scheme, _, given = authorization.partition(" ")
    if scheme.lower() != "bearer" or not hmac.compare_digest(
        given.strip().encode(), token.encode()
    ):
        raise Problem(
            401, "unauthorized", "A bearer token is needed.", headers={"WWW-Authenticate": "Bearer"}
        )
