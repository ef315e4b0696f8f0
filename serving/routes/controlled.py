"""How records of `control` are shown."""

from __future__ import annotations

from typing import Any

import msgspec


def with_defaults(value: Any) -> Any:
    """`value` as plain data, also with the fields that equal their default, which records leave out."""
    if isinstance(value, msgspec.Struct):
        return {name: with_defaults(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: with_defaults(each) for name, each in value.items()}
    return [with_defaults(each) for each in value] if isinstance(value, list | tuple) else value
