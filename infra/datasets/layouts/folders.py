"""The one set in a folder: the file that holds the acts, and those that describe its items."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Final, NamedTuple

from infra.datasets import movielens_files, parquet
from infra.datasets.layouts import shapes
from infra.datasets.layouts.opened import opened
from infra.datasets.layouts.shapes import CATALOGUE, Shape
from infra.datasets.rows import Notes, NotReadable

MAX_FILES: Final = 200
"""A folder of more is no set."""
_MAX_NAMED: Final = 5
_PROSE: Final = ("readme", "license", "licence", "source.md", "changelog", "notice")
_SUFFIXES: Final = (".gz", ".zst", ".zstd")
_PUBLISHED: Final = tuple(it.ratings for it in movielens_files.LAYOUTS)
"""Names that MovieLens gives its ratings, beside which it puts cuts of them."""
_COMPANIONS: Final = (*(it.films for it in movielens_files.LAYOUTS), "items.ndjson", "items.csv")


class Recognised(NamedTuple):
    """A file and what it is."""

    path: Path
    shape: Shape


class Chosen(NamedTuple):
    """The file of acts, and those of items."""

    acts: Recognised
    items: list[Recognised]


def chosen(path: Path, layout: str = "") -> Chosen:
    """The set in a file or a folder. `layout`: only a set of this layout.

    Errors: `NotReadable` where there is none, or more than one, with their names and the remedy.
    """
    if path.is_dir():
        return _in_folder(path, layout)
    found = recognised(path, layout)
    _check(found, layout)
    return Chosen(found, [*_companions(path)])


def recognised(path: Path, layout: str = "") -> Recognised:
    """What a file is. Errors: `NotReadable`, which names the file, where it cannot be read."""
    try:
        found = opened(path, Notes())
        if not found.is_parquet:
            return Recognised(path, shapes.shape(found.head, layout))
        made = shapes.by_header(parquet.names(path))
        return Recognised(path, made or Shape("", why="its columns have no names that sets use"))
    except NotReadable as error:
        raise NotReadable(f"{path} {error.sentence}", remedy=error.remedy) from None


def _check(found: Recognised, layout: str) -> None:
    path, shape = found
    if shape.layout == CATALOGUE:
        raise NotReadable(f"{path} holds items and no acts", remedy="name the file of the acts")
    if not shape.layout:
        raise NotReadable(f"{path} is no data set: {shape.why}", remedy=_HEADER)
    if layout and shape.layout != layout:
        raise NotReadable(
            f"{path} cannot be read as {layout}: its content is that of {shape.layout}",
            remedy="leave --layout away",
        )
    if shape.also:
        raise NotReadable(
            f"{path} can be read as {shape.layout} and as {shape.also}",
            remedy=f"say which it is: --layout {shape.layout}, or --layout {shape.also}",
        )


_HEADER: Final = "put the names of its columns in its first line, as user_id,item_id,timestamp"


def _in_folder(folder: Path, layout: str) -> Chosen:
    found, unread = [], []
    for path in _files(folder):
        try:
            found.append(recognised(path, layout))
        except NotReadable as error:
            unread.append(error)
    items = [it for it in found if it.shape.layout == CATALOGUE]
    sets = [it for it in found if it.shape.layout not in ("", CATALOGUE)]
    if layout:
        sets = [it for it in sets if layout in (it.shape.layout, it.shape.also)]
    if len(sets) > 1:
        sets = [it for it in sets if _bare(it.path) in _PUBLISHED] or sets
    if not sets:
        if len(unread) == 1 and not found:
            raise unread[0]
        raise _none(folder, layout, found, unread)
    if len(sets) > 1:
        named = _listed([f"{it.path.name} ({it.shape.layout})" for it in sets])
        raise NotReadable(
            f"{folder} holds {len(sets)} sets: {named}",
            remedy="name the file of one, or its layout with --layout where they differ",
        )
    _check(sets[0], layout)
    return Chosen(sets[0], items)


def _none(
    folder: Path, layout: str, found: list[Recognised], unread: list[NotReadable]
) -> NotReadable:
    why = [f"{it.path.name} is none ({it.shape.why})" for it in found if not it.shape.layout]
    named = [it for it in found if it.shape.layout]
    why += [f"{it.path.name} is one of {it.shape.layout}" for it in named]
    why += [error.sentence.removeprefix(f"{folder}/") for error in unread]
    sentence = f"{folder} holds no data set{f' of {layout}' if layout else ''}"
    return NotReadable(f"{sentence}: {_listed(why) or 'no file'}", remedy=_HEADER)


def _listed(texts: list[str]) -> str:
    more = f"; and {len(texts) - _MAX_NAMED:,} more" if len(texts) > _MAX_NAMED else ""
    return "; ".join(texts[:_MAX_NAMED]) + more


def _files(folder: Path) -> list[Path]:
    """In order of name, without hidden ones and prose. Errors: `NotReadable` where they are too many, or the
    folder may not be read."""
    try:
        found = sorted(
            path
            for path in folder.iterdir()
            if path.is_file() and not path.name.startswith((".", "_")) and not _is_prose(path)
        )
    except OSError as error:
        raise NotReadable(f"{folder} cannot be read ({error.strerror})") from None
    if len(found) > MAX_FILES:
        raise NotReadable(
            f"{folder} has {len(found):,} files, and {MAX_FILES} are the most",
            remedy="name the file of the acts",
        )
    return found


def _is_prose(path: Path) -> bool:
    name = path.name.casefold()
    return name.startswith(_PROSE) or name.endswith((".md", ".pdf", ".html"))


def _companions(path: Path) -> Iterator[Recognised]:
    """Files of items beside one of acts, by their names."""
    bare = _bare(path)
    stem = bare.removesuffix(".inter")
    names = [*_COMPANIONS, *([f"{stem}.item"] if stem != bare else [])]
    for name in names:
        for suffix in ("", *_SUFFIXES):
            other = path.with_name(name + suffix)
            if other.is_file() and other != path:
                try:
                    found = recognised(other)
                except NotReadable:
                    continue
                if found.shape.layout == CATALOGUE:
                    yield found


def _bare(path: Path) -> str:
    """The name without a suffix of compression."""
    return path.name.removesuffix(path.suffix) if path.suffix in _SUFFIXES else path.name
