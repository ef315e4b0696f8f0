"""Many keys at once have the partitions that each has by itself."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from schemas.identity import partition_of
from serving.log.key_partitions import MIN_KEYS, partitions_of

KEYS = st.integers(0, 40).flatmap(
    lambda size: st.lists(
        st.binary(min_size=size, max_size=size), min_size=0, max_size=3 * MIN_KEYS
    )
)


@given(KEYS | st.lists(st.binary(max_size=40), max_size=2 * MIN_KEYS), st.integers(1, 2000))
def test_many_keys_have_the_partitions_that_each_has_alone(
    keys: list[bytes], partitions: int
) -> None:
    assert partitions_of(keys, partitions) == [partition_of(key, partitions) for key in keys]


@given(st.binary(min_size=26, max_size=26), st.integers(1, 2000))
def test_a_batch_of_one_length_is_hashed_alike(key: bytes, partitions: int) -> None:
    keys = [key[n % 26 :] + key[: n % 26] for n in range(2 * MIN_KEYS)]
    assert partitions_of(keys, partitions) == [partition_of(key, partitions) for key in keys]
