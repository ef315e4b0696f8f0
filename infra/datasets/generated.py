"""A generated catalogue and its audience, for a demo where MovieLens is out of reach.

People have tastes (a few favourite themes), and one sitting is on one theme. So what a person did a minute
ago says much about what the person does next, and popularity says little.
"""

from __future__ import annotations

import random
from itertools import accumulate
from typing import Final, NamedTuple

from infra.datasets.movielens import Dataset, Film, Rating
from schemas.times import DAY_MS

ITEMS: Final = 2_000
PEOPLE: Final = 400
RATINGS: Final = 40_000
START_MS: Final = 1_546_300_800_000
"""2019-01-01 UTC, in milliseconds; the history spans four years from there."""
YEARS: Final = 4
THEME_ITEMS: Final = 20
"""Films of a theme."""

_GENRES: Final = (
    ("Crime", "Detective", "Alibi", "Heist", "Witness"),
    ("Romance", "Letter", "Wedding", "Waltz", "Orchard"),
    ("Sci-Fi", "Orbit", "Signal", "Android", "Colony"),
    ("Comedy", "Neighbour", "Landlord", "Picnic", "Parrot"),
    ("Adventure", "Expedition", "Caravan", "Island", "Compass"),
    ("Horror", "Cellar", "Lantern", "Mirror", "Visitor"),
    ("Drama", "Harvest", "Daughter", "Winter", "Promise"),
    ("Documentary", "Glacier", "Market", "Migration", "Archive"),
    ("Western", "Rider", "Frontier", "Canyon", "Sheriff"),
    ("Animation", "Balloon", "Dragon", "Robot", "Kitten"),
    ("Thriller", "Courier", "Cipher", "Border", "Hostage"),
    ("Musical", "Chorus", "Trumpet", "Cabaret", "Serenade"),
)
_ADJECTIVES: Final = (
    "Silent", "Crimson", "Last", "Hidden", "Golden", "Broken", "Distant", "Restless", "Paper",
    "Midnight", "Borrowed", "Electric", "Forgotten", "Northern", "Patient", "Velvet",
)  # fmt: skip
_PLACES: Final = (
    "Lisbon", "Trieste", "Valparaiso", "Tromso", "Samarkand", "Bergen", "Havana", "Kyoto",
    "Marrakesh", "Odessa", "Galway", "Tbilisi", "Oaxaca", "Hobart", "Riga", "Zanzibar",
    "Porto", "Cusco", "Luang Prabang", "Halifax", "Dakar", "Bruges", "Salta", "Nagoya", "Ghent",
)  # fmt: skip


class _Theme(NamedTuple):
    """Films that the same people like."""

    items: list[Film]
    weights: list[float]
    """Running sums of how often each film is chosen."""


def generated(
    seed: int = 0, items: int = ITEMS, people: int = PEOPLE, count: int = RATINGS
) -> Dataset:
    """A catalogue of `items` films, and `count` ratings by so many `people`; `items` is a multiple of
    `THEME_ITEMS`. The same arguments always give the same data."""
    chance = random.Random(seed)
    themes = _themes(chance, items // THEME_ITEMS)
    ratings: list[Rating] = []
    for number in range(people):
        # some people watch much, most little; the last person has the ratings that remain
        remaining, others = count - len(ratings), people - number
        mean = remaining / others
        share = remaining if others == 1 else min(remaining, round(mean * chance.uniform(0.3, 1.7)))
        ratings += _history(chance, f"p{number + 1}", themes, share)
    ratings.sort(key=lambda it: (it.at, it.user_id, it.item_id))
    films = sorted(
        (item for theme in themes for item in theme.items), key=lambda it: int(it[0][1:])
    )
    source = f"a generated catalogue (seed {seed}: {items} films, {people} people), not real data"
    return Dataset(tuple(films), tuple(ratings), source)


def _themes(chance: random.Random, count: int) -> list[_Theme]:
    size, themes, taken = THEME_ITEMS, [], set[str]()
    for number in range(count):
        genre, *nouns = _GENRES[number % len(_GENRES)]
        second = chance.choice(_GENRES)[0]
        genres = (genre,) if second == genre else (genre, second)
        place = _PLACES[number * 7 % len(_PLACES)]
        items: list[Film] = []
        while len(items) < size:
            name = f"The {chance.choice(_ADJECTIVES)} {chance.choice(nouns)} of {place}"
            title = f"{name} ({chance.randint(1950, 2018)})"
            if title not in taken:
                taken.add(title)
                items.append(Film(f"g{number * size + len(items) + 1}", title, genres, genre))
        weights = accumulate(1 / (rank + 2) for rank in range(size))
        themes.append(_Theme(items, list(weights)))
    return themes


def _history(chance: random.Random, user: str, themes: list[_Theme], count: int) -> list[Rating]:
    """`count` ratings in sittings of 3 to 8 films, each sitting on one theme, mostly a favourite one."""
    favourites = chance.sample(themes, 12)
    seen: set[str] = set()
    history: list[Rating] = []
    at, step = START_MS + chance.randrange(200 * DAY_MS), YEARS * 365 * DAY_MS // max(1, count // 4)
    while len(history) < count:
        theme = chance.choice(favourites if chance.random() < 0.8 else themes)
        at += round(chance.uniform(0.2, 1.2) * step)
        moment = at
        for _ in range(chance.randint(3, 8)):
            item = chance.choices(theme.items, cum_weights=theme.weights)[0]
            if item.item_id in seen or len(history) >= count:
                continue
            seen.add(item.item_id)
            liked = chance.random() < (0.7 if theme in favourites else 0.35)
            rating = chance.choice((4.0, 4.5, 5.0) if liked else (2.0, 3.0, 3.5))
            history.append(Rating(user, item.item_id, rating, moment))
            moment += chance.randrange(30_000, 600_000)
    return history
