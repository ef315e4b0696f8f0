"""What texts may be, as JSON Schema says it: for the description of the API alone. `schemas.identity` and
`schemas.control_checks` refuse what these forbid, and their codes say why.

A schema counts characters, and we count bytes of UTF-8: `MAX_BYTES` names a keyword of our own for those.
"""

from __future__ import annotations

from typing import Annotated, Any, Final

import msgspec

MAX_BYTES: Final = "x-max-bytes"
"""The keyword: at most so many bytes of UTF-8."""
_CONTROL: Final = r"\u0000-\u001f\u007f-\u009f"
_BLANK: Final = (
    r"\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200b\u2028\u2029\u202f\u205f\u2060\u3000\ufeff"
)
_IDS: Final = 256
PRINTABLE: Final = rf"^[^{_CONTROL}]*$"
"""No control character."""
NOT_BLANK: Final = rf"^[^{_CONTROL}]*[^{_BLANK}{_CONTROL}][^{_CONTROL}]*$"
"""No control character, and not blanks alone."""
ADDRESSABLE: Final = NOT_BLANK.replace("^", r"^(?!\.{1,2}$)", 1)
"""An id that a path can hold: neither ``.`` nor ``..``."""
SPACES: Final = r"^[\t-\r\u001c- \u0085\u00a0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000]*$"
"""White space alone: an id that is not given."""
WORD: Final = rf"^[{_BLANK}]*[^{_CONTROL}]*[{_BLANK}]*$"
"""No control character, but for blanks at its ends, which go."""


def nothing(*words: str, cased: bool = False) -> dict[str, Any]:
    """The schema of `words` with blanks around them. `cased`: spelled exactly so."""
    spelled = "|".join("".join(_character(each, cased) for each in word) for word in words)
    return {"pattern": f"^[{_BLANK}]*({spelled})[{_BLANK}]*$"}


def _character(each: str, cased: bool) -> str:
    if each.isalpha() and not cased:
        return f"[{each.lower()}{each.upper()}]"
    return each if each.isalnum() else f"\\{each}" if each in "[]" else each


def bytes_of(most: int, pattern: str = "", least: int = 0, **more: Any) -> dict[str, Any]:
    """The schema of a text of `least` characters to `most` bytes of UTF-8."""
    found: dict[str, Any] = {"type": "string", "maxLength": most, MAX_BYTES: most}
    found |= {"minLength": least} if least else {}
    return found | ({"pattern": pattern} if pattern else {}) | more


def described(schema: dict[str, Any]) -> msgspec.Meta:
    """`schema` for the description alone: a check that names the field holds a text to it."""
    return msgspec.Meta(extra_json_schema=schema)


ID: Final = bytes_of(_IDS, NOT_BLANK, 1)
ITEM_ID: Final = {**ID, "not": nothing("undefined", "[object Object]", cased=True)}
PERSON_ID: Final = {
    **ID,
    "not": nothing("null", "undefined", "[object object]", "nan", "none"),
}
_NOT_GIVEN: Final = {"anyOf": [{"type": "null"}, {"type": "string", "pattern": SPACES}]}
_A_USER: Final = {"required": ["user_id"], "properties": {"user_id": PERSON_ID}}
_A_VISITOR: Final = {
    "required": ["anonymous_id"],
    "properties": {"user_id": _NOT_GIVEN, "anonymous_id": PERSON_ID},
}
_NO_VISITOR: Final = {
    "required": ["user_id"],
    "properties": {"user_id": PERSON_ID, "anonymous_id": _NOT_GIVEN},
}
USER_FIRST: Final = (_A_USER, _A_VISITOR)
"""The alternatives of an object that names a user, with a visitor or not, or else a visitor."""
ONE_PERSON: Final = (_NO_VISITOR, _A_VISITOR)
"""Those of one that names either a user or a visitor."""

Id = Annotated[str, msgspec.Meta(min_length=1, max_length=_IDS), described(ID)]
"""A client's id. `schemas.identity.check_id` also holds it to 256 *bytes* of UTF-8, without control
characters."""
ItemId = Annotated[str, msgspec.Meta(max_length=_IDS), described(ITEM_ID)]
PersonId = Annotated[str, msgspec.Meta(max_length=_IDS), described(PERSON_ID)]
Word = Annotated[str, described(bytes_of(_IDS, WORD))]
"""A name in a catalogue, "" too."""


def up_to(most: int) -> str:
    """The pattern of a whole number from 0 to `most`, without leading zeros.

    >>> import re
    >>> [n for n in range(1000) if not re.fullmatch(up_to(365), str(n))][0]
    366
    """
    digits = str(most)
    found = ["0"] + [f"[1-9][0-9]{{{n}}}" for n in range(len(digits) - 1)]
    for place, digit in enumerate(digits):
        least = 1 if place == 0 else 0
        if int(digit) > least:
            rest = len(digits) - place - 1
            found.append(f"{digits[:place]}[{least}-{int(digit) - 1}][0-9]{{{rest}}}")
    return "|".join([*found, digits])
