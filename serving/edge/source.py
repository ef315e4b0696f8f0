"""How a request came in, from its headers: for statistics, fraud and training."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from schemas.events import Source

MAX_CLIENT_LENGTH: Final = 32
_PRODUCT: Final = re.compile(r"[\w!#$%&'*+\-.^`|~]+", re.ASCII)
"""A product's name: a token of HTTP (RFC 9110, 5.6.2)."""


def source(headers: Mapping[bytes, bytes], *, imported: bool) -> Source | None:
    """The source of a request; None for a server without a name, live. `headers`: as those of a `Head`."""
    # a browser sends one of them with a request of a page, and no page can leave both out
    browser = b"origin" in headers or b"sec-fetch-site" in headers
    user_agent = headers.get(b"user-agent", b"")[:MAX_CLIENT_LENGTH]
    return _source(user_agent.decode("latin-1"), imported, browser)


def client(user_agent: str) -> str:
    """The name of the first product, without its version; "" where there is none.

    >>> client("python-requests/2.31.0"), client("(none)")
    ('python-requests', '')
    """
    product = _PRODUCT.match(user_agent[:MAX_CLIENT_LENGTH])
    return product[0] if product else ""


@lru_cache(maxsize=1024)
def _source(user_agent: str, imported: bool, browser: bool) -> Source | None:
    name = client(user_agent)
    made = Source(name, "import" if imported else "live", "browser" if browser else "server")
    return None if made == Source() else made
