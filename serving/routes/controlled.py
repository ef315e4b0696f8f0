"""How what `control` holds is shown."""

from __future__ import annotations

from typing import Any

import msgspec


def full(value: Any) -> Any:
    """Plain data with what equals a default in it too, which records leave out."""
    if isinstance(value, msgspec.Struct):
        return {name: full(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: full(each) for name, each in value.items()}
    return [full(each) for each in value] if isinstance(value, list | tuple) else value
