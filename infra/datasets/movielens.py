"""MovieLens as items and events.

https://grouplens.org/datasets/movielens/ (Harper and Konstan 2015). A layout is recognised by its file names
(`movielens_files.LAYOUTS`).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from infra.datasets import movielens_files
from infra.datasets.categories import primaries
from infra.datasets.delimited import CellRows
from infra.datasets.movielens_files import Files, NotMovieLens
from infra.datasets.ratings import RatingColumns
from infra.datasets.rows import Chunk, Fault, Notes, NotReadable, Source
from schemas.times import iso

FILES: Final = ("ratings.csv", "movies.csv")
SEARCHED_FOLDERS: Final = ("data", "shared/data", "../shared/data")
MIN_LIKE_RATING: Final = 4.0
"""Stars from which a rating is a like."""
SCALE: Final = {"min": 0.5, "max": 5.0}
"""Of the stars. A rating below the middle of it speaks against the film."""
RATINGS_AT_ONCE: Final = 10_000
"""So many are given at once."""
_MAX_DEPTH: Final = 3
_ENCODER: Final = msgspec.json.Encoder()


class Film(NamedTuple):
    """A film, as an item of the catalogue. `category`: its primary genre (`categories.primaries`)."""

    item_id: str
    title: str
    genres: tuple[str, ...]
    category: str = ""

    @property
    def body(self) -> dict[str, Any]:
        """As `POST /v1/items` takes it."""
        return {
            "item_id": self.item_id,
            "type": "movie",
            "category": self.category,
            "categories": list(self.genres),
            "title": self.title,
        }


class Rating(NamedTuple):
    """A rating, as an event."""

    user_id: str
    item_id: str
    rating: float
    at: int
    """Milliseconds since 1970."""

    @property
    def action(self) -> str:
        return "like" if self.rating >= MIN_LIKE_RATING else "rate"

    @property
    def body(self) -> dict[str, Any]:
        """As `POST /v1/events?mode=import` takes it. The same rating always has the same event id."""
        body = {
            "event_id": f"ml-{self.user_id}-{self.item_id}",
            "user_id": self.user_id,
            "item_id": self.item_id,
            "action": self.action,
            "occurred_at": iso(self.at),
        }
        rated = {"value": self.rating, "scale": SCALE}
        return {**body, **rated} if self.action == "rate" else body


class Dataset(NamedTuple):
    """A catalogue and its ratings, in order of (time, user, item). `source`: a sentence on their origin."""

    items: tuple[Film, ...]
    ratings: tuple[Rating, ...]
    source: str


Row = TypeVar("Row", Film, Rating)


class MovieLensRows(NamedTuple, Generic[Row]):
    """Some films or ratings of a file; `lines` and `faults` as those of a `Chunk`."""

    found: list[Row]
    lines: Sequence[int]
    faults: list[Fault]


class _File(Generic[Row]):
    """One of the two files of a folder, as a source of rows."""

    def __init__(self, path: Path) -> None:
        self.path, self.notes = path, Notes()
        self.size, self.read = path.stat().st_size, 0

    def parts(self) -> Iterator[MovieLensRows[Row]]:
        raise NotImplementedError

    def chunks(self) -> Iterator[Chunk]:
        """As `parts`, as the API takes them."""
        for found, lines, faults in self.parts():
            yield Chunk([_ENCODER.encode(it.body) for it in found], lines, faults)

    def _progress(self, count: int) -> None:
        self.read += count


class FilmSource(_File[Film]):
    """The films of a folder, in the order of their file."""

    def __init__(self, files: Files) -> None:
        super().__init__(files.films)
        self.files = files

    def parts(self) -> Iterator[MovieLensRows[Film]]:
        """Every film; all are read before the first is given. Errors: `NotReadable`, after the films before
        it were given."""
        parts: list[CellRows] = []
        failure = None
        with _named(self.path):
            try:
                parts += movielens_files.films(self.files, self.notes, self._progress)
            except NotReadable as error:
                failure = error
            primary = iter(primaries([of for cells, _, _ in parts for _, _, of in cells]))
            for cells, lines, faults in parts:
                films = [Film(id, title, tuple(of), next(primary)) for id, title, of in cells]
                yield MovieLensRows(films, lines, faults)
            if failure:
                raise failure


class RatingSource(_File[Rating]):
    """The ratings of a folder, in order of (time, user, film); all are read before the first is given."""

    def __init__(self, files: Files) -> None:
        super().__init__(files.ratings)
        self.files = files

    def parts(self) -> Iterator[MovieLensRows[Rating]]:
        """Every rating. Errors: `NotReadable`, after the ratings before it were given."""
        columns = RatingColumns((SCALE["min"], SCALE["max"]), self.notes)
        with _named(self.path):
            failure = None
            try:
                for faults in self._read_into(columns):
                    yield MovieLensRows([], [], faults)
            except NotReadable as error:
                failure = error
            for found, lines in columns.ordered(RATINGS_AT_ONCE):
                yield MovieLensRows([Rating(*it) for it in found], lines, [])
            if failure:
                raise failure

    def _read_into(self, columns: RatingColumns) -> Iterator[list[Fault]]:
        """The faults of each stretch."""
        found = movielens_files.ratings(self.files, self.notes, self._progress)
        for (rows, lines, faults), user, film in found:
            yield faults + columns.add(lines, rows, user, film)


def sources(folder: Path) -> tuple[Source, Source]:
    """The films and the ratings of a folder, as items and events. Errors: `NotMovieLens`."""
    files = movielens_files.located(folder)
    return FilmSource(files), RatingSource(files)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """An error within names the file."""
    try:
        yield
    except NotReadable as error:
        raise type(error)(f"{path} {error.sentence}", remedy=error.remedy) from None


def find(environment: Mapping[str, str] = os.environ, here: Path | None = None) -> Path | None:
    """The first folder with both files of a layout among $DATA, ./data, ./shared/data and ../shared/data, and
    the folders at most three levels below each (in order of name); None where there is none."""
    here = here or Path.cwd()
    given = [Path(environment["DATA"])] if environment.get("DATA") else []
    for place in [*given, *(here / name for name in SEARCHED_FOLDERS)]:
        for folder in _folders(place, _MAX_DEPTH):
            if movielens_files.in_folder(folder):
                return folder.resolve()
    return None


def load(folder: Path) -> Dataset:
    """The dataset in a folder, held whole. Errors: `NotReadable`, naming file and line, never
    their content."""
    files = movielens_files.located(folder)
    films = _faultless(FilmSource(files))
    ratings = sorted(_faultless(RatingSource(files)), key=_in_order)
    return Dataset(tuple(films), tuple(ratings), f"MovieLens, from {folder}")


def _faultless(file: _File[Row]) -> Iterator[Row]:
    for found, _, faults in file.parts():
        if faults:
            line, field, code = min(faults)
            raise NotMovieLens(f"{file.path}, line {line:,}: {field} {code}")
        yield from found


def _in_order(rating: Rating) -> tuple[int, str, str]:
    return rating.at, rating.user_id, rating.item_id


def _folders(root: Path, depth: int) -> Iterator[Path]:
    if not root.is_dir():
        return
    yield root
    if depth:
        try:
            below = sorted(path for path in root.iterdir() if path.is_dir())
        except PermissionError:
            return
        for path in below:
            yield from _folders(path, depth - 1)
