"""The public keys of an issuer of tokens: a JSON Web Key Set (RFC 7517), from a path or a URL."""

from __future__ import annotations

import asyncio
import json
import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import httpx
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from jwt import PyJWKError
from jwt.api_jwk import PyJWK
from jwt.exceptions import InvalidKeyError

from infra.access_settings import ALGORITHMS
from infra.hosts import is_secure_url

log = logging.getLogger("freshet.serving")
_KINDS: Final = (
    ("RSA", None, "RS256"),
    ("EC", "P-256", "ES256"),
    ("OKP", "Ed25519", "EdDSA"),
)
MIN_RSA_BITS: Final = 2048
MAX_KEYS: Final = 100
MAX_SET_BYTES: Final = 256 * 1024
FETCH_SECONDS: Final = 5.0
REFRESH_SECONDS: Final = 300.0
"""How often keys are fetched that nobody has missed."""
RETRY_SECONDS: Final = 60.0
"""For so long nothing is fetched again, whoever asks for a key that is not there."""
STALE_SECONDS: Final = 24 * 3600.0
"""For so long keys are used while their issuer does not answer."""


class KeysUnavailable(Exception):
    """No keys are there, or they are too old: the text says why."""


class Key(NamedTuple):
    """`algorithm`: the one that it is used with. `public`: as `cryptography` has it."""

    identifier: str
    algorithm: str
    public: Any


class KeySet:
    """The keys of one issuer. `where`: a URL or a path; "" for those that are given, which do not age."""

    def __init__(self, where: str = "", clock: Callable[[], float] = time.monotonic) -> None:
        self.where = where
        self._clock = clock
        self._keys: tuple[Key, ...] = ()
        self._fetched = self._missed = -math.inf
        self._failure = "they have not been fetched yet"
        self._fetching: asyncio.Future[None] | None = None

    @property
    def failure(self) -> str:
        """Why the last attempt to fetch them failed; "": it did not."""
        return self._failure

    def find(self, identifier: str | None, algorithm: str) -> Key | None:
        """The key of this id for the algorithm; without an id the only one for it. None: there is none.

        Errors: `KeysUnavailable`.
        """
        if self._clock() - self._fetched > (STALE_SECONDS if self.where else math.inf):
            raise KeysUnavailable(self._failure or "they are too old")
        found = [
            key
            for key in self._keys
            if key.algorithm == algorithm and identifier in (None, key.identifier)
        ]
        return found[0] if len(found) == 1 else None

    @property
    def may_refresh(self) -> bool:
        """Whether `refresh` would fetch for a key that somebody misses: within `RETRY_SECONDS` it does so
        once."""
        if not self.where:
            return False
        return self._clock() - self._missed >= RETRY_SECONDS or self._fetching is not None

    async def refresh(self, *, at_once: bool = False) -> None:
        """Fetches the keys; unless `at_once`, because one is missed. Several callers wait for one fetch."""
        if self._fetching is None:
            if not at_once:
                if not self.may_refresh:
                    return
                self._missed = self._clock()
            self._fetching = asyncio.ensure_future(self._fetch())
        await asyncio.shield(self._fetching)

    async def _fetch(self) -> None:
        try:
            self.take(await _read(self.where))
        except (OSError, ValueError, httpx.HTTPError, KeysUnavailable) as error:
            why = str(error) or type(error).__name__
            if why != self._failure:
                log.warning("the keys at %s can't be read: %s", self.where, why)
            self._failure = why
        finally:
            self._fetching = None

    def take(self, content: bytes) -> None:
        """Puts the keys of a JWK Set in place of those that are there; what cannot verify is left out.

        Errors: ValueError, `KeysUnavailable` where none is left.
        """
        self._keys = tuple(public_keys(content))
        self._fetched, self._failure = self._clock(), ""


def public_keys(content: bytes) -> Iterable[Key]:
    """The keys of a JWK Set that verify signatures. Errors: ValueError, `KeysUnavailable`."""
    document = json.loads(content)
    listed = document.get("keys") if isinstance(document, dict) else None
    if not isinstance(listed, list) or len(listed) > MAX_KEYS:
        raise KeysUnavailable(f"no JWK Set of at most {MAX_KEYS} keys")
    found = [key for entry in listed if (key := _key(entry)) is not None]
    if not found:
        raise KeysUnavailable(f"no key for one of {', '.join(ALGORITHMS)}")
    return found


def _key(entry: Any) -> Key | None:
    if not isinstance(entry, dict) or entry.get("use", "sig") != "sig":
        return None
    if "verify" not in entry.get("key_ops", ["verify"]):
        return None
    algorithm = _algorithm(entry)
    if algorithm is None or entry.get("alg", algorithm) != algorithm:
        return None
    wanted = {name: value for name, value in entry.items() if name not in ("d", "p", "q")}
    try:
        public = PyJWK.from_dict(wanted, algorithm).key
    except (PyJWKError, InvalidKeyError, ValueError, TypeError, KeyError):
        return None
    if not _is_strong(public):
        return None
    identifier = entry.get("kid")
    return Key(identifier if isinstance(identifier, str) else "", algorithm, public)


def _algorithm(entry: Mapping[str, Any]) -> str | None:
    for kind, curve, algorithm in _KINDS:
        if entry.get("kty") == kind and entry.get("crv") == curve:
            return algorithm
    return None


def _is_strong(public: object) -> bool:
    if isinstance(public, rsa.RSAPublicKey):
        return public.key_size >= MIN_RSA_BITS
    return isinstance(public, ec.EllipticCurvePublicKey | ed25519.Ed25519PublicKey)


async def _read(where: str) -> bytes:
    """Errors: OSError, `httpx.HTTPError`, `KeysUnavailable`."""
    if "://" not in where:
        with Path(where).open("rb") as file:
            content = file.read(MAX_SET_BYTES + 1)
        _check_size(len(content))
        return content
    if not is_secure_url(where):
        raise KeysUnavailable("keys are fetched by https, by http from this machine alone")
    fetched = bytearray()
    # a redirect may lead anywhere, a proxy may be anybody
    async with (
        asyncio.timeout(FETCH_SECONDS),
        httpx.AsyncClient(follow_redirects=False, timeout=FETCH_SECONDS) as client,
        client.stream("GET", where, headers={"Accept": "application/json"}) as answer,
    ):
        if answer.status_code != 200:
            raise KeysUnavailable(f"the issuer answers {answer.status_code}")
        async for chunk in answer.aiter_bytes():
            fetched += chunk
            _check_size(len(fetched))
    return bytes(fetched)


def _check_size(size: int) -> None:
    if size > MAX_SET_BYTES:
        raise KeysUnavailable(f"more than {MAX_SET_BYTES} bytes")
