"""Every Redis key: its name, type, the one flow that owns it, who reads it, what rebuilds it.

None of a fold has a TTL (law 6): a missing record means "never seen", so nothing may disappear by itself.
Everything of one partition carries that partition's hash tag, which keeps its transaction in one
slot of a Redis Cluster.

What is made of `events` exists in generations: a rebuild fills the next one beside the live one, and
`LIVE` says which is read. A generation is part of the hash tag: ``{3}`` in generation 0, ``{3.2}`` in 2.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal, NamedTuple

from schemas.flows import GENERATIONAL

Kind = Literal["string", "hash", "stream"]


class Key(NamedTuple):
    """`pattern` as Redis's MATCH takes it; `rebuilt_from` is the topic whose log gives it again."""

    pattern: str
    kind: Kind
    owner: str
    readers: tuple[str, ...]
    rebuilt_from: str
    what: str


def tag(partition: int | str, generation: int = 0) -> bytes:
    """What stands between the braces of a key of this partition (or of the roll-up's "tables")."""
    return f"{partition}.{generation}".encode() if generation else str(partition).encode()


def row(partition: int, person: str, generation: int = 0) -> bytes:
    return b"u:{%b}:%b" % (tag(partition, generation), person.encode())


ROWS: Final = b"u:{*}:*"
"""Every row, as MATCH takes it."""


def seen(partition: int, person: str, generation: int = 0) -> bytes:
    return b"s:{%b}:%b" % (tag(partition, generation), person.encode())


def hidden(partition: int, person: str, generation: int = 0) -> bytes:
    return b"h:{%b}:%b" % (tag(partition, generation), person.encode())


def preferences(partition: int, person: str, generation: int = 0) -> bytes:
    return b"p:{%b}:%b" % (tag(partition, generation), person.encode())


def link(partition: int, person: str, generation: int = 0) -> bytes:
    return b"l:{%b}:%b" % (tag(partition, generation), person.encode())


def impressions(partition: int, person: str, generation: int = 0) -> bytes:
    return b"im:{%b}:%b" % (tag(partition, generation), person.encode())


def open_slates(partition: int, person: str, generation: int = 0) -> bytes:
    return b"o:{%b}:%b" % (tag(partition, generation), person.encode())


def vector(partition: int, person: str, generation: int = 0) -> bytes:
    return b"v:{%b}:%b" % (tag(partition, generation), person.encode())


def fence(flow: str, partition: int, generation: int = 0) -> bytes:
    return b"f:{%b}:%b" % (tag(partition, generation), flow.encode())


def poison(flow: str, partition: int, generation: int = 0) -> bytes:
    return fence(flow, partition, generation) + b":poison"


def accepted(flow: str, partition: int) -> bytes:
    return fence(flow, partition) + b":accepted"


def tombstone(partition: int, person: str, generation: int = 0) -> bytes:
    return b"t:{%b}:%b" % (tag(partition, generation), person.encode())


def cold(partition: int, generation: int = 0) -> bytes:
    return b"tn:{%b}" % tag(partition, generation)


def cold_asked(partition: int) -> bytes:
    return b"tq:{%d}" % partition


def dedupe(partition: int, bucket: int, generation: int = 0) -> bytes:
    return b"dd:{%b}:%d" % (tag(partition, generation), bucket)


def deltas(partition: int, generation: int = 0) -> bytes:
    return b"dl:{%b}" % tag(partition, generation)


def outbox(partition: int, generation: int = 0) -> bytes:
    return b"ob:{%b}" % tag(partition, generation)


def received(partition: int, generation: int = 0) -> bytes:
    return b"or:{%b}" % tag(partition, generation)


def relayed(partition: int, generation: int = 0) -> bytes:
    return b"os:{%b}" % tag(partition, generation)


def items(partition: int) -> bytes:
    return b"i:{%d}" % partition


def item_changes(partition: int) -> bytes:
    return b"il:{%d}" % partition


class TablesKeys(NamedTuple):
    """The roll-up's, of one generation."""

    base: bytes
    meta: bytes
    neighbours: bytes
    popularity: bytes
    categories: bytes
    arms: bytes
    experiments: bytes
    changes: bytes

    def base_chunk(self, made: bytes, n: int) -> bytes:
        """Part n of the base that was made under this name."""
        return b"%b:%b:%d" % (self.base, made, n)

    def base_chunks(self, head: bytes) -> list[bytes]:
        """The keys of the parts of the base that ``name:parts`` heads. Errors: ValueError."""
        made, _, parts = head.partition(b":")
        return [self.base_chunk(made, n) for n in range(int(parts))]


def tables(generation: int = 0) -> TablesKeys:
    words = (b"base", b"meta", b"nb", b"pop", b"cat", b"arms", b"exp", b"log")
    return TablesKeys(*(b"tb:{%b}:%b" % (tag("tables", generation), word) for word in words))


def of_partition(owner: str, partition: int, generation: int = 0) -> Iterator[bytes]:
    """Patterns, as MATCH takes them, of all that `owner` keeps of a partition."""
    for key in KEYS:
        if key.owner == owner and "{*}" in key.pattern:
            yield key.pattern.encode().replace(b"{*}", b"{%b}" % tag(partition, generation))


LIVE: Final = b"g:{live}"
"""Which generation is read and kept current: a number, missing means 0."""
GENERATIONS: Final = b"gs:{live}"
"""By generation beside the live one: "filling" or "kept"."""
REBUILDING: Final = b"gb:{live}"
"""Held by who rebuilds, so that nobody else does."""
FOLLOWED: Final = b"ga:{live}"
"""By serving worker, the generation that it reads and when it last said so."""
CONTROL_STATE: Final = b"c:{0}"
CONTROL_CHANGES: Final = b"cl:{0}"
"""Both of the one partition of `control`: with its fence in a slot."""


KEYS: Final = (
    Key(
        "u:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "a person's row (models.features.registry)",
    ),
    Key("s:{*}:*", "string", "people", ("serving",), "events", "item hashes they acted on, u64 LE"),
    Key("h:{*}:*", "string", "people", ("serving",), "events", "item hashes they hid, u64 LE"),
    Key("p:{*}:*", "string", "people", ("serving",), "events", "their preferences, JSON"),
    Key(
        "l:{*}:*",
        "string",
        "people",
        ("people", "serving"),
        "events",
        "whom they were linked to; or whose id their variants are drawn with (schemas.state.links)",
    ),
    Key(
        "im:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "what they were shown: last 64 items, how often and when (models.outcomes.impressions)",
    ),
    Key(
        "o:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "their open slates, waiting outcomes, counts per experiment, links (models.outcomes.open_slates)",
    ),
    Key(
        "v:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "their vector in the space of a release: a cache (schemas.state.vector)",
    ),
    Key("f:{*}:people", "string", "people", ("serving", "status"), "events", "fence, msgpack"),
    Key(
        "dd:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "hashes of event ids, u64 LE, a bucket of record time each",
    ),
    Key(
        "dl:{*}",
        "stream",
        "people",
        ("rollup",),
        "events",
        "facts of each batch (schemas.state.facts)",
    ),
    Key(
        "ob:{*}",
        "stream",
        "people",
        ("relay",),
        "events",
        "records to send, until the relay sent them",
    ),
    Key(
        "or:{*}",
        "hash",
        "people",
        ("people",),
        "events",
        "highest number received per source partition",
    ),
    Key(
        "f:{*}:*:torn",
        "string",
        "people",
        ("people",),
        "events",
        "set while the partition is to be dropped and folded again",
    ),
    Key(
        "f:{*}:*:poison",
        "string",
        "people",
        ("people", "serving", "status"),
        "events",
        "how many records in a row no fold could take, up to the fence",
    ),
    Key(
        "f:{*}:*:accepted",
        "string",
        "dead-letters",
        ("people", "serving", "status"),
        "events",
        "the offset up to which an operator accepts such records",
    ),
    Key("os:{*}", "string", "relay", ("relay",), "events", "highest number sent from the outbox"),
    Key(
        "t:{*}:*",
        "string",
        "people",
        ("people", "serving"),
        "events",
        "of a person not seen for long: the object in the lake that holds their records",
    ),
    Key("tn:{*}", "string", "people", ("people", "cold"), "events", "how many people are there"),
    Key("tq:{*}", "string", "cold", ("people",), "events", "the sweep that an operator asked for"),
    Key("f:{*}:lake-*", "string", "lake", ("lake",), "events", "fence, of each topic, msgpack"),
    Key("f:{*}:catalogue", "string", "catalogue", ("status",), "items", "fence, msgpack"),
    Key("i:{*}", "hash", "catalogue", ("serving",), "items", "item id -> item, JSON"),
    Key(
        "il:{*}",
        "stream",
        "catalogue",
        ("serving",),
        "items",
        "items as they change, id = next offset",
    ),
    Key("f:{*}:control", "string", "control", ("status",), "control", "fence, msgpack"),
    Key("c:{*}", "hash", "control", ("serving",), "control", "subject:id -> what holds, JSON"),
    Key(
        "cl:{*}",
        "stream",
        "control",
        ("serving",),
        "control",
        "what changed, id = next offset",
    ),
    Key(
        "tb:{tables*}:base*",
        "string",
        "rollup",
        ("rollup",),
        "events",
        "tables and positions, in chunks",
    ),
    Key(
        "tb:{tables*}:meta",
        "string",
        "rollup",
        ("serving", "status"),
        "events",
        "version and positions published",
    ),
    Key("tb:{tables*}:nb", "hash", "rollup", ("serving",), "events", "item hash -> its neighbours"),
    Key("tb:{tables*}:pop", "hash", "rollup", ("serving",), "events", "item hash -> decayed sums"),
    Key(
        "tb:{tables*}:cat",
        "hash",
        "rollup",
        ("serving",),
        "events",
        "category hash -> decayed sums",
    ),
    Key(
        "tb:{tables*}:arms",
        "hash",
        "rollup",
        ("serving",),
        "events",
        "placement and item hash -> what came of showing it",
    ),
    Key(
        "tb:{tables*}:exp",
        "hash",
        "rollup",
        ("serving",),
        "events",
        "experiment and version -> moments of its variants",
    ),
    Key(
        "g:{live}",
        "string",
        "rebuild",
        ("serving", "people", "rollup", "relay"),
        "events",
        "which generation of what is made of events is live; missing means 0",
    ),
    Key(
        "gs:{live}",
        "hash",
        "rebuild",
        ("rebuild",),
        "events",
        "generations beside the live one: filling or kept",
    ),
    Key(
        "gb:{live}",
        "string",
        "rebuild",
        ("rebuild",),
        "events",
        "who rebuilds now; the only key that expires, with its holder",
    ),
    Key(
        "ga:{live}",
        "hash",
        "serving",
        ("rebuild",),
        "events",
        "serving worker -> the generation that it reads, and when it last said so",
    ),
    Key(
        "tb:{tables*}:log", "stream", "rollup", ("serving",), "events", "what each version changed"
    ),
)
MOVES: Final = (b"u", b"s", b"im", b"o", b"v")
"""Prefixes of what moves to the lake with a person who is not seen for long. What they asked for (hidden
items, preferences) and whom they are linked to stays: it is little, and it is kept to at once."""


def that_move(partition: int, person: str, generation: int = 0) -> list[bytes]:
    """A person's keys, in the order of `MOVES`."""
    rest = b":{%b}:%b" % (tag(partition, generation), person.encode())
    return [prefix + rest for prefix in MOVES]


_PREFIXES: Final = frozenset(
    key.pattern.partition(":")[0].encode()
    for key in KEYS
    if key.owner in GENERATIONAL and not key.pattern.startswith("f:")
)


def generation_of(name: bytes) -> int | None:
    """Of a key of what is made of `events`; None for any other.

    >>> generation_of(b"u:{3.2}:ab"), generation_of(b"f:{3}:people"), generation_of(b"i:{3}")
    (2, 0, None)
    """
    prefix, _, rest = name.partition(b":{")
    home, _, what = rest.partition(b"}")
    if prefix not in _PREFIXES and not (prefix == b"f" and what.startswith(b":people")):
        return None
    _, dot, number = home.partition(b".")
    return int(number) if dot else 0


def in_generation(name: bytes, generation: int) -> bytes:
    """The same key in another generation.

    >>> in_generation(b"u:{3}:ab", 2)
    b'u:{3.2}:ab'
    """
    prefix, _, rest = name.partition(b"{")
    home, _, what = rest.partition(b"}")
    partition = home.partition(b".")[0].decode()
    return b"%b{%b}%b" % (prefix, tag(partition, generation), what)
