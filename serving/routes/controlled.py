"""What writes of `control` have in common: a change is logged or refused, never spooled."""

from __future__ import annotations

from typing import Any

import msgspec
from starlette.responses import Response

from schemas.record import Record
from schemas.topics import CONTROL
from serving.context import Serving
from serving.http.errors import json_response
from serving.log.errors import NotDurable
from serving.routes.accepted import Written, listed, not_durable


async def changed(serving: Serving, record: Record) -> Response:
    """Errors: `Problem` 413, 503."""
    try:
        positions = listed(await serving.log.append(CONTROL.name, [record]))
    except NotDurable as error:
        raise not_durable(serving, error) from None
    return json_response(Written(position=positions[0], positions=positions), 202)


def full(value: Any) -> Any:
    """Plain data with what equals a default in it too, which records leave out."""
    if isinstance(value, msgspec.Struct):
        return {name: full(getattr(value, name)) for name in value.__struct_fields__}
    if isinstance(value, dict):
        return {name: full(each) for name, each in value.items()}
    return [full(each) for each in value] if isinstance(value, list | tuple) else value
