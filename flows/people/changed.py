"""What a read changed in rows: the rows of every person in it whose row changed, and their vectors."""

from __future__ import annotations

import numpy as np

from flows.people.read import ReadFold
from flows.people.rows import Rows
from models.arrays import I64
from models.features.registry import pack_rows
from models.release.person import Encoder


def store_changed(read: ReadFold, rows: Rows, encoder: Encoder | None) -> None:
    """Adds the changed rows to the writes of their partitions, and the vectors that the encoder makes of
    them. A person without a vector gets the old one deleted."""
    slots = _joined(read.acted, [it.effects.dirty for it in read.spans])
    if not len(slots):
        return
    taken = rows.take(slots)
    if any(it.effects.unlinked for it in read.spans):  # a row without a version: its key is deleted
        present = taken["version"] > 0
        slots, taken = slots[present], taken[present]
    keys, partitions = rows.keys, rows.partitions
    spans = {it.span.partition: it for it in read.spans}
    packed = zip(slots.tolist(), pack_rows(taken), strict=True)
    if len(spans) == 1 and not read.faults:
        [it] = spans.values()
        it.effects.write.values.update((keys[slot], data) for slot, data in packed)
    else:
        for slot, data in packed:
            if (found := spans.get(partitions[slot])) is not None:
                found.effects.write.values[keys[slot]] = data
    if encoder is None:
        return
    changed = _joined(read.recent_changed, [it.effects.recent_changed for it in read.spans])
    if len(changed) < len(slots) or len(read.acted) > 1:
        mask = np.isin(slots, changed)
        slots, taken = slots[mask], taken[mask]
    if not len(slots):
        return
    for slot, vector in zip(slots.tolist(), encoder.stored(taken), strict=True):
        it = spans.get(partitions[slot])  # type: ignore[assignment]
        if it is None:
            continue
        key = it.state.vectors + rows.people[slot].encode()
        if vector is None:
            it.effects.write.deleted.append(key)
        else:
            it.effects.write.values[key] = vector


def _joined(arrays: list[I64], sets: list[set[int]]) -> I64:
    """(k,) their slots, each once, ascending. One array is so already."""
    more = [slot for held in sets for slot in held]
    if len(arrays) == 1 and not more:
        return arrays[0]
    found: I64 = np.unique(np.concatenate([*arrays, np.array(more, np.int64)]))
    return found
