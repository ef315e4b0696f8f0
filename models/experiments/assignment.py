"""Assignment of people to variants: a salted hash into 10,000 buckets, a range of them for each variant.

Variant i of n owns the buckets from floor(i * 10,000 / n) to the start of the next variant, and takes its
share from the lowest one up: a wider share moves no person who was in it (Kohavi, Tang, Xu,
"Trustworthy Online Controlled Experiments", 2020, ch. 14; the fixed ranges are ours).
"""

from __future__ import annotations

import hashlib
from typing import Final

from schemas.alphabet import Pseudonym
from schemas.control import Experiment, Variant

BUCKETS: Final = 10_000


def bucket(salt: str, person: str) -> int:
    """A person's bucket, 0 to 9,999: BLAKE2b (RFC 7693, 64 bits, little-endian) of salt, NUL, person, modulo.

    Neither holds a NUL, so no two pairs are hashed alike; the modulo favours none by more than 1e-15.

    >>> bucket("home-ranker", "01" + 30 * "0")
    9369
    """
    digest = hashlib.blake2b(f"{salt}\0{person}".encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little") % BUCKETS


def buckets(experiment: Experiment, i: int) -> range:
    """The buckets of variant i: its share of all, rounded; all that it owns at a share of 1 / n.

    >>> thirds = tuple(Variant(name=name, share=1 / 3) for name in "abc")
    >>> [buckets(Experiment(placement="home", variants=thirds), i) for i in range(3)]
    [range(0, 3333), range(3333, 6666), range(6666, 10000)]
    """
    n = len(experiment.variants)
    start, end = i * BUCKETS // n, (i + 1) * BUCKETS // n
    # n * (end - start) is 10,000, or up to n - 1 from it where n does not divide 10,000
    width = round(experiment.variants[i].share * n * (end - start))
    return range(start, start + min(width, end - start))


def assign(experiment_id: str, experiment: Experiment, person: Pseudonym) -> Variant | None:
    """The person's variant; None where they are in no variant. It assigns in a paused experiment, too.

    A function of the salt (the id, where the salt is ""), the shares and the person alone.
    """
    number = bucket(experiment.salt or experiment_id, person)
    # the last variant that starts at this bucket or before
    i = ((number + 1) * len(experiment.variants) - 1) // BUCKETS
    return experiment.variants[i] if number in buckets(experiment, i) else None
