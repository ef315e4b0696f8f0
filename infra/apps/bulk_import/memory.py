"""The memory of imports: which events were accepted, so that tonight's full dump adds only what is new.

`<data folder>/imports/<source>/<log>/<day>` holds 8 bytes for each accepted event of that day (UTC, of its
`occurred_at`), in the order of their acceptance: a 64-bit hash, little-endian, of what the event says and of
its occurrence among equals, or of its own id with person, item and action (`infra.apps.bulk_import.names`).

- `<source>` is a name that the caller gives; one import of a source runs at a time (a lock on its folder).
- `<log>` is the id of the topic `events`: another system, or one that was emptied, has another memory.
- A file is appended to after each answer that accepted events, never before. An import that is killed between
  the two sends those events again, with the same ids, so they count once within the de-duplication window.
- An entry that was cut by a kill or a full disk is cut off: a file is as long as its whole entries.
- Nothing is synced: after a loss of power the last seconds may be sent again.
- Nothing is forgotten: delete a folder, or import with ``--again``, to send what it remembers.

In memory are the days that were met last (`MAX_HELD_BYTES`); a day is read when it is met.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import tempfile
from collections import OrderedDict
from collections.abc import Iterator
from datetime import date, timedelta
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from infra.apps.bulk_import.hashes import HashBag, Hashes, occurrences
from infra.apps.bulk_import.names import keys
from schemas.errors import FreshetError

ENTRY_BYTES: Final = 8
MAX_HELD_BYTES: Final = 64 << 20
"""Of the days that are held; one day alone may be larger."""
_EPOCH: Final = date(1970, 1, 1)
_ENTRY: Final = np.dtype("<u8")


class SourceInUse(FreshetError):
    """Another import of this source runs."""


class NotRemembered(FreshetError):
    """The memory cannot be read or written; the text names the folder, the trouble and the remedy."""


class LookedUp(NamedTuple):
    """(n,) each. `keys`: what the memory holds of an event; `numbers`: its place among equals, from 1;
    `remembered`: an earlier import sent it."""

    keys: Hashes
    numbers: NDArray[np.int64]
    remembered: NDArray[np.bool_]


class _Day:
    """What was accepted before this import, sorted, and what this import has met so far."""

    def __init__(self, remembered: Hashes, met: Hashes) -> None:
        self.remembered, self.met = np.sort(remembered), HashBag(met)

    @property
    def nbytes(self) -> int:
        return ENTRY_BYTES * (self.remembered.size + self.met.size)


class Memory:
    """The memory of one source and log. `folder` is None where nothing is remembered: occurrences are counted
    all the same. Where it is `read_only`, nothing is added. One thread calls `look_up`, one at
    a time `append`.

    `unwritten`: events that were accepted and are not in the memory, since it cannot be written.
    """

    def __init__(
        self,
        folder: Path | None,
        spill: Path,
        *,
        read_only: bool = False,
        held_bytes: int = MAX_HELD_BYTES,
    ) -> None:
        self.folder, self._read_only = folder, read_only
        self.unwritten = 0
        self._spill, self._max_bytes = spill, held_bytes
        self._days: OrderedDict[int, _Day] = OrderedDict()
        self._held = 0
        self._sizes: dict[int, int] = {}
        """Entries of a day before this import, which appends to the same file."""

    def look_up(
        self, days: NDArray[np.int64], hashes: Hashes, unnamed: NDArray[np.bool_]
    ) -> LookedUp:
        """For (n,) events in order, those of `unnamed` counted among equals. Errors: `NotRemembered`."""
        numbers = np.ones(hashes.size, np.int64)
        found = np.zeros(hashes.size, bool)
        result = np.empty(hashes.size, np.uint64)
        for day, where in _by_day(days):
            its = self._day(day)
            its_hashes, its_unnamed = hashes[where], unnamed[where]
            its_numbers = np.ones(its_hashes.size, np.int64)
            its_numbers[its_unnamed] = occurrences(its_hashes[its_unnamed], its.met)
            self._held += ENTRY_BYTES * int(its_unnamed.sum())
            its.met.add(its_hashes[its_unnamed])
            its_keys = keys(its_hashes, its_numbers)
            numbers[where], result[where] = its_numbers, its_keys
            found[where] = _contains(its.remembered, its_keys)
            self._shrink()
        return LookedUp(result, numbers, found)

    def append(self, days: NDArray[np.int64], keys: Hashes) -> None:
        """Remembers (n,) accepted events. Errors: `NotRemembered`, and from then on it only counts."""
        if self._read_only or self.folder is None:
            return
        written = 0
        try:
            if self.unwritten:
                raise OSError("an earlier write failed")
            for day, where in _by_day(days):
                _append(self.folder / _name(day), keys[where])
                written += keys[where].size
        except OSError as error:
            self.unwritten += keys.size - written
            raise NotRemembered(
                f"the memory of this import cannot be written to {self.folder}"
                f" ({error.strerror or error}), so it stopped",
                remedy="make room there and import again",
            ) from None

    def _day(self, day: int) -> _Day:
        if day in self._days:
            self._days.move_to_end(day)
            return self._days[day]
        met = self._spill / _name(day)
        try:
            its = _Day(
                self._remembered(day), _read(met, met.stat().st_size) if met.exists() else _NONE
            )
        except OSError as error:
            raise NotRemembered(
                f"the memory of this import cannot be read from {self.folder} ({error.strerror})",
                remedy="mend that folder; without it all is sent again",
            ) from None
        self._days[day] = its
        self._held += its.nbytes
        return its

    def _remembered(self, day: int) -> Hashes:
        if self.folder is None:
            return _NONE
        path = self.folder / _name(day)
        if day not in self._sizes:
            self._sizes[day] = path.stat().st_size if path.exists() else 0
        return _read(path, self._sizes[day]) if self._sizes[day] else _NONE

    def _shrink(self) -> None:
        """Drops the days that were met longest ago; what this import met of them waits on the disk."""
        while self._held > self._max_bytes and len(self._days) > 1:
            day, its = self._days.popitem(last=False)
            self._held -= its.nbytes
            if its.met.size:
                try:
                    its.met.all().tofile(self._spill / _name(day))
                except OSError as error:
                    raise NotRemembered(
                        f"{self._spill.parent} cannot hold what this import counts ({error.strerror})",
                        remedy="make room there, or name another folder with TMPDIR",
                    ) from None


@contextlib.contextmanager
def opened(folder: Path, source: str, log: str, *, read_only: bool = False) -> Iterator[Memory]:
    """The memory of `source` and `log` under the data folder, locked unless it is only read.

    Errors: `SourceInUse`, `NotRemembered`.
    """
    place = folder / "imports" / source
    with contextlib.ExitStack() as stack:
        if not read_only:
            try:
                (place / log).mkdir(parents=True, exist_ok=True)
                stack.enter_context(_locked(place, source))
                _check_takes_entries(place / log)
            except OSError as error:
                raise NotRemembered(
                    f"{place} cannot hold the memory of this import ({error.strerror})",
                    remedy="make room there, or give a folder that can be written to with --data-dir",
                ) from None
        yield Memory(place / log, stack.enter_context(_spill()), read_only=read_only)


@contextlib.contextmanager
def forgetful() -> Iterator[Memory]:
    """A memory that holds nothing of earlier imports, and keeps nothing of this one."""
    with _spill() as spill:
        yield Memory(None, spill)


@contextlib.contextmanager
def _spill() -> Iterator[Path]:
    """A folder for what this import counts. Errors: `NotRemembered`."""
    with contextlib.ExitStack() as stack:
        try:
            made = stack.enter_context(tempfile.TemporaryDirectory(prefix="freshet-import-"))
        except OSError as error:
            raise NotRemembered(
                f"no folder can hold what this import counts ({error.strerror})",
                remedy="make room in one for temporary files, or name one with TMPDIR",
            ) from None
        yield Path(made)


def other_logs(folder: Path, source: str, log: str) -> int:
    """How many events of `source` are remembered of other logs, where none is of this one; else 0."""
    sizes = {
        each.name: sum(it.stat().st_size for it in each.iterdir())
        for each in (folder / "imports" / source).glob("*/")
    }
    return 0 if sizes.pop(log, 0) else sum(sizes.values()) // ENTRY_BYTES


@contextlib.contextmanager
def _locked(place: Path, source: str) -> Iterator[None]:
    descriptor = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise SourceInUse(
                f"another import of the source {source} runs",
                remedy="wait for its end, or give this one another name with --source",
            ) from None
        yield
    finally:
        os.close(descriptor)


def _check_takes_entries(folder: Path) -> None:
    """Errors: OSError where no file can grow, which is to be known before anything is sent."""
    with tempfile.TemporaryFile(dir=folder, buffering=0) as probe:
        probe.write(bytes(ENTRY_BYTES))


_NONE: Final = np.empty(0, np.uint64)


def _by_day(days: NDArray[np.int64]) -> Iterator[tuple[int, NDArray[np.int64] | slice]]:
    """Each day, and where it is; one pass where all are of one day, as in most files."""
    if not days.size:
        return
    if days[0] == days[-1] and (days == days[0]).all():
        yield int(days[0]), slice(None)
        return
    order = np.argsort(days, kind="stable")
    ordered = days[order]
    begins = np.flatnonzero(np.diff(ordered, prepend=ordered[0] - 1))
    for begin, end in zip(begins, [*begins[1:], days.size], strict=True):
        yield int(ordered[begin]), order[begin:end]


def _contains(remembered: Hashes, wanted: Hashes) -> NDArray[np.bool_]:
    if not remembered.size:
        return np.zeros(wanted.size, bool)
    order = np.argsort(wanted)  # neighbours in a large array lie in one cache line
    places = np.searchsorted(remembered, wanted[order])
    found = np.empty(wanted.size, bool)
    found[order] = remembered[np.minimum(places, remembered.size - 1)] == wanted[order]
    return found


def _name(day: int) -> str:
    return (_EPOCH + timedelta(days=day)).isoformat()


def _read(path: Path, size: int) -> Hashes:
    return np.fromfile(path, _ENTRY, size // ENTRY_BYTES).astype(np.uint64, copy=False)


def _append(path: Path, entries: Hashes) -> None:
    """Appends whole entries behind whole entries. Errors: OSError, after which the last one may be cut."""
    data = memoryview(entries.astype(_ENTRY, copy=False).tobytes())
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        if torn := os.fstat(descriptor).st_size % ENTRY_BYTES:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - torn)
        while data:
            data = data[os.write(descriptor, data) :]
    finally:
        os.close(descriptor)
