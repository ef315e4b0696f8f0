"""Data for an evaluation: the acts of any set as the log that the edge would have written of them."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from flows.offline.history import Log
from flows.offline.records import Records
from infra.apps.evaluate.lake import is_lake, read_lake
from infra.datasets.acts import Acts, read_acts
from infra.datasets.find import located
from schemas.actions import ACTIONS, NEGATIVE
from schemas.alphabet import Pseudonym
from schemas.events import Action, Source
from schemas.identity import partition_of, pseudonym

_KEY: Final = b"freshet evaluate".ljust(32, b".")
"""Of the pseudonyms: an evaluation keeps no person, so that it needs no secret."""
_IMPORTED: Final = Source(mode="import")
_ROWS_AT_ONCE: Final = 10_000
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
    """The log of an import of `acts`: each in the partition of its person, offsets from 0 in the order of the
    acts, every item in the catalogue before them. In one partition the n-th act has offset n."""
    people = [pseudonym(1, _KEY, name) for name in acts.people]
    of_person = np.array([partition_of(it.encode(), partitions) for it in people], np.int64)
    homes = of_person[acts.person]
    records = [
        Records(_records(acts, people, np.flatnonzero(homes == p))) for p in range(partitions)
    ]
    return Log(records, acts.items)


def _records(
    acts: Acts, people: Sequence[Pseudonym], rows: NDArray[np.int64]
) -> Iterator[tuple[int, int, Action]]:
    """(offset, record time, event) of the acts in `rows`."""
    columns = (acts.person, acts.item, acts.time, acts.action)
    for begin in range(0, len(rows), _ROWS_AT_ONCE):
        chosen = rows[begin : begin + _ROWS_AT_ONCE]
        cells = zip(*(column[chosen].tolist() for column in columns), strict=True)
        for offset, (who, what, at, code) in enumerate(cells, begin):
            item = acts.items[what]
            event = Action(
                event_id=f"{offset}",
                person=people[who],
                item_id=item.item_id,
                action=_CLIENT_NAMES.get(code, ACTIONS[code].name),
                occurred_at=at,
                received_at=at,
                category=item.category,
                known=True,
                negative=code in _CLIENT_NAMES,
                group=item.group_id,
                source=_IMPORTED,
            )
            yield offset, at, event
