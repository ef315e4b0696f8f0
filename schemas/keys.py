"""Every Redis key: its name, type, the one flow that owns it, who reads it, what rebuilds it.

None has a TTL (law 6): a missing record means "never seen", so nothing may disappear by itself.
Everything of one partition carries that partition's hash tag, which keeps its transaction in one
slot of a Redis Cluster.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

Kind = Literal["string", "hash", "stream"]


class Key(NamedTuple):
    """`pattern` as Redis's MATCH takes it; `rebuilt_from` is the topic whose log gives it again."""

    pattern: str
    kind: Kind
    owner: str
    readers: tuple[str, ...]
    rebuilt_from: str
    what: str


def row(partition: int, person: str) -> bytes:
    return b"u:{%d}:%s" % (partition, person.encode())


def seen(partition: int, person: str) -> bytes:
    return b"s:{%d}:%s" % (partition, person.encode())


def hidden(partition: int, person: str) -> bytes:
    return b"h:{%d}:%s" % (partition, person.encode())


def preferences(partition: int, person: str) -> bytes:
    return b"p:{%d}:%s" % (partition, person.encode())


def link(partition: int, person: str) -> bytes:
    return b"l:{%d}:%s" % (partition, person.encode())


def impressions(partition: int, person: str) -> bytes:
    return b"im:{%d}:%s" % (partition, person.encode())


def open_slates(partition: int, person: str) -> bytes:
    return b"o:{%d}:%s" % (partition, person.encode())


def vector(partition: int, person: str) -> bytes:
    return b"v:{%d}:%s" % (partition, person.encode())


def fence(flow: str, partition: int) -> bytes:
    return b"f:{%d}:%s" % (partition, flow.encode())


def dedupe(partition: int, bucket: int) -> bytes:
    return b"dd:{%d}:%d" % (partition, bucket)


def deltas(partition: int) -> bytes:
    return b"dl:{%d}" % partition


def outbox(partition: int) -> bytes:
    return b"ob:{%d}" % partition


def received(partition: int) -> bytes:
    return b"or:{%d}" % partition


def relayed(partition: int) -> bytes:
    return b"os:{%d}" % partition


def items(partition: int) -> bytes:
    return b"i:{%d}" % partition


def item_changes(partition: int) -> bytes:
    return b"il:{%d}" % partition


CONTROL_STATE: Final = b"c:{control}"
CONTROL_CHANGES: Final = b"cl:{control}"
TABLES_BASE: Final = b"tb:{tables}:base"
TABLES_META: Final = b"tb:{tables}:meta"
TABLES_NEIGHBOURS: Final = b"tb:{tables}:nb"
TABLES_POPULARITY: Final = b"tb:{tables}:pop"
TABLES_CATEGORIES: Final = b"tb:{tables}:cat"
TABLES_ARMS: Final = b"tb:{tables}:arms"
TABLES_EXPERIMENTS: Final = b"tb:{tables}:exp"
TABLES_CHANGES: Final = b"tb:{tables}:log"


def base_chunk(made: bytes, n: int) -> bytes:
    """Part n of the base that was made under this name."""
    return b"%s:%s:%d" % (TABLES_BASE, made, n)


KEYS: Final = (
    Key("u:{*}:*", "string", "people", ("serving",), "events", "a person's row (models.features)"),
    Key("s:{*}:*", "string", "people", ("serving",), "events", "item hashes they acted on, u64 LE"),
    Key("h:{*}:*", "string", "people", ("serving",), "events", "item hashes they hid, u64 LE"),
    Key("p:{*}:*", "string", "people", ("serving",), "events", "their preferences, JSON"),
    Key("l:{*}:*", "string", "people", ("people",), "events", "whom an anonymous id was linked to"),
    Key(
        "im:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "what they were shown: last 64 items, how often and when (models.impressions)",
    ),
    Key(
        "o:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "their open slates, waiting outcomes and counts per experiment (models.account)",
    ),
    Key(
        "v:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "their vector in the space of a release: a cache (schemas.vector)",
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
    Key("dl:{*}", "stream", "people", ("rollup",), "events", "facts of each batch (schemas.facts)"),
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
    Key("os:{*}", "string", "relay", ("relay",), "events", "highest number sent from the outbox"),
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
    Key(
        "c:{control}", "hash", "control", ("serving",), "control", "subject:id -> what holds, JSON"
    ),
    Key(
        "cl:{control}",
        "stream",
        "control",
        ("serving",),
        "control",
        "what changed, id = next offset",
    ),
    Key(
        "tb:{tables}:base*",
        "string",
        "rollup",
        ("rollup",),
        "events",
        "tables and positions, in chunks",
    ),
    Key(
        "tb:{tables}:meta",
        "string",
        "rollup",
        ("serving", "status"),
        "events",
        "version and positions published",
    ),
    Key("tb:{tables}:nb", "hash", "rollup", ("serving",), "events", "item hash -> its neighbours"),
    Key("tb:{tables}:pop", "hash", "rollup", ("serving",), "events", "item hash -> decayed sums"),
    Key(
        "tb:{tables}:cat", "hash", "rollup", ("serving",), "events", "category hash -> decayed sums"
    ),
    Key(
        "tb:{tables}:arms",
        "hash",
        "rollup",
        ("serving",),
        "events",
        "placement and item hash -> what came of showing it",
    ),
    Key(
        "tb:{tables}:exp",
        "hash",
        "rollup",
        ("serving",),
        "events",
        "experiment and version -> moments of its variants",
    ),
    Key("tb:{tables}:log", "stream", "rollup", ("serving",), "events", "what each version changed"),
)
