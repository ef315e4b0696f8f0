"""What Python computes for a compiled decision: what has no entry in the tables of C, the outputs of a ranker
that ONNX Runtime runs, vector searches, counts of categories and owners."""

from __future__ import annotations

from collections.abc import Callable
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from models.kernels.loading import kernel
from serving.decide.case import Ask, Case, World
from serving.decide.entries import IN_PYTHON, Entries, Plan
from serving.decide.person import Person
from serving.decide.pool import Kept, Pool, Retrieved
from serving.decide.workspace import Workspace
from serving.world.catalogue import Slots
from serving.world.index import VectorIndex

CONTENT, SPACE = 0, 1
"""The searches, by bit of `decision.searches`."""


class Handed:
    """Of one decision in `work`: answers what `decision_run` needs."""

    def __init__(
        self,
        entries: Entries,
        work: Workspace,
        plan: Plan,
        person: Person,
        world: World,
        ask: Ask,
    ) -> None:
        assert kernel is not None
        self.work, self.d, self.plan = work, work.d, plan
        self.person, self.world, self.ask = person, world, ask
        self.entries, self._ffi = entries, kernel.ffi

    def answer(self, need: int) -> None:
        """Gives what is needed."""
        _ANSWERS[need](self)

    @cached_property
    def case(self) -> Case:
        return Case(self.person, self.world, self.ask)

    def pool(self) -> Pool:
        """The candidates as they are now."""
        d, slots = self.d, self.slots()
        n = d.n_entries
        entries = self._copied(d.entry_slot, n, np.int32)
        values = self._copied(d.entry_value, n, np.float64)
        by = self._copied(d.entry_by, n, np.int32).astype(np.intp)
        brought = self._copied(d.entry_brought, n, np.int32).astype(np.intp)
        numbers = self._copied(d.entry_number, n, np.int32).astype(np.intp)
        parts = [
            (name, slice(d.source_begin[at], d.source_begin[at + 1]))
            for at, name in enumerate(self.plan.sources)
        ]
        retrieved = {name: Retrieved(entries[part], values[part], by[part]) for name, part in parts}
        pool = Pool(slots, retrieved, {name: brought[part] for name, part in parts})
        if not d.has_chosen:
            return pool
        merged = pool.merged(self._copied(d.chosen, d.n, np.int32).astype(np.intp))
        merged.numbers = {name: numbers[part] for name, part in parts}
        return merged

    def slots(self) -> Slots:
        """(n,) of the candidates."""
        return self._copied(self.d.slot, self.d.n, np.int32)

    def make_room(self) -> None:
        """Room for what the sources bring."""
        # twice what is needed: a request like this one may need some more
        self.work.make_room(2 * self.d.room_needed, 0)

    def search(self) -> None:
        """What is nearest to the person's vectors."""
        d, space = self.d, self.world.space
        if d.searches & 1 << CONTENT:
            self._find(CONTENT, self.world.index, d.likeness)
        if d.searches & 1 << SPACE and space is not None:
            self._find(SPACE, space, d.vector)

    def _find(self, which: int, index: VectorIndex, query: Any) -> None:
        d = self.d
        found = index.search_bytes(self._ffi.buffer(query)[:], d.search_k)
        d.found_slots[which] = self._held("int32_t[]", found.slots)
        d.found_similarity[which] = self._held("float[]", found.similarity)
        d.n_found[which] = len(found.slots)

    def retrieve(self) -> None:
        """What the sources in Python bring."""
        d, struct = self.d, self.plan.struct
        for at, name in enumerate(self.plan.sources):
            if struct.source[at] != IN_PYTHON:
                continue
            found = self.entries.source(name).retrieve(self.case, d.deeper)
            d.handed_slots[at] = self._array("int32_t[]", found.slots, np.int32)
            d.handed_values[at] = self._array("double[]", found.values, np.float64)
            d.handed_entries[at] = self._array("int64_t[]", found.entries, np.int64)
            d.n_handed[at] = len(found.slots)

    def apply_rules(self) -> None:
        """What the rules in Python remove."""
        d, struct, slots = self.d, self.plan.struct, self.slots()
        for at, name in enumerate(self.plan.rules):
            if struct.rule[at] == IN_PYTHON:
                mask = self.entries.rule(name).removes(self.case, slots)
                d.handed_mask[at] = self._optional("uint8_t[]", mask, np.uint8)

    def make_columns(self) -> None:
        """The columns in Python of the candidates that are scored."""
        d, struct, pool = self.d, self.plan.struct, self.pool()
        numbers = self._copied(d.scored, d.k, np.int32).astype(np.intp)
        kept = Kept(numbers, pool.slots[numbers])
        for at, (name, _) in enumerate(self.plan.weighted):
            if struct.weighted[at] == IN_PYTHON:
                value = self.entries.column(name).value(self.case, pool, kept)
                d.handed_column[at] = self._optional("double[]", value, np.float64)

    def make_features(self) -> None:
        """Those of the candidates that are ranked."""
        d, struct, pool = self.d, self.plan.struct, self.pool()
        numbers = self._copied(d.asked, d.n_asked, np.int32).astype(np.intp)
        kept = Kept(numbers, pool.slots[numbers])
        for at, name in enumerate(self.plan.features):
            if struct.feature[at] == IN_PYTHON:
                value = self.entries.column(name).value(self.case, pool, kept)
                d.handed_feature[at] = self._optional("double[]", value, np.float64)

    def rank(self) -> None:
        """The outputs of the release's ranker."""
        d, release = self.d, self.world.release
        assert release is not None
        rows = self._copied(d.rows, d.n_ranked * len(self.plan.features), np.float32)
        outputs = release.predict(rows.reshape(d.n_ranked, len(self.plan.features)))
        into = np.frombuffer(self._ffi.buffer(d.predictions, 4 * d.n_ranked), np.float32)
        into[:] = outputs

    def count(self) -> None:
        """How many categories and owners there are."""
        filters, wanted = self.world.filters, self.ask.filter
        self.d.category_available = filters.count_distinct("category", wanted)
        self.d.owner_available = filters.count_distinct("owner", wanted)

    def _copied(self, pointer: Any, n: int, dtype: type[np.generic]) -> NDArray[Any]:
        size = n * np.dtype(dtype).itemsize
        return np.frombuffer(self._ffi.buffer(pointer, size), dtype).copy()

    def _optional(self, kind: str, values: NDArray[Any] | None, dtype: type[np.generic]) -> Any:
        return self._ffi.NULL if values is None else self._array(kind, values, dtype)

    def _array(self, kind: str, values: NDArray[Any], dtype: type[np.generic]) -> Any:
        return self._held(kind, np.ascontiguousarray(values, dtype))

    def _held(self, kind: str, array: NDArray[Any]) -> Any:
        pointer = self._ffi.from_buffer(kind, array)
        self.work.held.append(pointer)
        return pointer


if kernel is not None:
    _ANSWERS: dict[int, Callable[[Handed], None]] = {
        kernel.lib.NEEDS_ROOM: Handed.make_room,
        kernel.lib.NEEDS_SEARCH: Handed.search,
        kernel.lib.NEEDS_SOURCES: Handed.retrieve,
        kernel.lib.NEEDS_RULES: Handed.apply_rules,
        kernel.lib.NEEDS_COLUMNS: Handed.make_columns,
        kernel.lib.NEEDS_FEATURES: Handed.make_features,
        kernel.lib.NEEDS_RANKING: Handed.rank,
        kernel.lib.NEEDS_COUNTS: Handed.count,
    }
