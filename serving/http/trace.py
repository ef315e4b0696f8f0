"""The trace of a request, in the format of W3C Trace Context."""

from __future__ import annotations

from starlette.requests import Request

from schemas.headers import TRACEPARENT, valid_traceparent

_NAME = TRACEPARENT.encode()


def traceparent(request: Request) -> bytes:
    """The header as received; b"" where the request has no valid one, or several."""
    return valid_traceparent([value for name, value in request.scope["headers"] if name == _NAME])
