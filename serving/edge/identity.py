"""People at the edge: a raw id goes in, a pseudonym and its partition come out."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from schemas.alphabet import Pseudonym
from schemas.identity import anonymous, partition_of, pseudonym


class Identity(NamedTuple):
    """What stands for somebody behind the edge. `partition` is theirs in the topic `events`."""

    pseudonym: Pseudonym
    partition: int

    @property
    def key(self) -> bytes:
        """The key of their records."""
        return self.pseudonym.encode()


class People:
    """Pseudonyms under one key, the last `remembered` of each kind kept (some 300 B each).

    `user` and `anonymous` take an id that `schemas.identity.check_id` let pass.
    """

    user: Callable[[str], Identity]
    anonymous: Callable[[str], Identity]

    def __init__(self, key: tuple[int, bytes], partitions: int, remembered: int = 100_000) -> None:
        def person(name: Pseudonym) -> Identity:
            return Identity(name, partition_of(name.encode(), partitions))

        # a pseudonym costs 1 us and its partition 4 us: more than all else that stamping does
        self.user = lru_cache(remembered)(lambda raw: person(pseudonym(*key, raw)))
        self.anonymous = lru_cache(remembered)(lambda raw: person(anonymous(*key, raw)))
