"""Which hosts a request may name: in Host (RFC 9110, 7.2), in an absolute target, in Origin (RFC 6454)."""

from __future__ import annotations

import re
from functools import lru_cache
from typing import Final
from urllib.parse import urlsplit

LOOPBACK: Final = "localhost,127.0.0.1,[::1]"
MAX_HOST_BYTES: Final = 262
"""Of a name (RFC 1035, 2.3.4: 255 with its dots) and its port."""
_HOST: Final = re.compile(rb"([a-z0-9_.-]+|\[[0-9a-f:.]+\])(?::([0-9]{0,5}))?")
"""RFC 9110 allows whatever a reg-name of a URI may hold; no name of the internet has more than this."""


class Hosts:
    """The hosts that a server answers to. `listed`: with commas between them, each with a port, or for every
    port without one; "" is any host. Errors: ValueError for what is no host.

    >>> hosts = Hosts("shop.example, api.shop.example:8443, [::1]")
    >>> [hosts.takes(it) for it in (b"Shop.example:80", b"api.shop.example", b"[::1]:8080", b"evil.example")]
    [True, False, True, False]
    """

    def __init__(self, listed: str = "") -> None:
        entries = [split(entry.strip().encode()) for entry in listed.split(",") if entry.strip()]
        if None in entries:
            raise ValueError("no host")
        self._taken = frozenset(entries)
        self.takes = lru_cache(maxsize=256)(self._takes)
        """Whether `host`, which is well-formed, is one of them."""

    def _takes(self, host: bytes) -> bool:
        found = split(host)
        if found is None or not self._taken:
            return found is not None
        return found in self._taken or (found[0], b"") in self._taken


def split(host: bytes) -> tuple[bytes, bytes] | None:
    """The name, as names compare, and the port (b"" for none) of a Host; None where it is none: empty, with a
    user, of other letters.

    >>> split(b"Shop.Example.:8080"), split(b"[::1]"), split(b"user@shop.example"), split(b"")
    ((b'shop.example', b'8080'), (b'[::1]', b''), None, None)
    """
    found = _HOST.fullmatch(host.lower()) if len(host) <= MAX_HOST_BYTES else None
    if found is None:
        return None
    return found[1].removesuffix(b".") or found[1], found[2] or b""


def is_secure_url(url: str) -> bool:
    """Whether a URL is one of https, or of http on this machine.

    >>> [is_secure_url(it) for it in ("https://a.example/keys", "http://[::1]:80/keys", "http://a.example/")]
    [True, True, False]
    """
    try:
        parsed = urlsplit(url)
        name = parsed.hostname
    except ValueError:  # a bracket that is not closed
        return False
    is_local = name in ("localhost", "127.0.0.1", "::1")
    return bool(name) and (parsed.scheme == "https" or (parsed.scheme == "http" and is_local))
