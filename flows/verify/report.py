"""The report of `freshet verify`: how much was compared, and every value that differs from the log."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from math import isclose
from typing import Any, Final, NamedTuple

import msgspec

MAX_LISTED: Final = 100
"""Mismatches of one kind (`what`, `field`) that a report lists; one entry counts the others."""
FLOAT_TOLERANCE: Final = 1e-6
"""Relative difference up to which floats are equal; callers pass a smaller one for sums in tables."""

Plain = str | int | float | bool | None
"""A value in a report: a count, a hash, a pseudonym or a word, never a raw id."""


class Mismatch(msgspec.Struct, kw_only=True, frozen=True, omit_defaults=True):
    """One difference. `what`: the kind of a person's record, or a table; `key`: its key in Redis; `field` may
    name a place inside the value."""

    what: str
    field: str
    stored: Plain
    expected: Plain
    key: str = ""


class Report(msgspec.Struct, kw_only=True):
    """The result of one run. `events`: records read from the log; `rate`: records per second. `start`: by
    partition, the first offset that was read. Where that is not the log's beginning, `snapshot` replaces the
    earlier records."""

    partitions: list[int]
    events: int = 0
    people_checked: int = 0
    fields_checked: int = 0
    mismatches: list[Mismatch] = []
    rate: float = 0.0
    start: dict[int, int] = msgspec.field(name="from", default_factory=dict)
    snapshot: str = ""

    def wrong(self) -> Counter[str]:
        """How many mismatches are listed, by `what`."""
        return Counter(it.what for it in self.mismatches)


class Difference(NamedTuple):
    """Two values that differ. `place`: the path inside the value, "" for the value itself."""

    place: str
    stored: Plain
    expected: Plain


class Findings:
    """Collects the results of comparisons; lists at most `MAX_LISTED` mismatches of a kind."""

    def __init__(self) -> None:
        self.fields = 0
        self._listed: list[Mismatch] = []
        self._counts: Counter[tuple[str, str]] = Counter()

    def compare(
        self,
        what: str,
        field: str,
        stored: Any,
        expected: Any,
        key: bytes = b"",
        place: str = "",
        close: float = FLOAT_TOLERANCE,
        tiny: float = 0.0,
    ) -> None:
        """Compares one field; adds a mismatch at the first place where the values differ. Floats are equal
        within the relative difference `close`, or within the absolute difference `tiny`."""
        self.fields += 1
        if (there := difference(stored, expected, close, tiny)) is not None:
            self._add(what, field, there, key, place)

    def compare_sums(
        self,
        what: str,
        field: str,
        stored: Mapping[int, float],
        expected: Mapping[int, float],
        key: bytes,
        place: str,
        close: float,
        tiny: float,
    ) -> None:
        """Compares two rows of sums by hash, as a field each."""
        names = stored.keys() | expected.keys()
        self.fields += len(names)
        for name in names:
            one, other = stored.get(name), expected.get(name)
            if one is None or other is None or not isclose(one, other, rel_tol=close, abs_tol=tiny):
                self._add(what, field, Difference("", one, other), key, f"{place} {name}")

    def wrong(
        self, what: str, field: str, stored: Plain, expected: Plain, key: bytes = b""
    ) -> None:
        """Adds a field that is known to be wrong."""
        self.fields += 1
        self._add(what, field, Difference("", stored, expected), key, "")

    def _add(self, what: str, field: str, there: Difference, key: bytes, place: str) -> None:
        self._counts[what, field] += 1
        if self._counts[what, field] <= MAX_LISTED:
            name = f"{place} {field}".strip() + there.place
            self._listed.append(
                Mismatch(
                    what=what,
                    field=name,
                    stored=there.stored,
                    expected=there.expected,
                    key=key.decode(errors="backslashreplace"),
                )
            )

    def add(self, other: Findings) -> None:
        """Adds the findings of `other`."""
        self.fields += other.fields
        self._listed += other._listed
        self._counts.update(other._counts)

    def mismatches(self) -> list[Mismatch]:
        """The listed mismatches; then one entry for each kind of which there are more than `MAX_LISTED`."""
        more = [
            Mismatch(what=what, field=f"{field}: so many more", stored=n - MAX_LISTED, expected=0)
            for (what, field), n in self._counts.items()
            if n > MAX_LISTED
        ]
        return self._listed + more


def difference(
    stored: Any, expected: Any, close: float = FLOAT_TOLERANCE, tiny: float = 0.0
) -> Difference | None:
    """The first place where two plain values differ.

    >>> difference([7, [1.0, 2.0]], (7, [1.0, 2.5]))
    Difference(place='[1][1]', stored=2.0, expected=2.5)
    """
    if isinstance(stored, float) and isinstance(expected, float):
        same = isclose(stored, expected, rel_tol=close, abs_tol=tiny)
        return None if same else Difference("", stored, expected)
    if isinstance(expected, dict) and isinstance(stored, dict):
        if stored.keys() != expected.keys():
            return Difference(" size", len(stored), len(expected))
        return _inside(((f".{key}", stored[key], expected[key]) for key in expected), close, tiny)
    if _is_list(stored) and _is_list(expected):
        if len(stored) != len(expected):
            return Difference(" length", len(stored), len(expected))
        pairs = enumerate(zip(stored, expected, strict=True))
        return _inside(((f"[{n}]", one, other) for n, (one, other) in pairs), close, tiny)
    return None if stored == expected else Difference("", brief(stored), brief(expected))


def _inside(pairs: Any, close: float, tiny: float) -> Difference | None:
    for place, one, other in pairs:
        if (there := difference(one, other, close, tiny)) is not None:
            return there._replace(place=place + there.place)
    return None


def _is_list(value: Any) -> bool:
    return isinstance(value, list | tuple)


def brief(value: Any) -> Plain:
    """A value as a report may show it: only the length of a text, unless it is a pseudonym."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, str):
        hexed = len(value) == 32 and not set(value) - set("0123456789abcdef")
        return value if hexed else f"text of {len(value)}"
    if isinstance(value, bytes | bytearray):
        return f"{len(value)} bytes"
    return f"{len(value)} values" if hasattr(value, "__len__") else type(value).__name__
