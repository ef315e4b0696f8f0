"""The head of a request, and the one function that stands before every way of answering it."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Final, NamedTuple

from starlette.types import Scope

from serving.access.access import Access, NoToken
from serving.access.caller import UNKNOWN, Caller
from serving.access.keys import KeysUnavailable
from serving.access.oauth import BadToken, UnknownKey
from serving.http.errors import Problem, forbidden

_REMEDY: Final = "Leave FRESHET_AUTH=off out: `freshet up` makes a token."
OPEN: Final = "open"
"""A route of this scope needs no token: for health checks, and for what says how to get one."""
METADATA_PATH: Final = "/.well-known/oauth-protected-resource"
"""Of what the API says of itself to clients of OAuth (RFC 9728)."""


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


def admit(head: Head, scope: str, access: Access) -> Caller:
    """Who sends the request, if they may use a route of `scope`.

    It keeps no state: a request that is answered the usual way after the direct one passes twice.
    Errors: `UnknownKey` where the issuer may have a newer key; `Problem` 401 without a token that is valid,
    403 for what its scopes do not cover, and for a page of another site in a browser; 503 while the issuer's
    keys are not known.
    """
    if scope == OPEN:
        return UNKNOWN
    headers = head.headers
    if access.is_off:
        _check_local(head)
    try:
        caller = access.caller(headers.get(b"authorization", b"").decode("latin-1"), time.time())
    except UnknownKey as error:
        if error.keys.may_refresh:
            raise
        raise _unauthorized(head, access, str(error)) from None
    except BadToken as error:
        raise _unauthorized(head, access, str(error)) from None
    except NoToken:
        raise _unauthorized(head, access) from None
    except KeysUnavailable:
        raise Problem(
            503,
            "issuer_unavailable",
            "The keys of the issuer of tokens are not known.",
            headers={"Retry-After": "5"},
        ) from None
    if caller.origin and not _is_of_origin(headers, caller.origin):
        raise Problem(403, "origin", "The token is of a page of another origin.")
    if not caller.has(scope):
        raise forbidden(scope)
    return caller


def _check_local(head: Head) -> None:
    """Checks that no page of another site sends this. Only its address guards a server without tokens, and a
    browser on this machine would let any page send requests to it; a page whose own name was made to point
    here (DNS rebinding) has the protocol refused by its Host. Errors: `Problem` 403."""
    headers = head.headers
    host, origin = headers.get(b"host", b""), headers.get(b"origin")
    if headers.get(b"sec-fetch-site") == b"cross-site":
        raise Problem(403, "cross_site", f"Pages of other sites need a token. {_REMEDY}")
    if origin is not None and origin.partition(b"://")[2] != host:
        raise Problem(403, "cross_site", f"Pages of other origins need a token. {_REMEDY}")


def _unauthorized(head: Head, access: Access, why: str = "") -> Problem:
    """The 401 of a request without a token, or with one of which `why` says what is wrong."""
    pieces = ['realm="freshet"']  # RFC 9110, 11.4: a scheme is not alone
    if url := access.public_url(head.headers):
        pieces.append(f'resource_metadata="{url}{METADATA_PATH}"')
    if why:
        pieces += ['error="invalid_token"', f'error_description="{why}"']
    detail = f"A valid access token is needed: {why}." if why else "An access token is needed."
    challenge = {"WWW-Authenticate": f"Bearer {', '.join(pieces)}"}
    return Problem(401, "unauthorized", detail, headers=challenge)


def _is_of_origin(headers: Mapping[bytes, bytes], origin: str) -> bool:
    """Whether a page of `origin` sends this. A browser leaves the header Origin out where a page reads from
    its own origin, and says so (RFC 6454, 7; Fetch Metadata)."""
    given = headers.get(b"origin")
    if given is None:
        host = headers.get(b"host", b"").decode("latin-1")
        return headers.get(b"sec-fetch-site") == b"same-origin" and origin.endswith(f"://{host}")
    return given == origin.encode()


def admits(head: Head, scope: str, access: Access) -> Caller | None:
    """As `admit`; None where it has an error."""
    try:
        return admit(head, scope, access)
    except (Problem, UnknownKey):
        return None
