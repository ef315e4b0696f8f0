"""A small made-up audience, as ratings and as the log that they would make."""

from __future__ import annotations

import csv
from pathlib import Path

import msgspec

from flows.offline.history import Log
from flows.offline.records import Records
from infra.datasets.generated import generated
from infra.datasets.movielens import Dataset, Film, Rating
from schemas import items
from schemas.events import Action
from serving.edge.identity import People

PARTITIONS = 3
KEY = (1, b"k" * 32)
START = 1_600_000_000_000 // 60_000 * 60_000


def catalogue(people: int = 6, each: int = 12, films: int = 30) -> Dataset:
    """Each person rates a film every 20 s; sittings overlap, and no two see films in one order."""
    genres = [("Drama", "War")[n % 2 :] for n in range(films)]
    made = tuple(Film(f"f{n}", f"Film {n}", of, of[0]) for n, of in enumerate(genres))
    ratings = [
        Rating(f"u{p}", f"f{(5 * p + 7 * n) % films}", 3.0 + n % 3, START + 90_000 * p + 20_000 * n)
        for p in range(people)
        for n in range(each)
    ]
    ratings.sort(key=lambda it: (it.at, it.user_id, it.item_id))
    return Dataset(made, tuple(ratings), "made for a test")


def log(found: Dataset, people: People) -> Log:
    """The log of the topics once all ratings were sent."""
    category = {it.item_id: it.category for it in found.items}
    made: Log = Log([Records() for _ in range(PARTITIONS)], [])
    for n, rating in enumerate(found.ratings):
        who = people.user(rating.user_id)
        action = Action(
            event_id=f"e{n}",
            person=who.pseudonym,
            item_id=rating.item_id,
            action=rating.action,
            occurred_at=rating.at,
            received_at=rating.at,
            category=category[rating.item_id],
            known=True,
        )
        records = made.events[who.partition]
        records.append((len(records), START + n, action))
    made.items.extend(msgspec.convert(it.body, items.Item) for it in found.items)
    return made


def movielens_folder(folder: Path) -> Path:
    """A made-up audience in MovieLens' layout."""
    found = generated()
    folder.mkdir()
    with (folder / "movies.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("movieId", "title", "genres"))
        rows.writerows((it.item_id, it.title, "|".join(it.genres)) for it in found.items)
    with (folder / "ratings.csv").open("w", newline="", encoding="utf-8") as file:
        rows = csv.writer(file)
        rows.writerow(("userId", "movieId", "rating", "timestamp"))
        rows.writerows(
            (it.user_id, it.item_id, it.rating, it.at // 1000) for it in found.ratings[-400:]
        )
    return folder
