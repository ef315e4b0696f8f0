"""The check of an access token, beside that of its bare signature: CPU of one thread."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from typing import Any, Final, NamedTuple

import jwt
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa

from infra.access_settings import ALGORITHMS
from serving.access.access import Access
from serving.access.keys import KeySet
from serving.access.oauth import Issuer

REPEATS: Final = 7
TOKENS: Final = 200
_ISSUER: Final = "urn:freshet:bench"


class TokenTimes(NamedTuple):
    """Of one algorithm, µs, the least of `REPEATS`. `cold_us`: a token that was not seen before; `cached_us`:
    one that was; `signature_us`: its signature alone."""

    algorithm: str
    cold_us: float
    cached_us: float
    signature_us: float


def measure() -> list[TokenTimes]:
    """The times of each algorithm."""
    return [_times(name) for name in ALGORITHMS]


def _times(algorithm: str) -> TokenTimes:
    key, now = _key(algorithm), int(time.time())
    by = jwt.get_algorithm_by_name(algorithm)
    public = by.to_jwk(key.public_key(), as_dict=True)
    keys = KeySet()
    keys.take(json.dumps({"keys": [{**public, "kid": "k"}]}).encode())
    access = Access({_ISSUER: Issuer("freshet", frozenset({algorithm}), keys)})
    claims = {
        "iss": _ISSUER,
        "aud": "freshet",
        "client_id": "shop",
        "scope": "rec:read events:write",
    }
    headers, times = {"typ": "at+jwt", "kid": "k"}, {"iat": now, "exp": now + 3600}
    tokens = [
        jwt.encode({**claims, **times, "sub": f"u{n}"}, key, algorithm, headers)
        for n in range(TOKENS)
    ]
    signed = [token.rpartition(".") for token in tokens]
    pieces = [(it[0].encode(), jwt.utils.base64url_decode(it[2].encode())) for it in signed]
    public_key = key.public_key()
    signature = _least(lambda: [by.verify(message, public_key, mark) for message, mark in pieces])

    def all_of(checked: Access) -> object:
        return [checked.caller(f"Bearer {token}", now) for token in tokens]

    # a new one each time: nothing is cached
    cold = _least(lambda: all_of(Access(access.issuers)))
    all_of(access)
    return TokenTimes(algorithm, cold, _least(lambda: all_of(access)), signature)


def _key(algorithm: str) -> Any:
    if algorithm == "RS256":
        return rsa.generate_private_key(65537, 2048)
    if algorithm == "ES256":
        return ec.generate_private_key(ec.SECP256R1())
    return ed25519.Ed25519PrivateKey.generate()


def _least(work: Callable[[], object]) -> float:
    """µs a token."""
    least = float("inf")
    for _ in range(REPEATS):
        began = time.thread_time_ns()
        work()
        least = min(least, time.thread_time_ns() - began)
    return round(least / TOKENS / 1000, 2)
