"""Routing by the path as it was sent: an encoded slash or colon belongs to an id, a plain one to the route.

So ``/v1/items/a%2Fsimilar`` is the item ``a/similar``, and ``/v1/items/a/similar`` what is similar to ``a``.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

from schemas.reject import Rejected

NOT_ADDRESSABLE: Final = frozenset({".", ".."})
"""Ids that no path can hold: clients take them for steps (RFC 3986, 5.2.4), encoded too."""
_ENCODED: Final = re.compile("%(2[fF]|3[aA])")
# a decoded path holds no surrogates, so these stand for nothing else
_KEPT: Final = {"2f": "\udc2f", "3a": "\udc3a"}
_GIVEN: Final = str.maketrans({kept: chr(int(digits, 16)) for digits, kept in _KEPT.items()})


def routed_path(scope: Mapping[str, Any]) -> str:
    """The decoded path of a request, in which an encoded slash or colon is a mark of its own.

    >>> routed_path({"path": "/a/b c", "raw_path": b"/a%2Fb%20c"}) == "/a\\udc2fb c"
    True
    """
    raw: bytes = scope.get("raw_path") or b""
    if b"%" not in raw:
        path: str = scope["path"]
        return path
    kept = _ENCODED.sub(lambda found: _KEPT[found[1].lower()], raw.decode("latin-1"))
    return unquote(kept)


def given(value: str) -> str:
    """A part of a `routed_path` as its sender spelled it.

    >>> given("a\\udc2fb")
    'a/b'
    """
    return value if value.isascii() else value.translate(_GIVEN)


def check_addressable(item_id: str, field: str) -> str:
    """The id, if a path can hold it. Errors: `Rejected` ``not_addressable``."""
    if item_id in NOT_ADDRESSABLE:
        raise Rejected(field, "not_addressable")
    return item_id
