"""What the API answers, as far as programs here read it; what else is in an answer they ignore.

Names and types are those that serving declares; a test holds the one to the other. What the server
may leave out has a default.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.readouts import Comparison, VariantOut


class Reason(msgspec.Struct, kw_only=True, gc=False):
    code: str
    text: str


class Item(msgspec.Struct, kw_only=True, gc=False):
    item_id: str
    category: str
    explore: bool = False
    reason: Reason | None = None


class Freshness(msgspec.Struct, kw_only=True, gc=False):
    """`position`: the last record of the person's partition that is in the answer."""

    position: str | None
    waited_ms: int
    stale: bool


class Assigned(msgspec.Struct, kw_only=True, gc=False):
    id: str
    version: int
    variant: str


class ServedBy(msgspec.Struct, kw_only=True):
    release: str
    index: str
    tables: str
    rules: str
    experiments: tuple[Assigned, ...]


class Answer(msgspec.Struct, kw_only=True):
    """A list of items for somebody. `freshness` is null where the list is the same for everybody."""

    slate_id: str
    items: list[Item]
    fallback: str | None
    rules_relaxed: tuple[str, ...]
    freshness: Freshness | None
    served_by: ServedBy

    @property
    def stale(self) -> bool:
        """Whether it may lack what `after` asked for."""
        return self.freshness is None or self.freshness.stale

    @property
    def position(self) -> str | None:
        return self.freshness.position if self.freshness else None

    @property
    def waited_ms(self) -> int:
        return self.freshness.waited_ms if self.freshness else 0


class Rejection(msgspec.Struct):
    """`index`: the place in the request, from 0."""

    index: int
    field: str
    code: str


class Accepted(msgspec.Struct, kw_only=True):
    """Of several events or items. `positions`: none where they wait in a spool for the broker."""

    accepted: int
    rejected: list[Rejection]
    positions: list[str]
    durable: Literal["broker", "spool"] = "broker"


class Written(msgspec.Struct, kw_only=True):
    """Of one record."""

    position: str | None
    positions: list[str]
    durable: Literal["broker", "spool"]


class ExperimentHeld(msgspec.Struct, kw_only=True):
    """An experiment as it stands. `version` is the next put's `expected_version`."""

    experiment_id: str
    version: int


class ExperimentMetrics(msgspec.Struct, kw_only=True):
    version: int
    variants: tuple[VariantOut, ...]
    comparisons: tuple[Comparison, ...]


class CatalogueItem(msgspec.Struct, kw_only=True):
    """`indexed`: the process that answers can serve it."""

    item_id: str
    indexed: bool


class FlowPosition(msgspec.Struct, kw_only=True):
    """How far a flow has come in a partition."""

    flow: str
    partition: int
    position: str | None


class Status(msgspec.Struct, kw_only=True):
    """Of one process. `stands` is null while the store does not answer."""

    release: str
    tables: str
    stands: list[FlowPosition] | None
