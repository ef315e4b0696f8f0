"""Data for an evaluation: the acts of any set as the log that the edge would have written of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, overload

import numpy as np
from numpy.typing import NDArray

from flows.offline.history import Log, Record
from infra.apps.evaluate.lake import is_lake, read_lake
from infra.datasets.acts import Acts, read_acts
from infra.datasets.find import located
from schemas.actions import ACTIONS, NEGATIVE
from schemas.events import Action, Source
from schemas.identity import partition_of, pseudonym

_KEY: Final = b"freshet evaluate".ljust(32, b".")
"""Of the pseudonyms: an evaluation keeps no person, so that it needs no secret."""
_IMPORTED: Final = Source(mode="import")
_CLIENT_NAMES: Final = {code: name for name, code in NEGATIVE.items()}


def acts_of(
    given: str,
    *,
    layout: str = "",
    environment: Mapping[str, str] = os.environ,
    here: Path | None = None,
) -> Acts:
    """The acts of a lake, of a file or a folder, or of the set of this name (`find.located`).

    `layout`: as `read_acts` takes it. Errors: `NotReadable`; of a lake as `read_lake`.
    """
    if is_lake(given):
        return read_lake(given)
    return read_acts(located(given, environment, here), layout=layout)


def to_log(acts: Acts, partitions: int) -> Log:
    """The log of an import of `acts`: each in the partition of its person, offsets from 0 by time, every item
    in the catalogue before it. Its records are made as they are read: a million acts take some 30 MB."""
    people = [pseudonym(1, _KEY, name) for name in acts.people]
    of_person = np.array([partition_of(it.encode(), partitions) for it in people], np.int64)
    homes = of_person[acts.person]
    order = np.argsort(acts.time, kind="stable")
    made = _Made(acts, people)
    records: list[Any] = [_Records(made, order[homes[order] == p]) for p in range(partitions)]
    return Log(records, acts.items)


class _Made:
    """Makes events of acts."""

    def __init__(self, acts: Acts, people: Sequence[str]) -> None:
        self.acts, self.people = acts, people
        self.categories = [it.category for it in acts.items]
        self.groups = [it.group_id for it in acts.items]

    def event(self, n: int) -> Action:
        acts = self.acts
        item, code, at = int(acts.item[n]), int(acts.action[n]), int(acts.time[n])
        return Action(
            event_id=f"{n}",
            person=self.people[acts.person[n]],
            item_id=acts.item_ids[item],
            action=_CLIENT_NAMES.get(code, ACTIONS[code].name),
            occurred_at=at,
            received_at=at,
            category=self.categories[item],
            known=True,
            negative=code in _CLIENT_NAMES,
            group=self.groups[item],
            source=_IMPORTED,
        )


class _Records(Sequence[Record]):
    """The records of one partition, `rows` (n,) of the acts."""

    def __init__(self, made: _Made, rows: NDArray[np.int64]) -> None:
        self._made, self._rows = made, rows

    def __len__(self) -> int:
        return len(self._rows)

    @overload
    def __getitem__(self, at: int) -> Record: ...
    @overload
    def __getitem__(self, at: slice) -> list[Record]: ...
    def __getitem__(self, at: int | slice) -> Any:
        if isinstance(at, slice):
            return [self._record(it) for it in range(*at.indices(len(self)))]
        return self._record(range(len(self))[at])

    def __iter__(self) -> Iterator[Record]:
        return map(self._record, range(len(self)))

    def _record(self, offset: int) -> Record:
        event = self._made.event(int(self._rows[offset]))
        return offset, event.received_at, event
