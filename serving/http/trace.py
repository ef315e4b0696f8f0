"""The trace that a request belongs to, as W3C Trace Context has it."""

from __future__ import annotations

from starlette.requests import Request

from schemas.headers import TRACEPARENT, valid_traceparent

_NAME = TRACEPARENT.encode()


def traceparent(request: Request) -> bytes:
    """As received; b"" where the request has none that is valid, or several."""
    return valid_traceparent([value for name, value in request.scope["headers"] if name == _NAME])
