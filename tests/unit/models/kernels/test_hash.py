"""Hashes in C against the packages that Python takes."""

from __future__ import annotations

import hashlib
import random

import pytest
import xxhash
from hypothesis import given
from hypothesis import strategies as st

from models.kernels.loading import kernel, missing

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


@given(st.binary(max_size=600), st.integers(1, 8))
def test_blake2b_is_the_librarys(data: bytes, size: int) -> None:
    assert kernel is not None
    digest = hashlib.blake2b(data, digest_size=size).digest()
    assert kernel.lib.hash_blake2b(data, len(data), size) == int.from_bytes(digest, "little")


def test_blake2b_is_the_librarys_at_every_length() -> None:
    """To beyond two blocks of 128 bytes."""
    assert kernel is not None
    data = random.Random(1).randbytes(300)
    for n in range(len(data)):
        digest = hashlib.blake2b(data[:n], digest_size=8).digest()
        assert kernel.lib.hash_blake2b(data[:n], n, 8) == int.from_bytes(digest, "little")
