"""What is kept current in the background for the read path."""

from __future__ import annotations

from serving.hydrate import CatalogueFollower, ControlFollower, TablesFollower
from serving.state import Part, Serving


def parts(serving: Serving) -> list[Part]:
    """In the order in which they start."""
    store, partitions = serving.redis, serving.settings.partitions
    return [
        ControlFollower(store, serving.control),
        CatalogueFollower(store, serving.index, partitions),
        TablesFollower(store, serving.tables),
        serving.slates,
    ]
