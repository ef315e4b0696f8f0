"""People at the edge: from a raw id to a pseudonym and its partition."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache
from typing import NamedTuple

from schemas.access.scopes import ANYBODY
from schemas.alphabet import Pseudonym
from schemas.identity import NOT_PEOPLE, anonymous, check_person_id, partition_of, pseudonym
from schemas.reject import Rejected
from serving.access.caller import Caller
from serving.http.errors import forbidden


class Identity(NamedTuple):
    """The identity of a person behind the edge. `partition`: that of the person in the topic `events`;
    `key`: that of the person's records, the pseudonym as bytes."""

    pseudonym: Pseudonym
    partition: int
    key: bytes


class People:
    """Pseudonyms under one `key` (its number, its bytes), the last `cache_size` of each kind cached (some
    300 B each).

    `user` and `anonymous` take an id as a client wrote it. Errors of both: `Rejected` of ``user_id`` or
    ``anonymous_id``, as `schemas.identity.check_person_id`'s; `not_ids` are words that are no ids here beside
    those that never are.
    """

    user: Callable[[str], Identity]
    anonymous: Callable[[str], Identity]

    def __init__(
        self,
        key: tuple[int, bytes],
        partitions: int,
        cache_size: int = 100_000,
        not_ids: frozenset[str] = frozenset(),
    ) -> None:
        refused = NOT_PEOPLE | not_ids

        def user(raw: str) -> Identity:
            return person(pseudonym(*key, check_person_id(raw, "user_id", refused)))

        def visitor(raw: str) -> Identity:
            return person(anonymous(*key, check_person_id(raw, "anonymous_id", refused)))

        def person(name: Pseudonym) -> Identity:
            key = name.encode()
            return Identity(name, partition_of(key, partitions), key)

        # a pseudonym costs 1 us and its partition 4 us: more than the rest of `enrich`
        self.user, self.anonymous = lru_cache(cache_size)(user), lru_cache(cache_size)(visitor)

    def own(self, caller: Caller, scope: str) -> Identity | None:
        """The one person that the caller may act for by `scope`, one of `ANYBODY`; None: anybody.

        Errors: `Problem` 403 where the token names nobody.
        """
        if caller.may_for_anybody(scope):
            return None
        try:
            if scope in caller.scopes and caller.anonymous_id:
                return self.anonymous(caller.anonymous_id)
            if scope in caller.scopes and caller.subject:
                return self.user(caller.subject)
        except Rejected:  # a subject that is no id of a person
            pass
        raise forbidden(ANYBODY[scope])

    def check_own(self, caller: Caller, scope: str, identity: Identity) -> None:
        """Checks that the caller may act for this person by `scope`: before any store is asked.

        Errors: `Problem` 403.
        """
        own = self.own(caller, scope)
        if own is not None and own != identity:
            raise forbidden(ANYBODY[scope])
