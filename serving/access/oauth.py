"""Access tokens as RFC 9068 has them, verified as RFC 8725 asks."""

from __future__ import annotations

import json
import math
import re
from binascii import a2b_base64
from collections.abc import Mapping
from functools import lru_cache
from typing import Any, Final, NamedTuple

from jwt import get_algorithm_by_name

from infra.access_settings import ALGORITHMS
from schemas.access import scopes
from serving.access.caller import Caller
from serving.access.keys import KeySet

MAX_TOKEN_BYTES: Final = 8 * 1024
LEEWAY_SECONDS: Final = 30
MAX_NAME_LENGTH: Final = 512
"""Of a claim that is text."""
_BASE64URL: Final = re.compile("[A-Za-z0-9_-]+")
_TYPES: Final = ("at+jwt", "application/at+jwt")
_SIGNED: Final = {name: get_algorithm_by_name(name) for name in ALGORITHMS}


class BadToken(Exception):
    """The token admits nobody; the text says why, and names none of its values."""


class UnknownKey(BadToken):
    """No key of its issuer has the token's `kid`; after a refresh one may."""

    def __init__(self, keys: KeySet) -> None:
        super().__init__("the token is signed by an unknown key")
        self.keys = keys


class Issuer(NamedTuple):
    """An authorization server that is trusted. `browsers_alone`: it makes tokens for browsers, and no others
    of it are taken."""

    audience: str
    algorithms: frozenset[str]
    keys: KeySet
    browsers_alone: bool = False


class Verifier:
    """Verifies the tokens of `issuers`, by the claim `iss`."""

    def __init__(self, issuers: Mapping[str, Issuer]) -> None:
        self.issuers = issuers

    def verify(self, token: str, now: float) -> Caller:
        """Who sends the token. `now`: Unix seconds.

        Errors: `BadToken`, `UnknownKey`, `keys.KeysUnavailable`.
        """
        if len(token) > MAX_TOKEN_BYTES:
            raise BadToken(f"the token is longer than {MAX_TOKEN_BYTES} bytes")
        pieces = token.split(".")
        if len(pieces) != 3 or not token.isascii():
            raise BadToken("the token is no JWT in compact form")
        header, claims = _header(pieces[0]), _decoded(pieces[1])
        issuer = self.issuers.get(_text(claims, "iss"))
        if issuer is None:
            raise BadToken("the token is of an issuer that is not trusted here")
        algorithm = _checked_header(header, issuer)
        kid = header.get("kid")
        if kid is not None and not isinstance(kid, str):
            raise BadToken("the token's kid is no text")
        key = issuer.keys.find(kid, algorithm)
        if key is None:
            raise UnknownKey(issuer.keys)
        signed = token.rpartition(".")[0].encode()
        if not _SIGNED[algorithm].verify(signed, key.public, _bytes(pieces[2])):
            raise BadToken("the token's signature is wrong")
        return _caller(claims, issuer, now)


def _checked_header(header: Mapping[str, Any], issuer: Issuer) -> str:
    """The algorithm. What names or brings a key (`jku`, `x5u`, `jwk`, `x5c`) counts for nothing."""
    kind = header.get("typ")
    if not isinstance(kind, str) or kind.lower() not in _TYPES:
        raise BadToken("the token's typ is not at+jwt")
    algorithm = header.get("alg")
    if not isinstance(algorithm, str) or algorithm not in issuer.algorithms:
        raise BadToken(f"the token's alg is none of {', '.join(sorted(issuer.algorithms))}")
    if "crit" in header:
        raise BadToken("the token has critical extensions, and none is known here")
    return algorithm


def _caller(claims: Mapping[str, Any], issuer: Issuer, now: float) -> Caller:
    audience = claims.get("aud")
    named = audience if isinstance(audience, list) else [audience]
    if issuer.audience not in named:
        raise BadToken("the token is for another audience")
    expires, issued = _time(claims, "exp"), _time(claims, "iat")
    if expires <= now - LEEWAY_SECONDS:
        raise BadToken("the token has expired")
    begins = _time(claims, "nbf") if "nbf" in claims else issued
    if max(issued, begins) > now + LEEWAY_SECONDS:
        raise BadToken("the token is of the future")
    subject, client = _text(claims, "sub"), _text(claims, "client_id")
    scope = claims.get("scope", "")
    if not isinstance(scope, str):
        raise BadToken("the token's scope is no text")
    token_id = claims.get("jti", "")
    caller = Caller(
        client=client,
        subject=subject,
        scopes=scopes.named(scope),
        expires=expires + LEEWAY_SECONDS,
        token_id=token_id if isinstance(token_id, str) else "",
    )
    if "anonymous_id" not in claims and "origin" not in claims:
        if issuer.browsers_alone:
            raise BadToken("this issuer makes tokens for browsers alone")
        return caller
    # of a browser: no subject, nothing beyond what its page does
    return caller._replace(
        subject="",
        anonymous_id=_text(claims, "anonymous_id"),
        origin=_text(claims, "origin"),
        scopes=caller.scopes & scopes.BROWSER,
    )


@lru_cache(maxsize=256)
def _header(piece: str) -> Mapping[str, Any]:
    """An issuer's tokens have few headers."""
    return _decoded(piece)


def _decoded(piece: str) -> dict[str, Any]:
    try:
        found = json.loads(_bytes(piece), object_pairs_hook=_once)
    except (ValueError, RecursionError):
        raise BadToken("the token is no JWT in compact form") from None
    if not isinstance(found, dict):
        raise BadToken("the token is no JWT in compact form")
    return found


def _bytes(piece: str) -> bytes:
    """What a piece encodes (RFC 7515, 2). Errors: `BadToken`."""
    if not _BASE64URL.fullmatch(piece):
        raise BadToken("the token is no JWT in compact form")
    try:
        return a2b_base64(f"{piece.replace('-', '+').replace('_', '/')}==")
    except ValueError:
        raise BadToken("the token is no JWT in compact form") from None


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Errors: ValueError where a name comes twice (RFC 8725, 2.4)."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError
    return found


def _text(claims: Mapping[str, Any], name: str) -> str:
    value = claims.get(name)
    if not isinstance(value, str) or not value:
        raise BadToken(f"the token has no {name}")
    if len(value) > MAX_NAME_LENGTH or not value.isprintable():
        raise BadToken(f"the token's {name} is too long, or no plain text")
    return value


def _time(claims: Mapping[str, Any], name: str) -> float:
    value = claims.get(name)
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadToken(f"the token's {name} is missing, or no time")
    return float(value)
