"""De-duplication as law 12 says it, by a dict."""

from __future__ import annotations

from typing import Final

BUCKETS: Final = 4
"""Buckets in a window; the one before them counts, too, so that no window is shorter than it says."""
_SWEEP: Final = 1 << 16


class Window:
    """Which records are new. An id is old if it was taken in a bucket of record time within the window of
    the highest record time so far. `window` in ms."""

    def __init__(self, window: int) -> None:
        self._width = max(1, window // BUCKETS)
        self.newest = 0
        """Highest record time so far, ms."""
        self._bucket: dict[str, int] = {}
        self._swept = 0

    @property
    def oldest(self) -> int:
        """The oldest bucket that counts."""
        return self.newest // self._width - BUCKETS

    def passed(self, stamp: int) -> None:
        """A record of this time went by that has no id, or is nobody's business."""
        self.newest = max(self.newest, stamp)

    def fresh(self, person: str, event_id: str, stamp: int) -> bool:
        """Whether this record is new; it is taken then."""
        if stamp > self.newest:
            self.newest = stamp
        oldest = self.newest // self._width - BUCKETS
        identifier, bucket = person + event_id, stamp // self._width
        if self._bucket.get(identifier, oldest - 1) >= oldest:
            return False
        if bucket >= oldest:  # else it is too old to be remembered
            self._bucket[identifier] = bucket
        if len(self._bucket) > 2 * self._swept + _SWEEP:
            self._bucket = {held: at for held, at in self._bucket.items() if at >= oldest}
            self._swept = len(self._bucket)
        return True

    def held(self) -> dict[int, list[str]]:
        """Person and event id of what is remembered, by bucket."""
        found: dict[int, list[str]] = {}
        for identifier, bucket in self._bucket.items():
            if bucket >= self.oldest:
                found.setdefault(bucket, []).append(identifier)
        return found
