"""The words of an evaluation: arms and metrics, as a report and a terminal name them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

ARMS: Final[Mapping[str, str]] = {
    "released": "released",
    "fresh": "released, fresh state",
    "candidate": "candidate (not served)",
    "built_in": "built in, no release",
    "frozen": "released, state as of the split",
    "covisit": "co-visitation",
    "vector": "vectors",
    "content": "content",
    "popular": "popularity, built-in mix",
    "popular_1h": "popularity, 1 h",
    "popular_24h": "popularity, 24 h",
    "popular_7d": "popularity, 7 days",
    "popular_90d": "popularity, 90 days",
    "random": "random order",
    "mean_rating": "mean rating",
}
SLICES: Final[Mapping[str, str]] = {
    "new_people": "people without history",
    "old_people": "people with history",
    "new_items": "new items",
    "old_items": "known items",
    "power_users": "power users",
}
PLAIN: Final = frozenset({"random", "mean_rating"})
"""Arms that know nobody, beside those whose name begins with ``popular``."""


def arm(name: str) -> str:
    return ARMS.get(name, name.replace("_", " "))


def slice_name(name: str) -> str:
    """
    >>> slice_name("category Drama"), slice_name("new_items")
    ('Drama', 'new items')
    """
    return SLICES.get(name, name.removeprefix("category "))


def ordered(arms: Mapping[str, Mapping[str, Any]]) -> list[str]:
    """Names, the highest NDCG first."""
    return sorted(arms, key=lambda name: -arms[name]["ndcg"])


def every_arm(result: Mapping[str, Any]) -> dict[str, dict[str, Any]]:
    """The arms of a result by name, each once."""
    own = ("released", "fresh", "candidate", "built_in", "frozen", "mean_rating", "random")
    return {**{name: result[name] for name in own if name in result}, **result["sources"]}
