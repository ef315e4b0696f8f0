"""Answers of the API: the fields that programs here read. They ignore every other field.

Names and types are those that serving declares; a test compares the two. A field that the server may leave
out has a default.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from schemas.readouts import Comparison, VariantOut


class Reason(msgspec.Struct, kw_only=True, gc=False):
    """Why an item is in a slate."""

    code: str
    text: str


class Item(msgspec.Struct, kw_only=True, gc=False):
    """An item of a slate. `explore`: exploration drew it."""

    item_id: str
    category: str
    explore: bool = False
    reason: Reason | None = None


class Freshness(msgspec.Struct, kw_only=True, gc=False):
    """How fresh an answer is. `position`: the last record of the person's partition that it includes."""

    position: str | None
    waited_ms: int
    stale: bool


class Assigned(msgspec.Struct, kw_only=True, gc=False):
    """The variant of an experiment that the person was assigned."""

    id: str
    version: int
    variant: str


class ServedBy(msgspec.Struct, kw_only=True):
    """Ids and versions of everything that made an answer."""

    release: str
    index: str
    tables: str
    rules: str
    experiments: tuple[Assigned, ...]


class Answer(msgspec.Struct, kw_only=True):
    """A slate for one person. `freshness` is null where the slate is the same for all people; `slate_id` is
    null where nothing is logged of it, since more was asked than can be done (fallback ``overload``)."""

    slate_id: str | None
    items: list[Item]
    fallback: str | None
    rules_relaxed: tuple[str, ...]
    freshness: Freshness | None
    served_by: ServedBy

    @property
    def stale(self) -> bool:
        """Whether the answer may lack the position that `after` asked for."""
        return self.freshness is None or self.freshness.stale

    @property
    def position(self) -> str | None:
        return self.freshness.position if self.freshness else None

    @property
    def waited_ms(self) -> int:
        return self.freshness.waited_ms if self.freshness else 0


class Rejection(msgspec.Struct):
    """A refused line of a request. `index`: its place in the request, from 0."""

    index: int
    field: str
    code: str


class Accepted(msgspec.Struct, kw_only=True):
    """The answer to several events or items. `positions`: [] where they wait in a spool for the broker.
    `duplicates`: events that equal an earlier one of the request; `unknown_items`: accepted events on items
    that the catalogue does not have; `dropped`: attributes of items that are not kept."""

    accepted: int
    rejected: list[Rejection]
    positions: list[str]
    durable: Literal["broker", "spool"] = "broker"
    duplicates: int = 0
    unknown_items: int = 0
    dropped: list[Rejection] = []


class Written(msgspec.Struct, kw_only=True):
    """The answer to one record. `position`: null where the record waits in a spool for the broker."""

    position: str | None
    positions: list[str]
    durable: Literal["broker", "spool"]


class LinkAnswer(msgspec.Struct, kw_only=True):
    """The answer to a link or an unlink. `linked`: whether the anonymous id is linked to the user now, null
    while that is `pending`. `why`: null where this request linked it."""

    position: str | None
    positions: list[str]
    linked: bool | None
    why: Literal["already", "linked_elsewhere", "is_a_user", "not_linked", "unlinked"] | None
    pending: bool


class ExperimentHeld(msgspec.Struct, kw_only=True):
    """An experiment in force. `version` is the next put's `expected_version`."""

    experiment_id: str
    version: int


class ExperimentMetrics(msgspec.Struct, kw_only=True):
    """The readout of an experiment. `degraded`: by variant, the reads that were shed; null where the store
    did not answer."""

    version: int
    variants: tuple[VariantOut, ...]
    comparisons: tuple[Comparison, ...]
    degraded: dict[str, int] | None = None


class CatalogueItem(msgspec.Struct, kw_only=True):
    """An item of the catalogue. `indexed`: the process that answers can serve the item."""

    item_id: str
    indexed: bool


class FlowPosition(msgspec.Struct, kw_only=True):
    """The position of a flow in a partition; null where the flow has none yet."""

    flow: str
    partition: int
    position: str | None


class Status(msgspec.Struct, kw_only=True):
    """The status of one process. `stands`: positions of the flows, null while the store does not answer.
    `unknown_over_limit`: events on items that nobody had put which came after the limit, as of `tables`.
    `events_topic`: the id of the log; "" while it is not known, "-" of an older system."""

    release: str
    tables: str
    unknown_over_limit: int
    stands: list[FlowPosition] | None
    events_topic: str = "-"
