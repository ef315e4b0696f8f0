"""Any data set as columns: who acted on what, and when, and which acts a ranking is to find."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.datasets.layouts import (
    api,
    catalogues,
    folders,
    gathered,
    lists,
    numbering,
    roles,
    shapes,
    tables,
)
from infra.datasets.layouts.catalogues import Catalogue
from infra.datasets.layouts.folders import Recognised
from infra.datasets.layouts.gathered import ActColumns, Gathered
from infra.datasets.layouts.opened import opened
from infra.datasets.layouts.shapes import BASKETS, EVENTS_OF_API, SEQUENCES
from infra.datasets.layouts.tables import Table
from infra.datasets.rows import Notes, NotReadable
from schemas.items import Item

LAYOUTS: Final = shapes.LAYOUTS


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


class SetRead(NamedTuple):
    """What a set gave. `about`: bare items of its own lines, by place. `equal_acts`: two acts that are equal
    in all that is read are one."""

    gathered: Gathered
    acts: ActColumns
    target: NDArray[np.bool_]
    clock: bool
    about: dict[int, Item]
    equal_acts: bool = True


def read_acts(path: Path, *, layout: str = "") -> Acts:
    """The acts in a file or a folder, whose layout its content says.

    A rating of at least four fifths of the set's greatest is a like and a target, another one a view and
    none; where there are no ratings every click, act of a sequence and first line of an item in a basket is
    a target. `layout`: one of `LAYOUTS`, where the content fits two. Errors: `NotReadable`, which names the
    file, the line and the remedy.
    """
    if layout and layout not in LAYOUTS:
        raise NotReadable(
            f"no layout is called {layout}", remedy=f"name one of {', '.join(LAYOUTS)}"
        )
    found, notes = folders.chosen(path, layout), Notes()
    try:
        taken = _taken(found.acts, notes)
    except NotReadable as error:
        raise _named(error, found.acts.path) from None
    catalogue: Catalogue = {}
    for it in found.items:
        catalogue |= _catalogue(it, notes)
    return made(taken, found.acts.shape.layout, catalogue)


def _taken(found: Recognised, notes: Notes) -> SetRead:
    shape, about = found.shape, dict[int, Item]()
    clock = roles.TIME in shape.roles or shape.layout == EVENTS_OF_API
    if shape.layout == EVENTS_OF_API:
        held = api.read(found.path, notes)
    elif shape.layout in (SEQUENCES, BASKETS) and not shape.roles:
        read = lists.baskets if shape.layout == BASKETS else lists.sequences
        held = read(opened(found.path, notes), shape, notes)
    else:
        table = Table(shape, notes)
        table.read(tables.rows(opened(found.path, notes), shape, notes))
        held, about = table.gathered, tables.items(table)
    acts = held.all()
    acts = gathered.since_1990(acts, notes) if clock else gathered.laid_out(acts)
    acts, target = _judged(acts, held, shape, notes)
    return SetRead(held, acts, target, clock, about)


def _judged(
    acts: ActColumns, held: Gathered, shape: shapes.Shape, notes: Notes
) -> tuple[ActColumns, NDArray[np.bool_]]:
    if held.has_rating:
        return gathered.by_ratings(acts, notes)
    if shape.layout == BASKETS:
        return acts, gathered.of_baskets(acts)
    if shape.layout == EVENTS_OF_API:
        return acts, gathered.by_events(acts, notes)
    return acts, gathered.by_actions(acts, notes)


def _catalogue(found: Recognised, notes: Notes) -> Catalogue:
    try:
        if found.shape.is_of_api:
            return catalogues.of_api(found.path, notes)
        return catalogues.of_table(opened(found.path, notes), found.shape, notes)
    except NotReadable as error:
        raise _named(error, found.path) from None


def _named(error: NotReadable, path: Path) -> NotReadable:
    """The error, with the file as its subject."""
    if error.sentence.startswith(f"{path} "):
        return error
    return NotReadable(f"{path} {error.sentence}", remedy=error.remedy)


def made(taken: SetRead, layout: str, catalogue: Catalogue) -> Acts:
    """In order of the clock, without acts that equal another one, and without ids that nothing is of."""
    held, acts, target = taken.gathered, taken.acts, taken.target
    last = (acts.item, acts.person) if held.has_rating and taken.clock else ()
    names = (held.items.names, held.people.names)
    keys = [numbering.ranks(of)[column] for of, column in zip(names, last, strict=False)]
    order = np.lexsort((*keys, acts.time))
    if taken.clock and taken.equal_acts:
        order = order[gathered.distinct(acts.chosen(order), held)]
    acts, target = acts.chosen(order), target[order]
    people, person = np.unique(acts.person, return_inverse=True)
    places, item = np.unique(acts.item, return_inverse=True)
    ids = [held.items.names[it] for it in places.tolist()]
    bare = (taken.about.get(it) or Item(item_id=held.items.names[it]) for it in places.tolist())
    items = {name: catalogue.get(name, it) for name, it in zip(ids, bare, strict=True)}
    items |= {name: it for name, it in catalogue.items() if name not in items}
    return Acts(
        people=[held.people.names[it] for it in people.tolist()],
        item_ids=[*items],
        person=person,
        item=item,
        time=acts.time,
        action=acts.action,
        target=target,
        basket=acts.basket,
        rated=acts.rated,
        items=[*items.values()],
        layout=layout,
        clock=taken.clock,
        dropped=held.dropped,
        notes=held.notes,
    )
