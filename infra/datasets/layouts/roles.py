"""Names of columns, and what each holds: the names that published data sets use."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Final

PERSON: Final = "person"
SESSION: Final = "session"
BASKET: Final = "basket"
ITEM: Final = "item"
TIME: Final = "time"
RATING: Final = "rating"
LABEL: Final = "label"
ACTION: Final = "action"
CATEGORY: Final = "category"
TITLE: Final = "title"
TAGS: Final = "tags"
TEXT: Final = "text"
OWNER: Final = "owner"

_NAMES: Final[Mapping[str, str]] = {
    PERSON: "userid user uid usernum useridx visitorid customerid customer reviewerid memberid personid"
    " person profileid playerid accountid anonymousid",
    SESSION: "sessionid session sess sessid sessionkey",
    BASKET: "invoiceno invoice invoiceid orderid ordernumber basketid basket transactionid receiptid",
    ITEM: "itemid item iid itemnum itemidx movieid movie filmid film productid product asin parentasin"
    " articleid sku stockcode itemcode newsid trackid songid artistid bookid isbn gameid businessid contentid"
    " videoid",
    TIME: "timestamp unixreviewtime unixtime epoch ts occurredat eventtime eventtimestamp clicktime"
    " clicktimestamp datetime time at createdat invoicedate orderdate eventdate date day",
    RATING: "rating ratings overall stars score bookrating ratingvalue userrating",
    LABEL: "label labels",
    ACTION: "action event eventtype behavior behaviour behaviortype actiontype interaction",
    CATEGORY: "categories genres genre class category categoryid maincategory cat categorycode cate"
    " productgroupname department",
    TITLE: "title movietitle itemname productname name prodname itemtitle",
    TAGS: "tags keywords",
    TEXT: "text description desc overview abstract plot detaildesc",
    OWNER: "ownerid owner brand sellerid seller publisher author artist store",
}  # fmt: skip
_RANK: Final = {
    name: (role, rank) for role, all in _NAMES.items() for rank, name in enumerate(all.split())
}
_SIGNS: Final = re.compile(r"[^a-z0-9]")
_TYPED: Final = re.compile(r"(\w+):(token|float|token_seq|float_seq)")
"""A name in a header of RecBole's atomic files (Zhao et al. 2021)."""


def roles(header: Sequence[str]) -> dict[str, int]:
    """Role -> the place of the column that has it: where several could, the one that says most.

    >>> roles(["userId", "movieId", "rating", "timestamp"])
    {'person': 0, 'item': 1, 'rating': 2, 'time': 3}
    """
    best: dict[str, tuple[int, int]] = {}
    for place, name in enumerate(header):
        if found := role(name):
            rank = _RANK[plain(name)][1]
            best[found] = min(best.get(found, (rank, place)), (rank, place))
    return {found: place for found, (_, place) in best.items()}


def role(name: str) -> str:
    """What a column of this name holds; "": nothing that is used.

    >>> role("session_id:token"), role("SessionId"), role("price")
    ('session', 'session', '')
    """
    return _RANK.get(plain(name), ("", 0))[0]


def plain(name: str) -> str:
    """A name without its type, signs and case."""
    typed = _TYPED.fullmatch(name.strip())
    return _SIGNS.sub("", (typed[1] if typed else name).casefold())


def is_typed(header: Sequence[str]) -> bool:
    """Whether it is the header of an atomic file."""
    return bool(header) and all(_TYPED.fullmatch(it.strip()) for it in header)


def is_sequence(name: str) -> bool:
    """Whether its cells are texts between blanks (`token_seq`)."""
    return name.strip().endswith(":token_seq")
