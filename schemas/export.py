"""JSON Schema of every record, by topic: ``python -m schemas.export``."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from schemas.headers import MAX_FRAMED_RECORDS
from schemas.topics import TOPICS, Topic


def json_schemas() -> dict[str, Any]:
    """Topic name -> one JSON Schema (2020-12) of what its records may be; `frame`: of a frame's value."""
    return {
        topic.name: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": topic.name,
            **msgspec.json.schema(_union(topic.records)),
            **_frame(topic),
        }
        for topic in TOPICS
    }


def _frame(topic: Topic) -> dict[str, Any]:
    """What a record with the header `frame` and no key is; nothing for a topic that has none."""
    if not topic.framed:
        return {}
    (record,) = topic.framed
    items = {
        "$ref": f"#/$defs/{record.__name__}",
        "properties": {"traceparent": {"type": "string"}},
    }
    return {
        "frame": {
            "type": "array",
            "items": items,
            "minItems": 1,
            "maxItems": MAX_FRAMED_RECORDS,
        }
    }


def _union(records: tuple[Any, ...]) -> Any:
    union = records[0]
    for record in records[1:]:
        union = union | record
    return union


if __name__ == "__main__":
    print(json.dumps(json_schemas(), indent=2))
