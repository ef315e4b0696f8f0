"""What most responses are: a row a topic, in it a cell a partition, each cell with an error of its own."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from typing import Any, NamedTuple

from infra.broker.codes import Code, Refused


class ByPartition(NamedTuple):
    """A response's rows. `row` and `cell`: kafka-python's classes for them.

    `refused`: the fields of a cell whose partition is refused. `topic` and `partition`: what requests and
    responses of this API call the two.
    """

    row: Any
    cell: Any
    refused: Mapping[str, Any] = {}
    topic: str = "name"
    partition: str = "partition_index"

    def rows(self, topics: Iterable[Any], answer: CellFields) -> list[Any]:
        """A cell for each partition of `topics`, which are those of the request, in its order."""
        rows = []
        for asked in topics:
            name = getattr(asked, self.topic)
            cells = [self._cell(name, part, answer) for part in asked.partitions]
            rows.append(self.row(**{self.topic: name, "partitions": cells}))
        return rows

    def _cell(self, topic: str, part: Any, answer: CellFields) -> Any:
        error, fields = Code.NONE, self.refused
        try:
            fields = answer(topic, part)
        except Refused as refused:
            error = refused.code
        place = {self.partition: getattr(part, self.partition)}
        return self.cell(**{**place, "error_code": error, **fields})


CellFields = Callable[[str, Any], Mapping[str, Any]]
"""From a topic's name and what is asked of one of its partitions to the fields of the cell: not its
partition, and its `error_code` only where there is one. Errors: `Refused`."""
