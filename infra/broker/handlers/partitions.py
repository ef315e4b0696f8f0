"""The common shape of responses: a row a topic, in it a cell a partition, each with its own error code."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterable, Mapping
from typing import Any, NamedTuple, TypeVar

from infra.broker.codes import Code, Refused

Row = TypeVar("Row")


def once(rows: Iterable[Row], named: Callable[[Row], Hashable]) -> list[Row]:
    """The first of the rows that name the same: an answer is bounded by what the broker has, however often a
    request names it."""
    found: dict[Hashable, Row] = {}
    for row in rows:
        found.setdefault(named(row), row)
    return list(found.values())


class ByPartition(NamedTuple):
    """Builds the rows of a response. `row` and `cell`: kafka-python's classes for them.

    `refused`: the fields of a cell whose partition is refused. `topic` and `partition`: the names of these
    two fields in requests and responses of this API.
    """

    row: Any
    cell: Any
    refused: Mapping[str, Any] = {}
    topic: str = "name"
    partition: str = "partition_index"

    def rows(self, topics: Iterable[Any], answer: CellFields) -> list[Any]:
        """The rows for the request's `topics`, in their order, with a cell for each partition."""
        rows = []
        for topic in topics:
            name = getattr(topic, self.topic)
            cells = [self._cell(name, requested, answer) for requested in topic.partitions]
            rows.append(self.row(**{self.topic: name, "partitions": cells}))
        return rows

    def _cell(self, topic: str, requested: Any, answer: CellFields) -> Any:
        error, fields = Code.NONE, self.refused
        try:
            fields = answer(topic, requested)
        except Refused as refused:
            error = refused.code
        index = {self.partition: getattr(requested, self.partition)}
        return self.cell(**{**index, "error_code": error, **fields})


CellFields = Callable[[str, Any], Mapping[str, Any]]
"""From a topic's name and the request's fields for a partition to the fields of the cell, without the
partition; `error_code` only where there is an error. Errors: `Refused`."""
