"""Origins of pages (RFC 6454): scheme, host, and a port that is not the scheme's own."""

from __future__ import annotations

import re
from typing import Final

MAX_ORIGIN_LENGTH: Final = 255
ORIGIN: Final = r"^https?://([a-z0-9.-]+|\[[0-9a-f:.]+\])(:[0-9]{1,5})?$"
"""As a browser writes it: in lower case, without a path. `null` is no origin."""
_ORIGIN: Final = re.compile(ORIGIN)


def is_origin(text: str) -> bool:
    """Whether `text` is an origin as a browser writes it.

    >>> [is_origin(it) for it in ("https://shop.example", "http://localhost:3000", "null", "https://a/")]
    [True, True, False, False]
    """
    if len(text) > MAX_ORIGIN_LENGTH or not _ORIGIN.match(text) or text.endswith("\n"):
        return False
    return not text.endswith(":443" if text.startswith("https:") else ":80")
