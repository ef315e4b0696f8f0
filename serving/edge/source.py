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
_BROWSER_HEADERS: Final = ("origin", "sec-fetch-site")
"""Headers that a browser sends with a request of a page, and that a page cannot leave out."""


def source(headers: Mapping[str, str], *, imported: bool) -> Source | None:
    """The source of a request; None for a server without a name, live. `headers`: by names in lower case."""
    browser = any(name in headers for name in _BROWSER_HEADERS)
    return _source(client(headers.get("user-agent", "")), imported, browser)


def client(user_agent: str) -> str:
    """The name of the first product, without its version; "" where there is none.

    >>> client("python-requests/2.31.0"), client("(none)")
    ('python-requests', '')
    """
    product = _PRODUCT.match(user_agent[:MAX_CLIENT_LENGTH])
    return product[0] if product else ""


@lru_cache(maxsize=1024)
def _source(name: str, imported: bool, browser: bool) -> Source | None:
    made = Source(name, "import" if imported else "live", "browser" if browser else "server")
    return None if made == Source() else made
