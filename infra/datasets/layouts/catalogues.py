"""What a set says of its items: files of films, of atomic items, of any table, and of the API."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import msgspec

from infra.datasets import convert, sources, values
from infra.datasets.categories import primaries
from infra.datasets.layouts import numbering, roles, tables
from infra.datasets.layouts.numbering import NO_ID
from infra.datasets.layouts.opened import Opened
from infra.datasets.layouts.roles import CATEGORY, ITEM, OWNER, TAGS, TEXT, TITLE
from infra.datasets.layouts.shapes import Shape
from infra.datasets.movielens_files import FLAGS, FLAGS_FROM
from infra.datasets.rows import Fault, Notes
from schemas import times
from schemas.identity import check_item_id
from schemas.items import Item, ItemIn, with_primary
from schemas.reject import Rejected, from_validation

Catalogue = dict[str, Item]
"""By id; where an id comes twice, the last holds."""
_DECODER: Final = msgspec.json.Decoder(ItemIn)
_NO_TEXT: Final = frozenset({"", "nan", "none", "null"})
_NO_CATEGORY: Final = _NO_TEXT | {"na", "n/a", "unknown", "(no genres listed)"}
_BETWEEN: Final = re.compile(r"[|;]")
_QUOTED: Final = re.compile(r"'([^']*)'|\"([^\"]*)\"")


def of_table(found: Opened, shape: Shape, notes: Notes) -> Catalogue:
    """Items of rows of cells. A row without an id, or with too few cells, is noted."""
    catalogue: Catalogue = {}
    numbers = numbering.of_items()
    for part in tables.rows(found, shape, notes):
        _note(part.faults, notes)
        for line, row in zip(part.lines, part.cells, strict=True):
            code = numbers[row[shape.roles[ITEM]]]
            if code == NO_ID:
                _note([Fault(line, "item_id", "not_an_id")], notes)
                continue
            name = numbers.names[code]
            catalogue[name] = _item(name, row, shape)
    primary = primaries([item.categories for item in catalogue.values()])
    for item, category in zip(catalogue.values(), primary, strict=True):
        item.category = category
    return catalogue


def of_api(path: Path, notes: Notes) -> Catalogue:
    """Items as ``POST /v1/items`` takes them, in any file that an import reads."""
    catalogue: Catalogue = {}
    for chunk in sources.items(path).chunks():
        faults = [*chunk.faults]
        for line, body in zip(chunk.lines, chunk.bodies, strict=True):
            try:
                item = _given(body, notes)
            except Rejected as error:
                faults.append(Fault(line, error.field, error.code))
            else:
                catalogue[item.item_id] = item
        _note(faults, notes)
    return catalogue


def _item(name: str, row: Sequence[Any], shape: Shape) -> Item:
    def text(role: str) -> str:
        place = shape.roles.get(role)
        found = "" if place is None or row[place] is None else str(row[place]).strip()
        return "" if found.casefold() in _NO_TEXT else found

    def texts(role: str) -> tuple[str, ...]:
        place = shape.roles.get(role)
        if place is None or row[place] is None:
            return ()
        name = shape.names[place] if shape.names else ""
        return tuple(_elements(row[place], is_sequence=roles.is_sequence(name)))

    flags = not shape.names and len(row) == FLAGS_FROM + len(FLAGS)
    categories = tuple(_flagged(row)) if flags else texts(CATEGORY)
    return with_primary(
        Item(
            item_id=name,
            title=text(TITLE),
            text=text(TEXT),
            owner_id=text(OWNER),
            categories=categories,
            tags=texts(TAGS),
        )
    )


def _flagged(row: Sequence[str]) -> Iterator[str]:
    flags = zip(FLAGS, row[FLAGS_FROM:], strict=False)
    yield from (name for name, flag in flags if flag == "1" and name.casefold() not in _NO_CATEGORY)


def _elements(cell: Any, *, is_sequence: bool) -> Iterator[str]:
    """Texts between ``|`` or ``;``, in quotes, or in an atomic sequence between blanks.

    >>> [*_elements("Crime|Drama", is_sequence=False)], [*_elements("['Games', 'PC']", is_sequence=True)]
    (['Crime', 'Drama'], ['Games', 'PC'])
    """
    if not isinstance(cell, str):
        found = [str(it) for it in cell] if isinstance(cell, list) else [str(cell)]
    elif "'" in cell[:2] or '"' in cell[:2]:
        found = [a or b for a, b in _QUOTED.findall(cell)]
    elif _BETWEEN.search(cell) or not is_sequence:
        found = _BETWEEN.split(cell)
    else:
        found = cell.split(",") if "," in cell else cell.split()
    yield from (it.strip() for it in found if it.strip().casefold() not in _NO_CATEGORY)


def _given(body: bytes, notes: Notes) -> Item:
    """Errors: `Rejected`."""
    try:
        found = _DECODER.decode(body)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        try:
            found = _DECODER.decode(values.repair_item(body, notes))
        except msgspec.ValidationError as error:
            raise from_validation(error) from None
    said = {
        field: value
        for field in found.__struct_fields__
        if (value := getattr(found, field)) is not None
        and field not in ("published_at", "expires_at")
    }
    for field in ("published_at", "expires_at"):
        if (value := getattr(found, field)) is not None:
            said[field] = times.parse_any_year(value, field)
    for field in ("categories", "tags"):
        said[field] = tuple(it for it in said.get(field, ()) if it is not None)
    said["attributes"] = convert.attributes(said.get("attributes", {}), "attributes", notes)
    said["item_id"] = check_item_id(found.item_id or "", "item_id")
    return with_primary(Item(**said))


def _note(faults: Sequence[Fault], notes: Notes) -> None:
    if faults:
        line, field, code = min(faults)
        text = f"items were left out, {field} {code}; the first is of line {line:,}"
        notes.add("items_left_out", text, len(faults))
