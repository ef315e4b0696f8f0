"""Keys that an object of a JSON text has twice: RFC 8259, 4, leaves open which value counts, and programs
differ in what they take.

`repeated_key_by_python` defines it. The kernel (repeated_keys.c) finds whether there is one in one pass, with
a bound on what is open at a time; beyond that the definition runs.
"""

from __future__ import annotations

import json
import re
from typing import Any, Final

from models.kernels.loading import kernel

ANY_DEPTH: Final = 2**31 - 1
MAX_STEPS: Final = 8
"""Of a path; what lies deeper has that of what holds it."""
MAX_NAME: Final = 64
_ONCE: Final = 0
_UNNAMED: Final = re.compile(r"[^\w.\-]")


class _Object(list[tuple[str, Any]]):
    """The fields of an object, in order."""


def repeated_key(text: bytes, deepest: int = ANY_DEPTH) -> str | None:
    """As `repeated_key_by_python`, of what is JSON. Without a kernel it is None: nobody looks, as a second
    parse would take as long as the first."""
    return repeated_key_by_python(text, deepest) if may_repeat(text, deepest) else None


def may_repeat(text: bytes, deepest: int = ANY_DEPTH) -> bool:
    """False where no object of a JSON text, or of several in a row, has a key twice, and without a kernel."""
    return kernel is not None and kernel.lib.json_repeated_key(text, len(text), deepest) != _ONCE


def repeated_key_by_python(text: bytes, deepest: int = ANY_DEPTH) -> str | None:
    """The path of a key that is there twice in one object, for an error to name; None without one, and for
    what is no JSON. Keys are compared without their escapes. `deepest`: of the objects that are looked at,
    1 is one that lies in no other.

    >>> repeated_key_by_python(b'{"events": [{"a": 1}, {"a": 1, "b": {"c": 2, "\\\\u0063": 3}}]}')
    'events[1].b.c'
    >>> repeated_key_by_python(b'{"a": {"b": 1, "b": 2}}', deepest=1)
    """
    try:
        whole = json.loads(
            text.decode(errors="surrogatepass"),
            object_pairs_hook=_Object,
            parse_int=str,  # int() takes no number of any length
            parse_float=str,
        )
    except (ValueError, RecursionError):
        return None
    pending: list[tuple[Any, str, int, int]] = [(whole, "", 0, 0)]
    while pending:
        value, path, steps, depth = pending.pop()
        below: list[tuple[Any, str]] = []
        if isinstance(value, _Object):
            depth += 1
            names: set[str] = set()
            for name, each in value if depth <= deepest else ():
                below.append((each, _below(path, name, steps)))
                if name in names:
                    return below[-1][1]
                names.add(name)
        elif isinstance(value, list):
            indexed = enumerate(value)
            below = [(each, f"{path}[{n}]" if steps < MAX_STEPS else path) for n, each in indexed]
        pending += [(each, at, steps + 1, depth) for each, at in reversed(below)]
    return None


def _below(path: str, name: str, steps: int) -> str:
    if steps >= MAX_STEPS:
        return path
    shown = _UNNAMED.sub("?", name[:MAX_NAME])
    return f"{path}.{shown}" if path else shown
