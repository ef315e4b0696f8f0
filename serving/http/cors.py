"""Cross-origin requests of browsers (Fetch Standard, CORS protocol): for listed origins, and the routes that
a token of a browser may use."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from schemas.access.scopes import BROWSER

MAX_AGE_SECONDS: Final = 600
"""How long a browser keeps the answer to a preflight."""
_HEADERS: Final = "authorization, content-type, idempotency-key, traceparent, x-request-id"
_EXPOSED: Final = b"retry-after, x-request-id"
RawHeaders = tuple[tuple[bytes, bytes], ...]


class Origins:
    """`listed`: the origins whose pages may ask."""

    def __init__(self, listed: Iterable[str] = ()) -> None:
        self._listed = frozenset(origin.encode() for origin in listed)

    def headers(self, origin: bytes | None, scope: str) -> RawHeaders:
        """Those of the answer of a route of `scope` to a page of `origin`; none where it may not read it."""
        if not self._listed or scope not in BROWSER:
            return ()
        vary = (b"vary", b"Origin")
        if origin is None or origin not in self._listed:
            return (vary,)
        return (
            (b"access-control-allow-origin", origin),
            (b"access-control-expose-headers", _EXPOSED),
            vary,
        )

    def preflight(
        self, origin: bytes | None, method: bytes | None, taken: Iterable[tuple[str, str]]
    ) -> dict[str, str]:
        """The headers that let a page of `origin` send a request of `method`; none where it may not. `taken`:
        the methods of the path, each with the scope that it needs."""
        if origin is None or method is None or origin not in self._listed:
            return {}
        allowed = sorted({name for name, scope in taken if scope in BROWSER})
        if method.decode("latin-1") not in allowed:
            return {}
        return {
            "Access-Control-Allow-Origin": origin.decode(),
            "Access-Control-Allow-Methods": ", ".join(allowed),
            "Access-Control-Allow-Headers": _HEADERS,
            "Access-Control-Max-Age": str(MAX_AGE_SECONDS),
            "Vary": "Origin",
        }
