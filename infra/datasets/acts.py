"""Any data set as columns: who acted on what, and when, and which acts a ranking is to find."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.datasets.rows import Notes
from schemas.items import Item


class Acts(NamedTuple):
    """n acts, in the order of their clock; where two are of one moment, in that of their file (ratings: of
    person and item). Each array is (n,).

    `person`, `item`: places in `people` and in `item_ids`; `time`: ms since 1970; `action`: codes of
    `schemas.actions`; `target`: a choice that a ranking is to find; `basket`: lines of one basket have one
    number, -1: no basket; `rated`: the rating as the file has it, NaN: none. `items`: one for each of
    `item_ids`, in that order: as the set has it, or bare; after those that were acted on come the others of
    the set. `layout`: its name; `clock`: the times are those of the set, False: they were laid out here.
    `dropped`: lines or acts that were not taken, by reason; `notes`: what was done to read the rest.
    """

    people: list[str]
    item_ids: list[str]
    person: NDArray[np.int64]
    item: NDArray[np.int64]
    time: NDArray[np.int64]
    action: NDArray[np.int8]
    target: NDArray[np.bool_]
    basket: NDArray[np.int64]
    rated: NDArray[np.float32]
    items: list[Item]
    layout: str
    clock: bool
    dropped: Counter[str]
    notes: Notes


def read_acts(path: Path, *, layout: str = "") -> Acts:
    """The acts in a file or a folder, whose layout its content says.

    `layout`: one of `LAYOUTS`, where the content fits two. Errors: `NotReadable`, which names the file, the
    line and the remedy.
    """
    raise NotImplementedError
