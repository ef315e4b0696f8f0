"""Access tokens that this installation makes by itself: its key, and a JWT as RFC 9068 has it.

`freshet up` and `freshet token` make tokens of every kind where there is no other issuer; with one, the key
signs tokens for browsers alone.
"""

from __future__ import annotations

import json
import math
import os
import secrets
import time
from collections.abc import Callable, Iterable
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from infra.settings import BadSetting, Settings, made_once
from schemas.access.scopes import SCOPES

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

HOME: Final = "urn:freshet:home"
"""The claim `iss`."""
ALGORITHM: Final = "EdDSA"
CLIENT: Final = "home"
"""The claim `client_id` of tokens that are made at home."""
FILE: Final = "issuer.key"
KEPT_DAYS: Final = 30
LOOK_SECONDS: Final = 3600.0
TOKEN_FILE: Final = "token"
"""Of `data_dir`: a token with every scope, for whoever may read the folder."""


def signing_key(settings: Settings) -> Ed25519PrivateKey:
    """The key of the setting, else of the file in `data_dir`, which is made once. Errors: `BadSetting`."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import load_pem_private_key

    path = settings.data_dir / FILE
    where = "FRESHET_ISSUER_KEY" if settings.issuer_key else str(path)
    text = settings.issuer_key or made_once(path, _fresh)
    try:
        key = load_pem_private_key(text.encode(), password=None)
    except (ValueError, TypeError):
        key = None
    if not isinstance(key, Ed25519PrivateKey):
        raise BadSetting(
            f"{where} holds no Ed25519 key in PEM: make one with `openssl genpkey -algorithm ed25519`"
        )
    return key


def public_keys(settings: Settings) -> bytes:
    """The public half as a JWK Set (RFC 7517). Errors: `BadSetting`."""
    return json.dumps({"keys": [_public(signing_key(settings))]}).encode()


def make_token(
    settings: Settings,
    scopes: Iterable[str],
    *,
    minutes: float,
    subject: str = "",
    anonymous_id: str = "",
    origin: str = "",
    client: str = CLIENT,
    now: float | None = None,
) -> str:
    """A token with these scopes. `subject`: the user id that scopes of the own subject are of. `anonymous_id`
    and `origin`: for a browser, of both. Errors: `BadSetting`."""
    import jwt

    key, began = signing_key(settings), int(time.time() if now is None else now)
    claims: dict[str, Any] = {
        "iss": HOME,
        "aud": settings.audience,
        "sub": subject or client,
        "client_id": client,
        "iat": began,
        "exp": began + int(minutes * 60),
        "jti": secrets.token_urlsafe(12),
        "scope": " ".join(sorted(set(scopes))),
    }
    if anonymous_id:
        claims |= {"anonymous_id": anonymous_id, "origin": origin}
    headers = {"typ": "at+jwt", "kid": _public(key)["kid"]}
    return jwt.encode(claims, key, ALGORITHM, headers)


def write(settings: Settings) -> str:
    """Writes a token with every scope into `data_dir`, for its owner alone. Errors: `BadSetting`, OSError."""
    token = make_token(settings, SCOPES, minutes=KEPT_DAYS * 24 * 60)
    path = settings.data_dir / TOKEN_FILE
    fresh = path.with_name(f"{path.name}.{secrets.token_hex(8)}")
    descriptor = os.open(fresh, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(f"{token}\n")
    fresh.replace(path)
    return token


class Keeper:
    """Keeps the token of `data_dir` young while a system runs: its first `tick` writes a new one, later ones
    look once an hour. `clock`: seconds."""

    def __init__(
        self,
        settings: Settings,
        report: Callable[[str], None],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings, self._report, self._clock = settings, report, clock
        self._next: float | None = None if is_made_here(settings) else math.inf

    def tick(self) -> None:
        """Errors: `BadSetting` of the first one."""
        is_first, now = self._next is None, self._clock()
        if self._next is not None and now < self._next:
            return
        self._next = now + LOOK_SECONDS
        path = self._settings.data_dir / TOKEN_FILE
        try:
            # the first one may be of another key, or of another audience
            if is_first or _is_old(path):
                write(self._settings)
        except OSError as error:
            self._report(f"{path} cannot be written: {error.strerror}")


def is_made_here(settings: Settings) -> bool:
    """Whether this installation makes its tokens of every kind."""
    return settings.auth == "on" and not settings.issuer


def held(settings: Settings) -> str:
    """The token to send to this installation: its one token, else that of `data_dir`, renewed where it is
    old, else that of FRESHET_TOKEN, which is all where another authorization server makes them; "" where
    nobody asks for one."""
    if settings.auth == "off" or settings.shared_token:
        return settings.shared_token
    if settings.issuer:
        return settings.token
    path = settings.data_dir / TOKEN_FILE
    try:
        if has_key(settings) and _may_write(settings) and _is_old(path):
            return write(settings)
        return path.read_text().strip() or settings.token
    except OSError:
        return settings.token


def has_key(settings: Settings) -> bool:
    """Whether there is a key, so that none needs to be made. Errors: OSError."""
    return bool(settings.issuer_key) or (settings.data_dir / FILE).exists()


def _may_write(settings: Settings) -> bool:
    """Not root in another user's folder, who could not read the file."""
    return os.geteuid() != 0 or settings.data_dir.stat().st_uid == 0


def _is_old(path: Path) -> bool:
    try:
        return time.time() - path.stat().st_mtime > KEPT_DAYS * 86_400 / 2
    except FileNotFoundError:
        return True


def _public(key: Ed25519PrivateKey) -> dict[str, str]:
    from jwt.utils import base64url_encode

    raw = key.public_key().public_bytes_raw()
    identifier = sha256(raw).hexdigest()[:16]
    return {
        "kty": "OKP", "crv": "Ed25519", "alg": ALGORITHM, "use": "sig", "kid": identifier,
        "x": base64url_encode(raw).decode(),
    }  # fmt: skip


def _fresh() -> str:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
    from cryptography.hazmat.primitives.serialization import (
        Encoding,
        NoEncryption,
        PrivateFormat,
    )

    key = Ed25519PrivateKey.generate()
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()).decode()
