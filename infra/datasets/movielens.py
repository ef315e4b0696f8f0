"""MovieLens as items and events.

https://grouplens.org/datasets/movielens/ (Harper and Konstan 2015). A layout is recognised by its
file names: a folder with ``ratings.csv`` and ``movies.csv``.
"""

from __future__ import annotations

import csv
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Final, NamedTuple

import msgspec

from infra.datasets.rows import Chunk, Notes, Source
from schemas.errors import FreshetError
from schemas.times import iso

FILES: Final = ("ratings.csv", "movies.csv")
SEARCHED_FOLDERS: Final = ("data", "shared/data", "../shared/data")
MIN_LIKE_RATING: Final = 4.0
"""Stars from which a rating is a like."""
SCALE: Final = {"min": 0.5, "max": 5.0}
"""Of the stars. A rating below the middle of it speaks against the film."""
_NO_GENRE: Final = "(no genres listed)"
_MAX_DEPTH: Final = 3


class NotMovieLens(FreshetError):
    """The folder has another layout; the text says which file or column is missing."""


class Film(NamedTuple):
    """A film, as an item of the catalogue."""

    item_id: str
    title: str
    genres: tuple[str, ...]

    @property
    def category(self) -> str:
        """The first genre; "" where there is none."""
        return self.genres[0] if self.genres else ""

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


def find(environment: Mapping[str, str] = os.environ, here: Path | None = None) -> Path | None:
    """The first folder with both files among $DATA, ./data, ./shared/data and ../shared/data, and the folders
    at most three levels below each (in order of name); None where there is none."""
    here = here or Path.cwd()
    given = [Path(environment["DATA"])] if environment.get("DATA") else []
    for place in [*given, *(here / name for name in SEARCHED_FOLDERS)]:
        for folder in _folders(place, _MAX_DEPTH):
            if all((folder / name).is_file() for name in FILES):
                return folder.resolve()
    return None


def load(folder: Path) -> Dataset:
    """The dataset in a folder. Errors: `NotMovieLens`, naming file and line, never their content."""
    missing = [name for name in FILES if not (folder / name).is_file()]
    if missing:
        raise NotMovieLens(f"{folder} is not MovieLens: it has no {' and no '.join(missing)}")
    items = tuple(_items(folder / "movies.csv"))
    ratings = tuple(sorted(_ratings(folder / "ratings.csv"), key=_in_order))
    return Dataset(items, ratings, f"MovieLens, from {folder}")


def sources(folder: Path) -> tuple[Source, Source]:
    """The films and the ratings of a folder, as items and events, each in order. Errors: `NotMovieLens`."""
    dataset = load(folder)
    films = [msgspec.json.encode(it.body) for it in dataset.items]
    ratings = [msgspec.json.encode(it.body) for it in dataset.ratings]
    return Loaded(folder / "movies.csv", films), Loaded(folder / "ratings.csv", ratings)


class Loaded:
    """Rows that are in memory."""

    def __init__(self, path: Path, bodies: list[bytes]) -> None:
        self.path, self.bodies, self.notes = path, bodies, Notes()
        self.size, self.read = path.stat().st_size, 0

    def chunks(self) -> Iterator[Chunk]:
        yield Chunk(self.bodies, range(2, 2 + len(self.bodies)), [])
        self.read = self.size


def _items(path: Path) -> Iterator[Film]:
    for row in _rows(path, ("movieId", "title", "genres")):
        listed = row["genres"].split("|")
        genres = tuple(genre for genre in listed if genre and genre != _NO_GENRE)
        yield Film(row["movieId"], row["title"], genres)


def _ratings(path: Path) -> Iterator[Rating]:
    for line, row in enumerate(_rows(path, ("userId", "movieId", "rating", "timestamp")), 2):
        try:
            rating, at = float(row["rating"]), int(float(row["timestamp"]) * 1000)
        except ValueError:
            raise NotMovieLens(f"{path}, line {line}: rating and timestamp are numbers") from None
        yield Rating(row["userId"], row["movieId"], rating, at)


def _rows(path: Path, columns: tuple[str, ...]) -> Iterator[dict[str, str]]:
    with path.open(newline="", encoding="utf-8") as file:
        reader = csv.DictReader(file)
        missing = [name for name in columns if name not in (reader.fieldnames or ())]
        if missing:
            raise NotMovieLens(f"{path} has no column {' and no column '.join(missing)}")
        for row in reader:
            if any(row[name] is None for name in columns):
                raise NotMovieLens(f"{path}, line {reader.line_num}: too few columns")
            yield row


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
