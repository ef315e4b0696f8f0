"""The three forms of a request body: one object, ``{"events": [...]}``, or NDJSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from schemas.reject import Rejected
from serving.http.body import decode, malformed
from serving.http.errors import Problem

T = TypeVar("T", bound=msgspec.Struct)
MAX_ENTRIES_PER_REQUEST: Final = 1000


class Rejection(msgspec.Struct):
    """`index`: its place in the request, from 0 (in NDJSON among the lines that are not blank)."""

    index: int
    field: str
    code: str


class Parsed(NamedTuple, Generic[T]):
    """The entries in the order of the request. `sent_at`: that of a batch, as the client wrote it."""

    entries: list[T | Rejected]
    single: bool = False
    sent_at: str | None = None

    def for_each(self, handle: Callable[[int, T], None]) -> list[Rejection]:
        """Calls `handle` with the index and value of each entry. Returns the rejections: of entries that
        could not be read, and of those for which `handle` raises `Rejected`."""
        rejected: list[Rejection] = []
        for index, entry in enumerate(self.entries):
            try:
                if isinstance(entry, Rejected):
                    raise entry
                handle(index, entry)
            except Rejected as error:
                rejected.append(Rejection(index, error.field, error.code))
        return rejected


class Form(Generic[T]):
    """Reads entries of type `kind`; `name` is the field of a batch that holds them."""

    def __init__(self, kind: type[T], name: str) -> None:
        self.name = name
        raws = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_ENTRIES_PER_REQUEST)]
        self.batch = _envelope(f"{kind.__name__}Batch", name, list[kind])  # type: ignore[valid-type]
        head = msgspec.defstruct("Head", [(name, msgspec.Raw, msgspec.Raw())])
        self._head: msgspec.json.Decoder[Any] = msgspec.json.Decoder(head)
        self._one: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        self._batch: msgspec.json.Decoder[Any] = msgspec.json.Decoder(self.batch)
        self._loose: msgspec.json.Decoder[Any] = msgspec.json.Decoder(
            _envelope("Loose", name, raws)
        )
        skipped = msgspec.defstruct("Skipped", [(name, list[_Skipped])])
        self._skipped: msgspec.json.Decoder[Any] = msgspec.json.Decoder(skipped)

    def read(self, body: bytes, *, ndjson: bool) -> Parsed[T]:
        """The entries of `body`. Errors: `Problem` 400 or 413, or `Rejected`, where the whole body can't be
        taken."""
        _check_utf8(body)
        return self._lines(body) if ndjson else self._json(body)

    def _json(self, body: bytes) -> Parsed[T]:
        if not getattr(decode(body, self._head), self.name):
            return Parsed([decode(body, self._one)], single=True)
        try:
            batch = self._batch.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._one_by_one(body)
        entries = getattr(batch, self.name)
        self._check_count(len(entries))
        return Parsed(entries, sent_at=batch.sent_at)

    def _one_by_one(self, body: bytes) -> Parsed[T]:
        """The entries of a batch of which at least one is invalid."""
        # counting the entries of a megabyte takes half the time of slicing them
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (
                count := len(getattr(self._skipped.decode(body), self.name))
            ) > MAX_ENTRIES_PER_REQUEST:
                self._check_count(count)
        try:
            loose = decode(body, self._loose)
        except Rejected as rejected:
            if (rejected.field, rejected.code) == (self.name, "out_of_range"):
                self._check_count(MAX_ENTRIES_PER_REQUEST + 1)
            raise
        raws = getattr(loose, self.name)
        self._check_count(len(raws))
        return Parsed([self._read_one(raw) for raw in raws], sent_at=loose.sent_at)

    def _lines(self, body: bytes) -> Parsed[T]:
        if body.count(b"\n") > 2 * MAX_ENTRIES_PER_REQUEST:
            self._check_count(MAX_ENTRIES_PER_REQUEST + 1)
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        if not lines:
            raise malformed("empty")
        self._check_count(len(lines))
        return Parsed([self._read_one(line) for line in lines])

    def _read_one(self, raw: bytes | msgspec.Raw) -> T | Rejected:
        try:
            return decode(raw, self._one)
        except Rejected as rejected:
            return rejected
        except Problem as problem:
            return Rejected("body", problem.errors[0].code)

    def _check_count(self, count: int) -> None:
        if not count:
            raise Rejected(self.name, "empty")
        if count > MAX_ENTRIES_PER_REQUEST:
            detail = f"A request takes at most {MAX_ENTRIES_PER_REQUEST} {self.name}."
            raise Problem(413, "too_large", detail, [(self.name, "too_many")])


class _Skipped(msgspec.Struct, gc=False):
    """An object whose fields are not decoded."""


def _envelope(title: str, name: str, content: Any) -> type[msgspec.Struct]:
    fields: list[Any] = [(name, content), ("sent_at", str | None, None)]
    return msgspec.defstruct(title, fields, forbid_unknown_fields=True, kw_only=True)


def _check_utf8(body: bytes) -> None:
    # the parser does not check the strings that it skips
    try:
        body.decode()
    except UnicodeDecodeError:
        raise malformed("not_utf8") from None
