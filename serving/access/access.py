"""From the header `Authorization` to the caller: tokens of OAuth, the one token, or nobody asks."""

from __future__ import annotations

import hmac
import re
import secrets
from collections.abc import Mapping
from hashlib import blake2b
from typing import Final

from infra import tokens
from infra.settings import Settings
from serving.access.caller import HOLDER, LOCAL, Caller
from serving.access.keys import KeySet
from serving.access.oauth import BadToken, Issuer, Verifier

MAX_CACHED_TOKENS: Final = 20_000
_SCHEME: Final = "bearer"
_HOST: Final = re.compile(r"[\w.:\[\]-]{1,255}", re.ASCII)


class NoToken(Exception):
    """There is no bearer token."""


class Access:
    """`is_off`: every caller has every scope. `issuers`: by the claim `iss`. `token`: the one of a small
    installation; "" for none. `url`: where clients find the API, "" where their Host says it."""

    def __init__(
        self,
        issuers: Mapping[str, Issuer],
        token: str = "",
        url: str = "",
        *,
        is_off: bool = False,
    ) -> None:
        self.is_off = is_off
        self._url = url.rstrip("/")
        self.issuers = issuers
        self._verifier = Verifier(issuers)
        self._token = token.encode()
        # a digest that nobody can foresee: no two tokens that somebody made share one
        self._secret = secrets.token_bytes(16)
        self._cache: dict[bytes, Caller] = {}

    @classmethod
    def of(cls, settings: Settings) -> Access:
        """As the settings say. Errors: `infra.settings.BadSetting`."""
        if settings.auth == "off":
            return cls({}, is_off=True)
        own = KeySet()
        own.take(tokens.public_keys(settings))
        has_issuer = bool(settings.issuer)
        issuers = {
            tokens.HOME: Issuer(
                settings.audience, frozenset((tokens.ALGORITHM,)), own, browsers_alone=has_issuer
            )
        }
        if has_issuer:
            algorithms = frozenset(settings.algorithms.split(","))
            issuers[settings.issuer] = Issuer(settings.audience, algorithms, KeySet(settings.jwks))
        return cls(issuers, settings.shared_token, settings.public_url)

    def public_url(self, headers: Mapping[bytes, bytes]) -> str:
        """Where the sender of these headers finds the API."""
        if self._url:
            return self._url
        host = headers.get(b"host", b"").decode("latin-1")
        return f"http://{host}" if _HOST.fullmatch(host) else ""

    def caller(self, authorization: str, now: float) -> Caller:
        """Who sends a request with this header, "" without one. `now`: Unix seconds.

        Errors: `NoToken`, `BadToken`, `UnknownKey`, `KeysUnavailable`.
        """
        if self.is_off:
            return LOCAL
        scheme, _, token = authorization.partition(" ")
        token = token.strip(" ")
        if scheme.lower() != _SCHEME or not token:
            raise NoToken
        given = token.encode("utf-8", "surrogatepass")
        if self._token and hmac.compare_digest(given, self._token):
            return HOLDER
        digest = blake2b(given, digest_size=16, key=self._secret).digest()
        cached = self._cache.get(digest)
        if cached is not None:
            if now < cached.expires:
                return cached
            del self._cache[digest]
            raise BadToken("the token has expired")
        found = self._verifier.verify(token, now)
        if len(self._cache) >= MAX_CACHED_TOKENS:
            del self._cache[next(iter(self._cache))]
        self._cache[digest] = found
        return found
