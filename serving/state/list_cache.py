"""Lists that are the same for every person, kept for a moment: under load each is made once a second."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import Any, Final, TypeVar, cast

from schemas.alphabet import Millis

T = TypeVar("T")
MAX_AGE_MS: Final = 1000
MAX_LISTS: Final = 256


class ListCache:
    """At most `MAX_LISTS` values by key, each at most `MAX_AGE_MS` old. `clock`: Unix ms."""

    def __init__(self, clock: Callable[[], Millis]) -> None:
        self._clock = clock
        self._kept: dict[Hashable, tuple[Millis, object]] = {}

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """The value of `key`, made now where there is none, or an old one. `key` names what `make` makes."""
        now, kept = self._clock(), self._kept.get(key)
        if kept is not None and 0 <= now - kept[0] < MAX_AGE_MS:
            return cast(Any, kept[1])  # type: ignore[no-any-return]
        if len(self._kept) >= MAX_LISTS:
            self._kept.clear()
        made = make()
        self._kept[key] = now, made
        return made
