"""Who gets which variant: a salted hash into 10,000 buckets, a range of them for each variant.

Variant i of n owns the buckets from floor(i * 10,000 / n) to where the next begins, and takes its share
of them from its own left edge: whoever widens a share moves nobody who was in (Kohavi, Tang, Xu,
"Trustworthy Online Controlled Experiments", 2020, ch. 14; the fixed edges are ours).
"""

from __future__ import annotations

import hashlib
from typing import Final

from schemas.alphabet import Pseudonym
from schemas.control import Experiment, Variant

BUCKETS: Final = 10_000


def bucket(salt: str, person: str) -> int:
    """In 0 to 9,999: BLAKE2b (RFC 7693, 64 bits, little-endian) of salt, NUL, person, modulo 10,000.

    Neither holds a NUL, so no two pairs are hashed alike; the modulo favours none by more than 1e-15.

    >>> bucket("home-ranker", "01" + 30 * "0")
    9369
    """
    digest = hashlib.blake2b(f"{salt}\0{person}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % BUCKETS


def buckets(experiment: Experiment, i: int) -> range:
    """Those of variant i: its share of all, rounded, and all that are its own at a share of 1 / n.

    >>> thirds = tuple(Variant(name=name, share=1 / 3) for name in "abc")
    >>> [buckets(Experiment(placement="home", variants=thirds), i) for i in range(3)]
    [range(0, 3333), range(3333, 6666), range(6666, 10000)]
    """
    n = len(experiment.variants)
    start, end = i * BUCKETS // n, (i + 1) * BUCKETS // n
    # n * (end - start) is 10,000, but for less than n where n does not divide it
    width = round(experiment.variants[i].share * n * (end - start))
    return range(start, start + min(width, end - start))


def assign(experiment_id: str, experiment: Experiment, person: Pseudonym) -> Variant | None:
    """None where they are in no variant. Whether the experiment runs is not asked.

    A function of salt (the id, where there is none), shares and person: asked again it answers the same.
    """
    number = bucket(experiment.salt or experiment_id, person)
    # the last variant that starts at it or before
    i = ((number + 1) * len(experiment.variants) - 1) // BUCKETS
    return experiment.variants[i] if number in buckets(experiment, i) else None
