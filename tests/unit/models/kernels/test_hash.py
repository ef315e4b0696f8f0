"""Hashes in C against the packages that Python takes."""

from __future__ import annotations

import random

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from models.kernels import kernel, missing

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)
SEEDS = st.integers(0, 2**64 - 1)


@given(st.binary(max_size=600), SEEDS)
def test_xxh3_is_the_packages(data: bytes, seed: int) -> None:
    assert kernel is not None
    assert kernel.lib.hash_xxh3(data, len(data), seed) == xxhash.xxh3_64_intdigest(data, seed)


def test_xxh3_is_the_packages_at_every_length() -> None:
    """To beyond two blocks of 1,024 bytes."""
    assert kernel is not None
    data = random.Random(1).randbytes(2_200)
    for n in range(len(data)):
        whole = data[:n]
        assert kernel.lib.hash_xxh3(whole, n, n) == xxhash.xxh3_64_intdigest(whole, n)
        assert kernel.lib.hash_xxh3(whole, n, 0) == xxhash.xxh3_64_intdigest(whole)
