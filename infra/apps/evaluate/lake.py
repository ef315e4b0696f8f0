"""The acts in a lake: what people did with items of its catalogue, as the flows decode it."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from xxhash import xxh3_64_intdigest

from flows.people.steps import decode
from infra.datasets.acts import Acts, SetRead, made
from infra.datasets.layouts.gathered import ActColumns, Gathered, by_events
from infra.datasets.layouts.numbering import NO_ID
from infra.datasets.rows import Notes, NotReadable
from infra.lake.reader import Lake
from infra.lake.store import Store
from schemas import items
from schemas.actions import code_of
from schemas.events import Action
from schemas.items import Item, PutItem
from schemas.topics import EVENTS, ITEMS

LAYOUT: Final = "lake"


def is_lake(given: str) -> bool:
    """Whether it is called as a bucket is, or is a folder with manifests."""
    return "://" in given or (Path(given) / "manifest" / EVENTS.name).is_dir()


def read_lake(url: str) -> Acts:
    """The acts on items that the catalogue knew and has. A repeat of an event is dropped, as the flows do; an
    anonymous id that was linked is a person of its own. Lines of `dropped` are offsets.

    Errors: `LakeError`, `OffTheLog`; `NotReadable` where there is no lake, or no act in it.
    """
    lake, notes = Lake(Store(url)), Notes()
    partitions = lake.partitions(EVENTS.name)
    if not partitions:
        raise NotReadable(
            f"{url} is no lake, or an empty one", remedy="name the folder or URL of one"
        )
    catalogue = _catalogue(lake)
    gathered = Gathered(notes, has_time=True)
    for partition in partitions:
        _take(lake, partition, catalogue, gathered)
    try:
        acts = gathered.all()
        read = SetRead(gathered, acts, by_events(acts, notes), True, {}, equal_acts=False)
    except NotReadable as error:
        raise NotReadable(f"{url} {error.sentence}", remedy=error.remedy) from None
    return made(read, LAYOUT, catalogue)


def _take(lake: Lake, partition: int, catalogue: dict[str, Item], gathered: Gathered) -> None:
    """A person's events are in one partition, and so are their repeats."""
    columns, identities = [], []
    for offsets, acts, skipped in _batches(lake, partition):
        if skipped:
            gathered.dropped["undecodable"] += skipped
        there = np.array([it.known and it.item_id in catalogue for it in acts], np.bool_)
        columns.append((_columns(acts, gathered), np.array(offsets, np.int64), there))
        identities.append(np.array([_identity(it) for it in acts], np.uint64))
    if not columns:
        return
    again = np.ones(sum(map(len, identities)), np.bool_)
    again[np.unique(np.concatenate(identities), return_index=True)[1]] = False
    at = 0
    for acts_read, offsets_read, there in columns:
        end = at + len(there)
        reasons = {"duplicate": again[at:end], "not_in_catalogue": ~there}
        gathered.add(acts_read, offsets_read, reasons)
        at = end


def _batches(lake: Lake, partition: int) -> Iterator[tuple[list[int], list[Action], int]]:
    """Offsets and actions of some records, and how many did not decode."""
    start, end = lake.bounds(EVENTS.name, partition)
    for batch in lake.read(EVENTS.name, partition, start, end):
        decoded, letters = decode([batch])
        acts = [(offset, it) for offset, _, it in decoded.records if isinstance(it, Action)]
        yield [offset for offset, _ in acts], [it for _, it in acts], len(letters)


def _columns(acts: list[Action], gathered: Gathered) -> ActColumns:
    return ActColumns(
        gathered.people.code(it.person for it in acts),
        gathered.items.code(it.item_id for it in acts),
        np.array([it.occurred_at for it in acts], np.int64),
        np.array([code_of(it.action, it.negative) for it in acts], np.int8),
        np.full(len(acts), NO_ID, np.int64),
        _ratings(acts),
    )


def _ratings(acts: list[Action]) -> NDArray[np.float32]:
    found = [
        math.nan if it.value is None or it.action != "rate" or it.negative else it.value
        for it in acts
    ]
    return np.array(found, np.float32)


def _identity(act: Action) -> int:
    """Of what one event id names: of a person, an item and an action."""
    named = (act.person, act.event_id, act.item_id, act.action, str(act.negative))
    return int(xxh3_64_intdigest("\0".join(named).encode()))


def _catalogue(lake: Lake) -> dict[str, Item]:
    """The catalogue after all changes."""
    held: dict[str, Item | None] = {}
    for partition in lake.partitions(ITEMS.name):
        start, end = lake.bounds(ITEMS.name, partition)
        for batch in lake.read(ITEMS.name, partition, start, end):
            for value in batch.values:
                change = items.decode(value or b"")
                name = change.item.item_id if isinstance(change, PutItem) else change.item_id
                held[name] = items.apply(change, held.get(name))
    return {name: item for name, item in held.items() if item is not None}
