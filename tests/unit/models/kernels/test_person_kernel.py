"""People's vectors by the kernel are those of numpy, to the bit, whatever bytes a row has."""

from __future__ import annotations

from typing import Final

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from models.features.registry import ROW
from models.kernels.loading import kernel, missing
from models.release.person import Encoder
from models.release.release import Space
from tests.laws.test_vector_laws import space

pytestmark = pytest.mark.skipif(kernel is None, reason=missing)

SPACES: Final = [space(n) for n in (0, 1, 300)]
COUNTS: Final = (0, 1, 2, 19, 20, 21, 49, 50, 51, 2**32 - 1)


def rows(seed: int, people: int, known: Space) -> NDArray[np.void]:
    """Random bytes, with items of the space among the items."""
    random = np.random.default_rng(seed)
    made = np.frombuffer(random.bytes(people * ROW.itemsize), ROW).copy()
    made["n"] = random.choice(COUNTS, people)
    if len(known.hashes):
        item = made["ring"]["item"]
        made["ring"]["item"] = np.where(
            random.random(item.shape) < 0.7, random.choice(known.hashes, item.shape), item
        )
    made["ring"]["item"][random.random(made["ring"].shape) < 0.05] = 2**64 - 1  # ends the table
    made["ring"]["action"] = random.integers(0, 20, made["ring"]["action"].shape)
    return made


@given(st.integers(0, 2**32), st.integers(0, 9), st.sampled_from(SPACES))
def test_vectors_by_the_kernel(seed: int, people: int, known: Space) -> None:
    encoder, held = Encoder("r1", known), rows(seed, people, known)
    found, wanted = encoder.encode(held), encoder.encode_by_numpy(held)
    for one, other in zip(found, wanted, strict=True):
        assert (one.dtype, one.tobytes()) == (other.dtype, other.tobytes())
