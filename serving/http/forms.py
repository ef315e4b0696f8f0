"""The forms of a request body: one object, a batch (``{"events": [...]}`` or an array), or NDJSON."""

from __future__ import annotations

import contextlib
import re
from collections.abc import Callable
from operator import attrgetter
from typing import Annotated, Any, Final, Generic, NamedTuple, TypeVar

import msgspec

from models.kernels.repeated_keys import may_repeat
from schemas.reject import Rejected
from schemas.times import MomentText
from serving.http.body import UTF8_ONLY, check_keys, decode, parse
from serving.http.errors import Problem, malformed

T = TypeVar("T", bound=msgspec.Struct)
MAX_ENTRIES_PER_REQUEST: Final = 1000
_COUNTED: Final = msgspec.Meta(
    extra_json_schema={"minItems": 1, "maxItems": MAX_ENTRIES_PER_REQUEST}
)
"""For the schema alone: `Form` counts, since a decoder does not say that there are too many."""
_ARRAY: Final = re.compile(rb"[ \t\r\n]*\[")


class Rejection(msgspec.Struct):
    """`index`: its place in the request, from 0 (in NDJSON among the lines that are not blank)."""

    index: int
    field: str
    code: str


class Parsed(msgspec.Struct, Generic[T], frozen=True):
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


class _Decoders(NamedTuple):
    """How the entries of a batch are read: all at once, or where one of them is invalid each on its own, once
    they are counted. `get`: the entries in what a decoder gives."""

    whole: msgspec.json.Decoder[Any]
    loose: msgspec.json.Decoder[Any]
    skipped: msgspec.json.Decoder[Any]
    get: Callable[[Any], list[Any]]


class Form(Generic[T]):
    """Reads entries of type `kind`; `name` is the field of a batch that holds them."""

    def __init__(self, kind: type[T], name: str) -> None:
        self.name, self._spelled = name, name.encode()
        raws = Annotated[list[msgspec.Raw], msgspec.Meta(max_length=MAX_ENTRIES_PER_REQUEST)]
        self.batch = _envelope(f"{kind.__name__}Batch", name, list[kind])  # type: ignore[valid-type]
        self.array = Annotated[list[kind], _COUNTED]  # type: ignore[valid-type]
        head = msgspec.defstruct("Head", [(name, msgspec.Raw, msgspec.Raw())])
        self._head: msgspec.json.Decoder[Any] = msgspec.json.Decoder(head)
        self._one: msgspec.json.Decoder[T] = msgspec.json.Decoder(kind)
        skipped = msgspec.defstruct("Skipped", [(name, list[_Skipped])])
        self._in_object = _Decoders(
            msgspec.json.Decoder(self.batch),
            msgspec.json.Decoder(_envelope("Loose", name, raws)),
            msgspec.json.Decoder(skipped),
            attrgetter(name),
        )
        self._in_array = _Decoders(
            msgspec.json.Decoder(list[kind]),  # type: ignore[valid-type]
            msgspec.json.Decoder(raws),
            msgspec.json.Decoder(list[_Skipped]),
            list,
        )

    def read(self, body: bytes, *, ndjson: bool) -> Parsed[T]:
        """The entries of `body`. Errors: `Problem` 400 or 413, or `Rejected`, where the whole body can't be
        taken."""
        if ndjson:
            return self._lines(body)
        if not _is_utf8(body):
            raise malformed("not_utf8", UTF8_ONLY)
        return self._json(body)

    def _json(self, body: bytes) -> Parsed[T]:
        if body[:1] != b"{" and _ARRAY.match(body):
            return self._entries(body, self._in_array)
        if self._spelled not in body and b"\\" not in body:  # no field is `name`
            try:
                one = self._one.decode(body)
            except (msgspec.DecodeError, RecursionError):
                pass  # what is no JSON at all is told from what has another shape below
            else:
                check_keys(body)
                return Parsed([one], single=True)
        if not getattr(parse(body, self._head), self.name):
            return Parsed([decode(body, self._one)], single=True)
        return self._entries(body, self._in_object)

    def _entries(self, body: bytes, decoders: _Decoders) -> Parsed[T]:
        try:
            batch = decoders.whole.decode(body)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            return self._one_by_one(body, decoders)
        entries = decoders.get(batch)
        self._check_count(len(entries))
        if may_repeat(body):
            return self._one_by_one(body, decoders)
        return Parsed(entries, sent_at=getattr(batch, "sent_at", None))

    def _one_by_one(self, body: bytes, decoders: _Decoders) -> Parsed[T]:
        """The entries of a batch of which at least one is invalid."""
        # counting the entries of a megabyte takes half the time of slicing them
        with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            if (
                count := len(decoders.get(decoders.skipped.decode(body)))
            ) > MAX_ENTRIES_PER_REQUEST:
                self._check_count(count)
        try:
            loose = parse(body, decoders.loose)
            check_keys(body, deepest=1 if decoders is self._in_object else 0)
        except Rejected as rejected:
            if rejected.code == "out_of_range" and rejected.field in (self.name, "body"):
                self._check_count(MAX_ENTRIES_PER_REQUEST + 1)
            raise
        raws = decoders.get(loose)
        self._check_count(len(raws))
        sent_at = getattr(loose, "sent_at", None)
        return Parsed([self._read_one(raw) for raw in raws], sent_at=sent_at)

    def _lines(self, body: bytes) -> Parsed[T]:
        if body.count(b"\n") > 2 * MAX_ENTRIES_PER_REQUEST:
            self._check_count(MAX_ENTRIES_PER_REQUEST + 1)
        lines = [line for line in body.split(b"\n") if line and not line.isspace()]
        if not lines:
            raise malformed("empty")
        self._check_count(len(lines))
        if _is_utf8(body):
            with contextlib.suppress(msgspec.DecodeError, UnicodeDecodeError, RecursionError):
                entries: list[T | Rejected] = [self._one.decode(line) for line in lines]
                if not may_repeat(body):  # all lines in one pass
                    return Parsed(entries)
        return Parsed([self._read_line(line) for line in lines])

    def _read_line(self, line: bytes) -> T | Rejected:
        """A line that may be no UTF-8: that costs this line alone."""
        return self._read_one(line) if _is_utf8(line) else Rejected("body", "not_utf8")

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
    counted = Annotated[content, _COUNTED]
    fields: list[Any] = [(name, counted), ("sent_at", MomentText | None, None)]
    return msgspec.defstruct(title, fields, forbid_unknown_fields=True, kw_only=True)


def _is_utf8(text: bytes) -> bool:
    # the parser does not check the strings that it skips
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True
