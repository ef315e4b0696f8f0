"""People at the edge: from a raw id to a pseudonym and its partition."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from schemas.alphabet import Pseudonym
from schemas.identity import anonymous, partition_of, pseudonym


class Identity(NamedTuple):
    """The identity of a person behind the edge. `partition`: that of the person in the topic `events`."""

    pseudonym: Pseudonym
    partition: int

    @property
    def key(self) -> bytes:
        """The key of the person's records."""
        return self.pseudonym.encode()


class People:
    """Pseudonyms under one `key` (its number, its bytes), the last `cache_size` of each kind cached (some
    300 B each).

    `user` and `anonymous` take an id that passed `schemas.identity.check_id`.
    """

    user: Callable[[str], Identity]
    anonymous: Callable[[str], Identity]

    def __init__(self, key: tuple[int, bytes], partitions: int, cache_size: int = 100_000) -> None:
        def person(name: Pseudonym) -> Identity:
            return Identity(name, partition_of(name.encode(), partitions))

        # a pseudonym costs 1 us and its partition 4 us: more than the rest of `enrich`
        self.user = lru_cache(cache_size)(lambda raw: person(pseudonym(*key, raw)))
        self.anonymous = lru_cache(cache_size)(lambda raw: person(anonymous(*key, raw)))
