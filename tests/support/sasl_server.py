"""The server's half of SASL's PLAIN (RFC 4616) and SCRAM (RFC 5802), for one exchange."""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from collections.abc import Mapping
from typing import Final

ITERATIONS: Final = 4096
_HASHES: Final = {"SCRAM-SHA-256": "sha256", "SCRAM-SHA-512": "sha512"}
MECHANISMS: Final = ("PLAIN", *_HASHES)


class Refused(Exception):
    """The user or the password is wrong."""


class Exchange:
    """`users`: name -> password. `done` once the client is who it says."""

    def __init__(self, mechanism: str, users: Mapping[str, str]) -> None:
        self.done = False
        self._hash, self._users = _HASHES.get(mechanism, ""), users
        self._first, self._password = b"", ""

    def answer(self, token: bytes) -> bytes:
        """The answer to the client's next token. Errors: `Refused`."""
        if not self._hash:
            _, name, password = token.decode().split("\0")
            if self._users.get(name) != password:
                raise Refused
            self.done = True
            return b""
        return self._final(token) if self._first else self._begin(token)

    def _begin(self, token: bytes) -> bytes:
        bare = token.removeprefix(b"n,,")
        fields = _fields(bare)
        name = fields["n"].replace("=2C", ",").replace("=3D", "=")
        if name not in self._users:
            raise Refused
        self._password, self._salt = self._users[name], secrets.token_bytes(16)
        salt, nonce = base64.b64encode(self._salt).decode(), fields["r"] + secrets.token_hex(8)
        reply = f"r={nonce},s={salt},i={ITERATIONS}".encode()
        self._first = bare + b"," + reply
        return reply

    def _final(self, token: bytes) -> bytes:
        without_proof, _, proof = token.rpartition(b",p=")
        message = self._first + b"," + without_proof
        salted = hashlib.pbkdf2_hmac(self._hash, self._password.encode(), self._salt, ITERATIONS)
        client = self._hmac(salted, b"Client Key")
        signature = self._hmac(hashlib.new(self._hash, client).digest(), message)
        expected = bytes(a ^ b for a, b in zip(client, signature, strict=True))
        if not hmac.compare_digest(base64.b64decode(proof), expected):
            raise Refused
        self.done = True
        server = self._hmac(self._hmac(salted, b"Server Key"), message)
        return b"v=" + base64.b64encode(server)

    def _hmac(self, key: bytes, message: bytes) -> bytes:
        return hmac.digest(key, message, self._hash)


def _fields(message: bytes) -> dict[str, str]:
    return {it[:1]: it[2:] for it in message.decode().split(",")}
