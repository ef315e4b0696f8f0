"""The tables that the roll-up publishes and serving reads: neighbours, popularity, arms, experiments.

A reader loads the hashes and `Meta` in one MULTI, then follows the stream `tb:{tables}:log` from
`Meta.version`; the id of an entry is ``<version>-0``. An entry names the rows that changed, and the hashes
have them: the reader takes the rows and `Meta` in one MULTI, and reads on where that is a later version. A
value is never a difference, so a reader may apply it twice.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Literal

import msgspec
import numpy as np
from numpy.typing import NDArray

from schemas.alphabet import Millis

WINDOWS: Final = ("1h", "24h", "7d", "90d")
"""Half-lives of the popularity columns, in this order (`models.aggregates.popularity.HALF_LIVES`)."""

NEIGHBOUR: Final = np.dtype(
    [("item", "<u8"), ("score", "<f4"), ("forward", "<f2"), ("backward", "<f2")]
)
"""An item's neighbours: best first, equal scores by item hash. `forward`: the sum of those who acted on the
item, then on the neighbour; `backward`: the other order; ``score = forward + PairCounting.backward *
backward``. All three are shares of the scores of the list: `score` in (0, 1]."""

ARM: Final = np.dtype(
    [
        ("served", "<u4"),
        ("displayed", "<u4"),
        ("clicked", "<u4"),
        ("converted", "<i4"),
        ("last_click", "<i4"),
        ("last_view", "<i4"),
        ("explored", "<u4"),
        ("n", "<f8"),
        ("mean", "<f8"),
    ]
)
"""An arm (placement, item): slots by state, those that exploration drew, and the state of its
`river.stats.Mean` of rewards (n slots served, mean reward of one). A conversion may be taken back in another
partition, whose facts may come first: so those counts have a sign."""
ARM_KEY: Final = np.dtype([("placement", "<u4"), ("item", "<u8")])
"""The key of an arm, 12 bytes."""
MOMENTS: Final = np.dtype(
    [("variant", "<u4"), ("units", "<i8"), ("sums", "<i8", (6,)), ("squares", "<i8", (6, 6))]
)
"""One row a variant: the number of people, and the sums over them of their counts c (`facts.STATES`) and of
c c^T. Integers, so exact in any order."""
MOMENTS_KEY: Final = np.dtype([("experiment", "<u4"), ("version", "<u2")])
"""The key of an experiment, 6 bytes."""

POPULARITY: Final = np.dtype("<f8")
"""One row of ``len(WINDOWS)`` sums: w * 2^((t - landmark) / half-life), comparable within a column."""


Gap = Literal["session", "any"]


class PairCounting(msgspec.Struct, kw_only=True, frozen=True):
    """What lists of neighbours depend on of a `schemas.state.counting.Counting`."""

    lag_power: float
    backward: float
    gap: Gap


class Meta(msgspec.Struct, kw_only=True):
    """`positions[p]`: the tables hold exactly the facts of partition p before that offset.

    `landmarks[w]` (s) of window w: a change means that every row of that column was rescaled, and all
    rows are published again.
    """

    version: int
    positions: list[int]
    landmarks: list[float]
    published_at: Millis = 0
    """ms, the roll-up's clock; 0: unknown."""
    money: dict[str, tuple[int, int, int]] = {}
    """ISO 4217 name -> purchases, quantity, and amount in minor units, without what was taken back."""
    waiting_items: int = 0
    """Ids whose facts wait, each partition and UTC day by itself: no item of theirs was put yet."""
    waiting_pairs: int = 0
    """Pairs of actions that wait for an item."""
    unknown_over_limit: int = 0
    """Facts of items that nobody had put, which came after the limits: they count no more."""
    pairs_over_limit: int = 0
    """Pairs of actions, likewise."""
    countings: list[PairCounting] = []
    """Under the first neighbours are listed now; a list that waits may still be of one of the others."""
    lists_waiting: int = 0
    """Lists of neighbours made under an earlier counting: they are published anew with the next versions."""

    @property
    def name(self) -> str:
        """`served_by.tables`: the vector of positions.

        >>> Meta(version=3, positions=[10, 0, 7, 2], landmarks=[]).name
        '10.0.7.2'
        """
        return ".".join(map(str, self.positions))


class Published(msgspec.Struct, kw_only=True):
    """What changed since the version before, as the hashes have it."""

    meta: Meta
    neighbours: dict[int, bytes]
    popularity: dict[int, bytes]
    arms: dict[bytes, bytes] = {}
    """`ARM_KEY` -> `ARM`."""
    experiments: dict[bytes, bytes] = {}
    """`MOMENTS_KEY` -> rows of `MOMENTS`."""


ITEM_KEY: Final = np.dtype("<u8")
"""The key of a row of popularity or of a list of neighbours: the item's hash."""


class Changed(msgspec.Struct, kw_only=True):
    """One entry of the stream: the keys of the rows that changed since the version before, those of one hash
    one after the other."""

    version: int
    neighbours: bytes = b""
    popularity: bytes = b""
    arms: bytes = b""
    experiments: bytes = b""

    @classmethod
    def of(cls, published: Published) -> Changed:
        return cls(
            version=published.meta.version,
            neighbours=item_keys(published.neighbours),
            popularity=item_keys(published.popularity),
            arms=b"".join(published.arms),
            experiments=b"".join(published.experiments),
        )

    def keys(self) -> list[list[bytes]]:
        """Of each of `HASHES` the keys, in their order."""
        return [
            split(getattr(self, name), size) for name, size in zip(HASHES, KEY_BYTES, strict=True)
        ]


HASHES: Final = ("neighbours", "popularity", "arms", "experiments")
"""Fields of `schemas.keys.TablesKeys`: the hashes of rows."""
KEY_BYTES: Final = tuple(it.itemsize for it in (ITEM_KEY, ITEM_KEY, ARM_KEY, MOMENTS_KEY))


def item_keys(items: Collection[int]) -> bytes:
    """The keys of these items, one after the other."""
    return np.fromiter(items, ITEM_KEY, len(items)).tobytes()


def split(data: bytes, size: int) -> list[bytes]:
    """Pieces of `size` bytes each."""
    return [data[at : at + size] for at in range(0, len(data), size)]


FIELD: Final = b"v"
META_DECODER: Final = msgspec.msgpack.Decoder(Meta)
DECODER: Final = msgspec.msgpack.Decoder(Changed)
ENCODER: Final = msgspec.msgpack.Encoder()


def neighbours(value: bytes) -> NDArray[np.void]:
    return np.frombuffer(value, NEIGHBOUR)


def popularity(value: bytes) -> NDArray[np.float64]:
    return np.frombuffer(value, POPULARITY, len(WINDOWS))
