"""The three forms in which things arrive: one object, ``{"events": [...]}``, or NDJSON."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from schemas.reject import Rejected
from serving.http.body import decode, malformed
from serving.http.errors import Problem

T = TypeVar("T", bound=msgspec.Struct)
MOST: Final = 1000
"""Of one request."""


class Rejection(msgspec.Struct):
    """`index`: its place in the request, from 0 (in NDJSON among the lines that are not blank)."""

    index: int
    field: str
    code: str


class Parsed(NamedTuple, Generic[T]):
    """In the order of the request. `sent_at`: of a batch that named it, as the client wrote it."""

    entries: list[T | Rejected]
    single: bool = False
    sent_at: str | None = None

    def take(self, take: Callable[[int, T], None]) -> list[Rejection]:
        """Calls `take` with each thing and its place in the request. Answers those that could not be read,
        and those for which `take` raises `Rejected`."""
        rejected: list[Rejection] = []
        for index, entry in enumerate(self.entries):
            try:
                if isinstance(entry, Rejected):
                    raise entry
                take(index, entry)
            except Rejected as why:
                rejected.append(Rejection(index, why.field, why.code))
        return rejected


class Form(Generic[T]):
    """How things of type `kind` are read; `name` is the field that holds several of them."""

    def __init__(self, kind: type[T], name: str) -> None:
        self.name = name
        raws = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MOST)]
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
        """Errors: `Problem` 400 or 413, or `Rejected`, where the body as a whole can't be taken."""
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
        """For a body in which something is wrong with at least one."""
        # a megabyte of them is counted in half the time that it takes to keep a piece of each
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (count := len(getattr(self._skipped.decode(body), self.name))) > MOST:
                self._check_count(count)
        try:
            loose = decode(body, self._loose)
        except Rejected as rejected:
            if (rejected.field, rejected.code) == (self.name, "out_of_range"):
                self._check_count(MOST + 1)
            raise
        raws = getattr(loose, self.name)
        self._check_count(len(raws))
        return Parsed([self._try(raw) for raw in raws], sent_at=loose.sent_at)

    def _lines(self, body: bytes) -> Parsed[T]:
        if body.count(b"\n") > 2 * MOST:
            self._check_count(MOST + 1)
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        if not lines:
            raise malformed("empty")
        self._check_count(len(lines))
        return Parsed([self._try(line) for line in lines])

    def _try(self, raw: bytes | msgspec.Raw) -> T | Rejected:
        try:
            return decode(raw, self._one)
        except Rejected as rejected:
            return rejected
        except Problem as problem:
            return Rejected("body", problem.errors[0].code)

    def _check_count(self, count: int) -> None:
        if not count:
            raise Rejected(self.name, "empty")
        if count > MOST:
            raise Problem(413, "too_large", f"At most {MOST}.", [(self.name, "too_many")])


class _Skipped(msgspec.Struct, gc=False):
    """An object that nobody looks into."""


def _envelope(title: str, name: str, content: Any) -> type[msgspec.Struct]:
    fields: list[Any] = [(name, content), ("sent_at", str | None, None)]
    return msgspec.defstruct(title, fields, forbid_unknown_fields=True, kw_only=True)


def _check_utf8(body: bytes) -> None:
    # the parser skips over what it need not look into
    try:
        body.decode()
    except UnicodeDecodeError:
        raise malformed("not_utf8") from None
