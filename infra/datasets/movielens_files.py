"""The files of MovieLens, in each layout that its home has published.

| release | files | cells |
|---|---|---|
| latest, 20M, 25M, 32M | `ratings.csv`, `movies.csv` | CSV with a header, UTF-8, genres between ``|`` |
| 1M, 10M | `ratings.dat`, `movies.dat` | between ``::``, 1M in latin-1 |
| 100K | `u.data`, `u.item` | between tabs and ``|``, in latin-1, a flag for each genre |

Each file may be compressed (`ratings.csv.gz`, `ratings.csv.zst`).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

from infra.datasets import convert, delimited, files, lines, tabular, text
from infra.datasets.convert import Converter
from infra.datasets.delimited import CellRows
from infra.datasets.rows import Notes, NotReadable

RATING_COLUMNS: Final = ("userId", "movieId", "rating", "timestamp")
FILM_COLUMNS: Final = ("movieId", "title", "genres")
FLAGS: Final = (
    "unknown", "Action", "Adventure", "Animation", "Children's", "Comedy", "Crime", "Documentary", "Drama",
    "Fantasy", "Film-Noir", "Horror", "Musical", "Mystery", "Romance", "Sci-Fi", "Thriller", "War", "Western",
)  # fmt: skip
"""Genres of 100K, in the order of their flags."""
FLAGS_FROM: Final = 5
_NO_GENRE: Final = ("(no genres listed)", "unknown", "")
_SUFFIXES: Final = ("", ".gz", ".zst", ".zstd")


class NotMovieLens(NotReadable):
    """The folder has another layout; the text says which file or column is missing."""


class Layout(NamedTuple):
    """Names of the two files, and what separates their cells; "": a header says it."""

    ratings: str
    films: str
    rating_delimiter: str = ""
    film_delimiter: str = ""


LAYOUTS: Final = (
    Layout("ratings.csv", "movies.csv"),
    Layout("ratings.dat", "movies.dat", "::", "::"),
    Layout("u.data", "u.item", "\t", "|"),
)


class Files(NamedTuple):
    """The two files of a folder."""

    layout: Layout
    ratings: Path
    films: Path


def in_folder(folder: Path) -> Files | None:
    """The files of the first layout that the folder has whole; None where it has none."""
    for layout in LAYOUTS:
        ratings, films = _existing(folder / layout.ratings), _existing(folder / layout.films)
        if ratings and films:
            return Files(layout, ratings, films)
    return None


def located(folder: Path) -> Files:
    """As `in_folder`. Errors: `NotMovieLens`, naming the files that are missing."""
    found = in_folder(folder)
    if found is None:
        begun = [it for it in LAYOUTS if any(_existing(folder / name) for name in it[:2])]
        missing = [
            " and no ".join(name for name in it[:2] if not _existing(folder / name))
            for it in begun or LAYOUTS
        ]
        raise NotMovieLens(f"{folder} is not MovieLens: it has no {', no '.join(missing)}")
    return found


def ratings(
    found: Files, notes: Notes, progress: files.Progress
) -> Iterator[tuple[CellRows, Converter, Converter]]:
    """Rows of (user, film, rating, time), and the converters of ids of users and of films.

    Errors: `NotReadable`, also where a column is missing; without the path, as `files.blocks` has it.
    """
    by = found.layout.rating_delimiter
    rows = _rows(found.ratings, by, RATING_COLUMNS, notes, progress)
    sample, rest = tabular.sampled(rows)
    user, film = _identifier(sample, 0), _identifier(sample, 1)
    for part in tabular.chained(sample, rest):
        yield part, user, film


def films(found: Files, notes: Notes, progress: files.Progress) -> Iterator[CellRows]:
    """Rows of (id, title, list of genres). Errors: those of `ratings`."""
    by = found.layout.film_delimiter
    rows = _rows(found.films, by, FILM_COLUMNS, notes, progress)
    sample, rest = tabular.sampled(rows)
    identifier = _identifier(sample, 0)
    for part in tabular.chained(sample, rest):
        yield part._replace(
            cells=[
                (identifier(it[0], "item_id", notes), it[1], _genres(it, by)) for it in part.cells
            ]
        )


def _identifier(sample: list[CellRows], place: int) -> Converter:
    rows = [it for part in sample for it in part.cells][: tabular.SAMPLE_ROWS]
    whole = convert.are_whole_with_fraction([row[place] for row in rows])
    return convert.whole_identifier if whole else convert.identifier


def _genres(cells: Sequence[Any], by: str) -> list[str]:
    if by == "|":
        flags = zip(FLAGS, cells[FLAGS_FROM:], strict=False)
        listed = [name for name, flag in flags if flag == "1"]
    else:
        listed = cells[2].split("|")
    return [it for it in listed if it not in _NO_GENRE]


def _rows(
    path: Path, by: str, columns: tuple[str, ...], notes: Notes, progress: files.Progress
) -> Iterator[CellRows]:
    """With a header the cells of `columns`, in that order; without one all cells."""
    found, is_utf8 = text.utf8(files.blocks(path, progress), None)
    head, found = files.peek(found, lines.MAX_LINE_BYTES)
    if not head.strip():
        raise NotReadable("is empty", remedy="check that it was written")
    stretches, decoder = lines.stretches(found), text.Decoder(notes, is_utf8=is_utf8)
    if by:
        width = len(columns) if by != "|" else FLAGS_FROM + len(FLAGS)
        yield from delimited.Reader(by, decoder, width, quoted=False).rows(stretches)
        return
    first = head.strip().partition(b"\n")[0].decode(errors="replace")
    by = delimited.delimiter(first, lambda name: name.strip() in columns)
    names, rows = tabular.header(delimited.Reader(by, decoder).rows(stretches))
    if missing := [it for it in columns if it not in names]:
        raise NotMovieLens(f"has no column {' and no column '.join(missing)}")
    places = [names.index(it) for it in columns]
    if names == [*columns]:
        yield from rows
    else:
        for part in rows:
            yield part._replace(cells=[[cells[it] for it in places] for cells in part.cells])


def _existing(path: Path) -> Path | None:
    found = (path.with_name(path.name + suffix) for suffix in _SUFFIXES)
    return next((it for it in found if it.is_file()), None)
