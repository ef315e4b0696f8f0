"""Every Redis key: its name, type, the one flow that owns it, who reads it, what rebuilds it.

None of a fold has a TTL (law 6): a missing record means "never seen", so nothing may disappear by itself.
Four keys of others expire: `Key.expires`.
Every key of a partition carries that partition's hash tag, which keeps its transaction in one slot of a
Redis Cluster.

Keys made of `events` exist in generations: a rebuild fills the next one beside the live one, and
``g:{live}`` names the one that is read. The hash tag holds the generation: ``{3}`` in generation 0,
``{3.2}`` in 2.

Installations may share a Redis: each has a namespace in the hash tag of all its keys: ``{shop/3.2}``.
`Keyspace` makes every key and parses it; no other code does.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal, NamedTuple

from schemas.flows import GENERATIONAL, Flow

Kind = Literal["string", "hash", "stream"]


class Key(NamedTuple):
    """`pattern` as Redis's MATCH takes it; `rebuilt_from`: the topic from whose log a flow rebuilds it, "":
    none. `expires`: it has a TTL; no fold owns one."""

    pattern: str
    kind: Kind
    owner: str
    readers: tuple[str, ...]
    rebuilt_from: str
    what: str
    expires: bool = False

    @property
    def prefix(self) -> bytes:
        """The kind, with which its names begin."""
        return self.pattern.partition(":")[0].encode()


class TablesKeys(NamedTuple):
    """The roll-up's, of one generation."""

    base: bytes
    meta: bytes
    neighbours: bytes
    popularity: bytes
    arms: bytes
    experiments: bytes
    changes: bytes

    def base_chunk(self, name: bytes, n: int) -> bytes:
        """The key of chunk `n` of the base of this name."""
        return b"%b:%b:%d" % (self.base, name, n)

    def base_chunks(self, head: bytes) -> list[bytes]:
        """The keys of all chunks of the base, for its head ``name:chunks``. Errors: ValueError."""
        name, _, chunks = head.partition(b":")
        return [self.base_chunk(name, n) for n in range(int(chunks))]


ROW: Final = b"u"
SEEN: Final = b"s"
OVERFLOW: Final = b"dc"
REVERSIBLES: Final = b"rv"
LIKES: Final = b"lk"
PREFERENCES: Final = b"p"
LINK: Final = b"l"
IMPRESSIONS: Final = b"im"
OPEN_SLATES: Final = b"o"
VECTOR: Final = b"v"
TOMBSTONE: Final = b"t"
DEDUPE: Final = b"dd"
STRANGERS: Final = b"st"
COLD_KINDS: Final = (ROW, SEEN, OVERFLOW, REVERSIBLES, LIKES, IMPRESSIONS, OPEN_SLATES, VECTOR)
"""Kinds of the keys that move to the lake with a person who is not seen for long. A string of seen
items that hides one stays, as preferences and links do: reads need them at once."""
IDEMPOTENCY_SECONDS: Final = 24 * 3600
"""How long an Idempotency-Key keeps its body."""
SHED_SECONDS: Final = 180 * 24 * 3600
"""How long the counts of reads that were shed are kept after the last of them."""
_TABLES: Final = "tables"
_LIVE: Final = "live"


def tag(namespace: str, generation: int, home: str | int) -> bytes:
    """The hash tag of a key, without its braces. `home`: a partition, or "tables", or "live".

    Errors: ValueError for a `home` that is a tag already.

    >>> tag("", 0, 3), tag("shop", 2, 3)
    (b'3', b'shop/3.2')
    """
    if isinstance(home, str) and not {".", "/"}.isdisjoint(home):
        raise ValueError("a tag is made of a partition, not of another tag")
    text = f"{home}.{generation}" if generation else f"{home}"
    return f"{namespace}/{text}".encode() if namespace else text.encode()


class _Tags(dict[str | int, bytes]):
    """The tags of a keyspace by home, each made at its first use."""

    def __init__(self, namespace: str, generation: int) -> None:
        super().__init__()
        self._namespace, self._generation = namespace, generation

    def __missing__(self, home: str | int) -> bytes:
        self[home] = made = tag(self._namespace, self._generation, home)
        return made


class Parsed(NamedTuple):
    """A parsed key: ``kind:{home.generation}:rest``. `home` without the namespace."""

    kind: bytes
    home: bytes
    generation: int
    rest: bytes
    """Empty where nothing follows the hash tag; the pseudonym in a key of a person."""


@dataclass(frozen=True)
class Keyspace:
    """The keys of one installation, in one generation of those made of `events`.

    Keys without generations (items, control, the pointer to the live generation) are the same in all.

    >>> Keyspace().row(3, "ab"), Keyspace("shop", 2).row(3, "ab"), Keyspace("shop", 2).items(3)
    (b'u:{3}:ab', b'u:{shop/3.2}:ab', b'i:{shop/3}')
    """

    namespace: str = ""
    """[a-z0-9-]{1,16}, or "": none (`infra.settings` checks it)."""
    generation: int = 0

    @cached_property
    def _tags(self) -> _Tags:
        return _Tags(self.namespace, self.generation)

    @cached_property
    def _shared(self) -> _Tags:
        """The tags of keys without generations."""
        return _Tags(self.namespace, 0)

    @cached_property
    def _prefix(self) -> bytes:
        """The namespace's prefix of every tag."""
        return tag(self.namespace, 0, "")

    def in_generation(self, generation: int) -> Keyspace:
        """The keys of the same installation in another generation."""
        return Keyspace(self.namespace, generation)

    def for_flow(self, flow: Flow) -> Keyspace:
        """The keyspace of a flow while this generation is live."""
        return self if flow.generational or not self.generation else self.in_generation(0)

    # -- of a person --------------------------------------------------------------------------

    def row(self, partition: int, person: str) -> bytes:
        return b"u:{%b}:%b" % (self._tags[partition], person.encode())

    def seen(self, partition: int, person: str) -> bytes:
        return b"s:{%b}:%b" % (self._tags[partition], person.encode())

    def overflow(self, partition: int, person: str) -> bytes:
        return b"dc:{%b}:%b" % (self._tags[partition], person.encode())

    def reversibles(self, partition: int, person: str) -> bytes:
        return b"rv:{%b}:%b" % (self._tags[partition], person.encode())

    def likes(self, partition: int, person: str) -> bytes:
        return b"lk:{%b}:%b" % (self._tags[partition], person.encode())

    def preferences(self, partition: int, person: str) -> bytes:
        return b"p:{%b}:%b" % (self._tags[partition], person.encode())

    def link(self, partition: int, person: str) -> bytes:
        return b"l:{%b}:%b" % (self._tags[partition], person.encode())

    def impressions(self, partition: int, person: str) -> bytes:
        return b"im:{%b}:%b" % (self._tags[partition], person.encode())

    def open_slates(self, partition: int, person: str) -> bytes:
        return b"o:{%b}:%b" % (self._tags[partition], person.encode())

    def vector(self, partition: int, person: str) -> bytes:
        return b"v:{%b}:%b" % (self._tags[partition], person.encode())

    def tombstone(self, partition: int, person: str) -> bytes:
        return b"t:{%b}:%b" % (self._tags[partition], person.encode())

    def cold_keys(self, partition: int, person: str) -> list[bytes]:
        """A person's keys that move to the lake, in the order of `COLD_KINDS`."""
        rest = b":{%b}:%b" % (self._tags[partition], person.encode())
        return [kind + rest for kind in COLD_KINDS]

    # -- of a partition -----------------------------------------------------------------------

    def fence(self, flow: str, partition: int) -> bytes:
        return b"f:{%b}:%b" % (self._tags[partition], flow.encode())

    def poison(self, flow: str, partition: int) -> bytes:
        return self.fence(flow, partition) + b":poison"

    def torn(self, flow: str, partition: int) -> bytes:
        return self.fence(flow, partition) + b":torn"

    def accepted(self, flow: str, partition: int) -> bytes:
        """The same in every generation, as the log's offsets are."""
        return b"f:{%b}:%b:accepted" % (self._shared[partition], flow.encode())

    def cold(self, partition: int) -> bytes:
        return b"tn:{%b}" % self._tags[partition]

    def cold_asked(self, partition: int) -> bytes:
        return b"tq:{%b}" % self._shared[partition]

    def strangers(self, partition: int) -> bytes:
        return b"st:{%b}" % self._tags[partition]

    def strangers_bucket(self, partition: int, bucket: int) -> bytes:
        return b"st:{%b}:%d" % (self._tags[partition], bucket)

    def dedupe(self, partition: int, bucket: int) -> bytes:
        return b"dd:{%b}:%d" % (self._tags[partition], bucket)

    def deltas(self, partition: int) -> bytes:
        return b"dl:{%b}" % self._tags[partition]

    def outbox(self, partition: int) -> bytes:
        return b"ob:{%b}" % self._tags[partition]

    def received(self, partition: int) -> bytes:
        return b"or:{%b}" % self._tags[partition]

    def tallies(self, partition: int) -> bytes:
        return b"n:{%b}" % self._tags[partition]

    def relayed(self, partition: int) -> bytes:
        return b"os:{%b}" % self._tags[partition]

    def items(self, partition: int) -> bytes:
        return b"i:{%b}" % self._shared[partition]

    def item_tallies(self, partition: int) -> bytes:
        return b"ni:{%b}" % self._shared[partition]

    def item_changes(self, partition: int) -> bytes:
        return b"il:{%b}" % self._shared[partition]

    def idempotency(self, partition: int, request: str) -> bytes:
        """`request`: a hash of a caller and their Idempotency-Key; `partition`: that of the hash."""
        return b"ik:{%b}:%b" % (self._shared[partition], request.encode())

    def limit(self, partition: int, digest: str) -> bytes:
        """`digest`: a hash of a policy and of whom it limits; `partition`: that of the hash."""
        return b"lm:{%b}:%b" % (self._shared[partition], digest.encode())

    # -- of the installation ------------------------------------------------------------------

    def tables(self) -> TablesKeys:
        words = (b"base", b"meta", b"nb", b"pop", b"arms", b"exp", b"log")
        return TablesKeys(*(b"tb:{%b}:%b" % (self._tags[_TABLES], word) for word in words))

    def live(self) -> bytes:
        """Holds the generation that is read and kept current: a number, missing means 0."""
        return b"g:{%b}" % self._shared[_LIVE]

    def generations(self) -> bytes:
        """Holds the status of each generation beside the live one: "filling" or "kept"."""
        return b"gs:{%b}" % self._shared[_LIVE]

    def rebuilding(self) -> bytes:
        """The lock of a running rebuild: no other starts."""
        return b"gb:{%b}" % self._shared[_LIVE]

    def followed(self) -> bytes:
        """Holds, by serving worker, the generation that it reads and when it last reported it."""
        return b"ga:{%b}" % self._shared[_LIVE]

    def shed(self) -> bytes:
        """Holds, by experiment, version and variant, how many reads were shed."""
        return b"sd:{%b}" % self._shared[_LIVE]

    def control_state(self) -> bytes:
        """The state of `control`, which has one partition: in one slot with its changes and its fence."""
        return b"c:{%b}" % self._shared[0]

    def control_changes(self) -> bytes:
        return b"cl:{%b}" % self._shared[0]

    # -- patterns, as MATCH takes them --------------------------------------------------------

    def installation_pattern(self) -> bytes:
        """Every key of the installation, in any generation. Without a namespace it matches the keys of all
        installations: `parse` gives None for those of another."""
        return b"*:{%b*" % tag(self.namespace, 0, "")

    def people_pattern(self, kind: bytes, partition: int) -> bytes:
        """The keys of a kind (b"*": of any) of the people of a partition, in this generation."""
        return self.start(kind, partition) + b"*"

    def rows_pattern(self) -> bytes:
        """The rows of every partition and generation. Without a namespace it matches those of others, too:
        see `parse`."""
        return b"u:{%b}:*" % tag(self.namespace, 0, "*")

    def partition_pattern(self, partition: int) -> bytes:
        """Every key of a partition in this generation, whichever flow owns it."""
        return b"*:{%b}*" % self._tags[partition]

    def owned_patterns(self, owner: str, partition: int) -> Iterator[bytes]:
        """The patterns of all keys of a partition that `owner` owns."""
        for key in KEYS:
            if key.owner == owner and "{*}" in key.pattern:
                yield key.pattern.encode().replace(b"{*}", b"{%b}" % self._tags[partition])

    def pattern(self, key: Key) -> str:
        """The pattern of all keys of this description, in any generation.

        >>> Keyspace("shop").pattern(KEYS[0])
        'u:{shop/*}:*'
        """
        kind, home, rest = re.split("[{}]", key.pattern)
        return f"{kind}{{{tag(self.namespace, 0, home).decode()}}}{rest}"

    # -- keys, parsed -------------------------------------------------------------------------

    def start(self, kind: bytes, partition: int) -> bytes:
        """The start of all keys of a kind, of this partition and generation."""
        return b"%b:{%b}:" % (kind, self._tags[partition])

    @staticmethod
    def person_of(name: bytes) -> str:
        """The pseudonym in a person's key, of any keyspace."""
        return name.partition(b"}:")[2].decode()

    def parse(self, name: bytes) -> Parsed | None:
        """The parts of a key; None for a key of another namespace, or of none of these kinds.

        >>> Keyspace("shop").parse(b"u:{shop/3.2}:ab")
        Parsed(kind=b'u', home=b'3', generation=2, rest=b'ab')
        >>> Keyspace().parse(b"u:{shop/3.2}:ab"), Keyspace("shop").parse(b"u:{3.2}:ab")
        (None, None)
        """
        kind, _, rest = name.partition(b":{")
        home, _, rest = rest.partition(b"}")
        if kind not in _KINDS or not home.startswith(self._prefix):
            return None
        home, dot, generation = home[len(self._prefix) :].partition(b".")
        if not home or b"/" in home or (dot and not generation.isdigit()):
            return None
        return Parsed(kind, home, int(generation) if dot else 0, rest[1:])

    def generation_of(self, name: bytes) -> int | None:
        """The generation of a key made of `events`; None for any other key.

        >>> keyspace = Keyspace()
        >>> [keyspace.generation_of(it) for it in (b"u:{3.2}:ab", b"f:{3}:people", b"i:{3}")]
        [2, 0, None]
        """
        parsed = self.parse(name)
        if parsed is None:
            return None
        generational = parsed.kind in _GENERATIONAL
        if not generational and not (parsed.kind == b"f" and parsed.rest.startswith(b"people")):
            return None
        return parsed.generation

    def renamed(self, name: bytes) -> bytes:
        """The name of a key of `PLAIN` in this keyspace. Errors: ValueError for a key of another keyspace.

        >>> Keyspace("shop", 2).renamed(b"u:{3}:ab")
        b'u:{shop/3.2}:ab'
        """
        kind, _, rest = name.partition(b"{")
        home, _, rest = rest.partition(b"}")
        return b"%b{%b}%b" % (kind, self._tags[home.decode()], rest)


PLAIN: Final = Keyspace()
"""Without a namespace, in generation 0. It names the state that is folded off line or kept in snapshots,
whatever the namespace of the installation."""


KEYS: Final = (
    Key(
        "u:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "a person's row (models.features.registry)",
    ),
    Key(
        "s:{*}:*",
        "string",
        "people",
        ("serving",),
        "events",
        "what they have seen or hid, beside the actions in their row (models.seen)",
    ),
    Key(
        "dc:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "what they did on two days beyond the list of recent actions (models.features.overflow)",
    ),
    Key(
        "rv:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "their purchases that can be taken back (models.outcomes.reversibles)",
    ),
    Key(
        "lk:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "their likes that can be taken back (models.outcomes.likes)",
    ),
    Key("p:{*}:*", "string", "people", ("serving",), "events", "their preferences, JSON"),
    Key(
        "l:{*}:*",
        "string",
        "people",
        ("people", "serving"),
        "events",
        "the person an id was linked to, or the id its variants are drawn with (schemas.state.links)",
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
        "their vector in the space of a release: a cache (schemas.state.vectors)",
    ),
    Key(
        "st:{*}:*",
        "string",
        "people",
        ("people", "serving"),
        "events",
        "ids that were shown slates and have done nothing yet, by a hash (models.outcomes.strangers)",
    ),
    Key(
        "st:{*}",
        "string",
        "people",
        ("people",),
        "events",
        "the offset of the first record by which somebody was a stranger",
    ),
    Key("f:{*}:people", "string", "people", ("serving", "status"), "events", "fence, msgpack"),
    Key(
        "dd:{*}:*",
        "string",
        "people",
        ("people",),
        "events",
        "hashes of what names an event (models.dedupe), u64 LE, a bucket of record time each",
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
        "n:{*}",
        "hash",
        "people",
        ("people", "serving", "status"),
        "events",
        "reason -> how many records were accepted and are not counted",
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
        "for a person not seen for long: the object in the lake that holds their records",
    ),
    Key("tn:{*}", "string", "people", ("people", "cold"), "events", "how many people are cold"),
    Key("tq:{*}", "string", "cold", ("people",), "events", "the sweep that an operator asked for"),
    Key("f:{*}:lake-*", "string", "lake", ("lake",), "events", "fence, of each topic, msgpack"),
    Key("f:{*}:catalogue", "string", "catalogue", ("status",), "items", "fence, msgpack"),
    Key("i:{*}", "hash", "catalogue", ("serving", "rollup"), "items", "item id -> item, JSON"),
    Key(
        "il:{*}",
        "stream",
        "catalogue",
        ("serving", "rollup"),
        "items",
        "items as they change, id = next offset",
    ),
    Key(
        "ni:{*}",
        "hash",
        "catalogue",
        ("catalogue", "serving", "status"),
        "items",
        "reason -> how many changes of items were accepted and dropped",
    ),
    Key("f:{*}:control", "string", "control", ("status",), "control", "fence, msgpack"),
    Key("c:{*}", "hash", "control", ("serving",), "control", "subject:id -> body in force, JSON"),
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
        "tb:{tables*}:arms",
        "hash",
        "rollup",
        ("serving",),
        "events",
        "placement and item hash -> outcomes of showing it",
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
        "ik:{*}:*",
        "string",
        "serving",
        ("serving",),
        "",
        "a caller's Idempotency-Key, by a hash of both -> fingerprint of the body; expires after a day",
        expires=True,
    ),
    Key(
        "lm:{*}:*",
        "string",
        "serving",
        ("serving",),
        "",
        "when the rate of a client or subject is met again (infra.store.gcra); expires then",
        expires=True,
    ),
    Key(
        "g:{live}",
        "string",
        "rebuild",
        ("serving", "people", "rollup", "relay"),
        "events",
        "the live generation of the keys made of events; missing means 0",
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
        "the running rebuild; expires with its holder",
        expires=True,
    ),
    Key(
        "ga:{live}",
        "hash",
        "serving",
        ("rebuild",),
        "events",
        "serving worker -> the generation that it reads, and when it last reported it",
    ),
    Key(
        "sd:{live}",
        "hash",
        "serving",
        ("serving",),
        "",
        "experiment/version/variant -> how many reads were shed; expires half a year after the last",
        expires=True,
    ),
    Key(
        "tb:{tables*}:log", "stream", "rollup", ("serving",), "events", "what each version changed"
    ),
)
_KINDS: Final = frozenset(key.prefix for key in KEYS)
_GENERATIONAL: Final = frozenset(key.prefix for key in KEYS if key.owner in GENERATIONAL) - {b"f"}
