"""JSON Schema of every record, by topic: ``python -m schemas.export``."""

from __future__ import annotations

import json
from typing import Any

import msgspec

from schemas.topics import TOPICS


def json_schemas() -> dict[str, Any]:
    """Topic name -> one JSON Schema (2020-12) of what its records may be."""
    return {
        topic.name: {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "title": topic.name,
            **msgspec.json.schema(_union(topic.records)),
        }
        for topic in TOPICS
    }


def _union(records: tuple[Any, ...]) -> Any:
    union = records[0]
    for record in records[1:]:
        union = union | record
    return union


if __name__ == "__main__":
    print(json.dumps(json_schemas(), indent=2))
