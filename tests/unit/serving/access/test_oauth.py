"""What a token must be (RFC 9068, RFC 8725): each thing that may be wrong with one."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from functools import cache
from typing import Any

import jwt
import pytest
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, rsa
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from schemas.access.scopes import SCOPES
from serving.access.access import Access, NoToken
from serving.access.caller import HOLDER, LOCAL, Caller
from serving.access.keys import KeySet, KeysUnavailable, public_keys
from serving.access.oauth import (
    LEEWAY_SECONDS,
    MAX_TOKEN_BYTES,
    BadToken,
    Issuer,
    UnknownKey,
    Verifier,
)

NOW = 1_900_000_000
ISSUER = "https://id.example"
CLAIMS: dict[str, Any] = {
    "iss": ISSUER, "aud": "freshet", "sub": "u1", "client_id": "shop", "iat": NOW - 10,
    "exp": NOW + 600, "jti": "t1", "scope": "rec:read events:write unheard:of",
}  # fmt: skip
Key = Any


@cache
def signer(kind: str) -> Key:
    """A private key for an algorithm."""
    if kind == "RS256":
        return rsa.generate_private_key(65537, 2048)
    return ec.generate_private_key(ec.SECP256R1()) if kind == "ES256" else ed25519_key()


def ed25519_key() -> Key:
    return ed25519.Ed25519PrivateKey.generate()


def jwk(kind: str, key: Key, kid: str, **more: Any) -> dict[str, Any]:
    algorithm = jwt.get_algorithm_by_name(kind)
    made = algorithm.to_jwk(key.public_key(), as_dict=True)
    return {**made, "kid": kid, **more}


def key_set(*entries: dict[str, Any]) -> KeySet:
    made = KeySet()
    made.take(json.dumps({"keys": entries}).encode())
    return made


@cache
def verifier(*algorithms: str) -> Verifier:
    keys = key_set(*(jwk(kind, signer(kind), kind) for kind in ("RS256", "ES256", "EdDSA")))
    taken = frozenset(algorithms or ("RS256", "ES256", "EdDSA"))
    return Verifier({ISSUER: Issuer("freshet", taken, keys)})


def token(kind: str = "EdDSA", header: Any = (), key: Key = None, **claims: Any) -> str:
    """A good token but for what is given; a claim of None is left out."""
    content = {name: it for name, it in {**CLAIMS, **claims}.items() if it is not None}
    fields = {"typ": "at+jwt", "kid": kind, **dict(header)}
    given = {name: it for name, it in fields.items() if it is not None}
    return jwt.encode(content, key or signer(kind), kind, given)


def forged(header: dict[str, Any], claims: dict[str, Any] | bytes = b"", tail: str = "x") -> str:
    def coded(value: Any) -> str:
        text = value if isinstance(value, bytes) else json.dumps(value).encode()
        return base64.urlsafe_b64encode(text).rstrip(b"=").decode()

    return f"{coded(header)}.{coded(claims or CLAIMS)}.{tail}"


def public_pem() -> bytes:
    return bytes(
        signer("RS256").public_key().public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
    )


@pytest.mark.parametrize("kind", ["RS256", "ES256", "EdDSA"])
def test_a_good_token_says_who_sends_it(kind: str) -> None:
    expected = Caller(
        "shop", "u1", frozenset({"rec:read", "events:write"}), "", "", NOW + 630, "t1"
    )
    assert verifier().verify(token(kind), NOW) == expected
    listed = token(kind, {"typ": "application/AT+JWT"}, aud=["other", "freshet"], exp=NOW - 29)
    assert verifier().verify(listed, NOW).subject == "u1"


def test_a_browsers_token_is_of_its_visitor_alone() -> None:
    bound = token(anonymous_id="a1", origin="https://shop.example", scope=" ".join(SCOPES))
    found = verifier().verify(bound, NOW)
    assert (found.subject, found.anonymous_id, found.origin) == ("", "a1", "https://shop.example")
    assert found.scopes == {"rec:read", "events:write"}
    for half in ({"anonymous_id": "a1"}, {"origin": "https://shop.example"}):
        with pytest.raises(BadToken):
            verifier().verify(token(**half), NOW)


HMAC = jwt.get_algorithm_by_name("HS256")
BAD: dict[str, Callable[[], str]] = {
    "nothing": lambda: "",
    "a": lambda: "a",
    "two pieces": lambda: "a.b",
    "five pieces": lambda: "a.b.c.d.e",
    "a line end": lambda: token() + "\n",
    "no base64": lambda: "é.é.é",
    "no JSON": lambda: forged({"alg": "EdDSA"}, b"{"),
    "a list": lambda: forged({"alg": "EdDSA"}, b"[1]"),
    "a claim twice": lambda: forged({"alg": "EdDSA", "typ": "at+jwt"}, b'{"iss":"a","iss":"b"}'),
    "nested too deep": lambda: forged({"alg": "EdDSA"}, b"[" * 3000),
    "too long": lambda: token(more="x" * MAX_TOKEN_BYTES),
    "alg none": lambda: forged({"alg": "none", "typ": "at+jwt", "kid": "EdDSA"}, tail=""),
    "alg None": lambda: forged({"alg": "None", "typ": "at+jwt", "kid": "EdDSA"}),
    "HS256 with the public key": lambda: forged(
        {"alg": "HS256", "typ": "at+jwt", "kid": "RS256"},
        tail=base64.urlsafe_b64encode(b"x" * 32).decode().rstrip("="),
    ),
    "a key of another algorithm": lambda: forged({"alg": "RS256", "typ": "at+jwt", "kid": "EdDSA"}),
    "typ JWT": lambda: token(header={"typ": "JWT"}),
    "no typ": lambda: forged({"alg": "EdDSA", "kid": "EdDSA"}),
    "crit": lambda: token(header={"crit": ["exp"]}),
    "another key": lambda: token(key=ed25519_key()),
    "a key of its own": lambda: token(
        key=(own := ed25519_key()),
        header={"jwk": jwk("EdDSA", own, "x"), "jku": "https://evil.example", "x5u": "https://e"},
    ),
    "a kid with a path": lambda: token(header={"kid": "../../etc/passwd"}),
    "a kid that is a number": lambda: forged({"alg": "EdDSA", "typ": "at+jwt", "kid": 7}),
    "another issuer": lambda: token(iss="https://evil.example"),
    "no issuer": lambda: token(iss=None),
    "another audience": lambda: token(aud="other"),
    "no audience": lambda: token(aud=None),
    "audiences": lambda: token(aud=[["freshet"]]),
    "expired": lambda: token(exp=NOW - LEEWAY_SECONDS),
    "no end": lambda: token(exp=None),
    "an end that is text": lambda: token(exp="soon"),
    "a boolean end": lambda: token(exp=True),
    "infinite": lambda: token(exp=float("inf")),
    "of the future": lambda: token(iat=NOW + LEEWAY_SECONDS + 1),
    "not yet": lambda: token(nbf=NOW + LEEWAY_SECONDS + 1),
    "no beginning": lambda: token(iat=None),
    "no subject": lambda: token(sub=None),
    "an empty subject": lambda: token(sub=""),
    "a subject with a line end": lambda: token(sub="u1\n"),
    "a long subject": lambda: token(sub="u" * 600),
    "no client": lambda: token(client_id=None),
    "scopes in a list": lambda: token(scope=["ops"]),
}  # fmt: skip


@pytest.mark.parametrize("name", BAD)
def test_what_is_wrong_with_a_token_admits_nobody(name: str) -> None:
    made = BAD[name]()
    with pytest.raises(BadToken) as error:
        verifier().verify(made, NOW)
    said = str(error.value)
    assert made not in said or not made or made == "a"
    assert "evil" not in said
    assert '"' not in said, "it is put between quotes in a header"


def test_only_configured_algorithms_are_taken() -> None:
    assert verifier("ES256").verify(token("ES256"), NOW).client == "shop"
    with pytest.raises(BadToken, match="alg is none of ES256"):
        verifier("ES256").verify(token("EdDSA"), NOW)


def test_an_unknown_key_may_be_fetched_and_without_a_kid_there_must_be_one() -> None:
    with pytest.raises(UnknownKey) as error:
        verifier().verify(token(header={"kid": "next"}), NOW)
    assert error.value.keys is verifier().issuers[ISSUER].keys
    assert verifier().verify(token(header={"kid": None}), NOW).client == "shop"
    two = key_set(jwk("EdDSA", signer("EdDSA"), "a"), jwk("EdDSA", ed25519_key(), "b"))
    several = Verifier({ISSUER: Issuer("freshet", frozenset({"EdDSA"}), two)})
    with pytest.raises(UnknownKey):
        several.verify(token(header={"kid": None}), NOW)


def test_of_a_key_set_only_what_verifies_and_is_strong_is_taken() -> None:
    weak = rsa.generate_private_key(65537, 1024)
    entries = [
        jwk("RS256", weak, "weak"),
        jwk("EdDSA", signer("EdDSA"), "for encryption", use="enc"),
        jwk("EdDSA", signer("EdDSA"), "signs alone", key_ops=["sign"]),
        jwk("EdDSA", signer("EdDSA"), "of another", alg="ES256"),
        {"kty": "oct", "k": "c2VjcmV0", "kid": "secret"},
        {"kty": "RSA", "n": "!", "e": "AQAB"},
        {"kty": ["RSA"]},
        "text",
    ]
    good = jwk("ES256", signer("ES256"), "good")
    found = list(public_keys(json.dumps({"keys": [*entries, good]}).encode()))
    assert [(key.identifier, key.algorithm) for key in found] == [("good", "ES256")]
    for content in (b"[]", b"{}", b'{"keys": []}', json.dumps({"keys": entries}).encode()):
        with pytest.raises(KeysUnavailable):
            public_keys(content)
    with pytest.raises(ValueError):
        public_keys(b"<html>")


def test_keys_are_used_for_a_while_without_their_issuer() -> None:
    time = [0.0]
    keys = KeySet("https://id.example/keys", lambda: time[0])
    with pytest.raises(KeysUnavailable, match="not been fetched"):
        keys.find("a", "EdDSA")
    keys.take(json.dumps({"keys": [jwk("EdDSA", signer("EdDSA"), "a")]}).encode())
    time[0] = 24 * 3600.0
    assert keys.find("a", "EdDSA") is not None
    time[0] += 1
    with pytest.raises(KeysUnavailable):
        keys.find("a", "EdDSA")


def access(token: str = "") -> Access:
    return Access(verifier().issuers, token)


def test_a_verified_token_is_kept_until_it_expires(monkeypatch: pytest.MonkeyPatch) -> None:
    made, held = access(), token()
    first = made.caller(f"Bearer {held}", NOW)
    monkeypatch.setattr(Verifier, "verify", None)  # what is kept is not verified again
    for at in (NOW, NOW + 629.9):
        assert made.caller(f"bearer  {held}", at) == first
    with pytest.raises(BadToken, match="expired"):
        made.caller(f"Bearer {held}", NOW + 630)


def test_the_one_token_has_every_scope_and_no_token_has_none() -> None:
    one = "s3cret-of-16-bytes"
    assert access(one).caller(f"Bearer {one}", NOW) is HOLDER
    assert HOLDER.scopes == LOCAL.scopes == SCOPES.keys()
    for header in ("", "Bearer", "Bearer ", f"Basic {one}", one):
        with pytest.raises(NoToken):
            access(one).caller(header, NOW)
    for header in (f"Bearer {one}x", f"Bearer {one[:-1]}", "Bearer é", f"Bearer {one} x"):
        with pytest.raises(BadToken):
            access(one).caller(header, NOW)
    assert Access({}, is_off=True).caller("", NOW) is LOCAL


def test_a_scope_for_anybody_covers_that_of_the_own_subject() -> None:
    server = Caller("server", scopes=frozenset({"rec:read:any"}))
    assert server.has("rec:read")
    assert not server.has("events:write")
    assert not Caller("app", scopes=frozenset({"rec:read"})).has("rec:read:any")
