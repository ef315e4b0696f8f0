"""The script of limits gives what its plain definition gives."""

from __future__ import annotations

import time

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from infra.settings import Settings
from infra.store import gcra, redis_client
from infra.store.gcra import SECOND, Charge, Charged

SLOW = 1 / 3600
"""A second: nothing comes back while a test runs."""
charges = st.builds(
    Charge,
    key=st.sampled_from([b"lm:{0}:a", b"lm:{0}:b"]),
    rate=st.just(SLOW),
    burst=st.integers(1, 12),
    cost=st.integers(0, 8),
    partial=st.booleans(),
)


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.lists(charges, min_size=1, max_size=3), min_size=1, max_size=8))
def test_the_script_gives_what_the_definition_gives(
    redis_server: str, groups: list[list[Charge]]
) -> None:
    with redis_client.connect(Settings(redis_url=redis_server)) as client:
        client.delete(b"lm:{0}:a", b"lm:{0}:b")
        keys, values = gcra.arguments(groups)
        began = time.time() * SECOND
        found = gcra.charged(client.eval(gcra.SCRIPT, len(keys), *keys, *values), groups)
        client.delete(b"lm:{0}:a", b"lm:{0}:b")
    tats: dict[bytes, float] = {}
    expected = [gcra.charge(tats, group, began) for group in groups]
    for one, other in zip(found, expected, strict=True):
        assert [it[:2] for it in one] == [it[:2] for it in other]
        waits = zip(one, other, strict=True)
        assert all(abs(a.wait_us - b.wait_us) < 10 * SECOND for a, b in waits)


def test_what_is_admitted_is_bounded_whatever_comes() -> None:
    tats: dict[bytes, float] = {}
    admitted, now = 0, 0.0
    for _ in range(2_000):
        now += SECOND / 100
        [done] = gcra.charge(tats, [Charge(b"k", 5.0, 10, 1)], now)
        admitted += done.taken
    assert 10 + 5 * 20 - 1 <= admitted <= 10 + 5 * 20


def test_a_group_is_taken_together_or_not_at_all() -> None:
    tats: dict[bytes, float] = {}
    few, many = Charge(b"few", SLOW, 1, 1), Charge(b"many", SLOW, 5, 1)
    assert [it.taken for it in gcra.charge(tats, [few, many], 0)] == [1, 1]
    assert [it.taken for it in gcra.charge(tats, [few, many], 0)] == [0, 0]
    assert gcra.charge(tats, [many], 0) == [Charged(1, 3, 0)]
    [refused] = gcra.charge(tats, [few], 0)
    assert refused.wait_us == pytest.approx(SECOND / SLOW, rel=1e-6)


def test_a_limit_that_is_met_again_leaves_no_key(redis_server: str) -> None:
    with redis_client.connect(Settings(redis_url=redis_server)) as client:
        keys, values = gcra.arguments([[Charge(b"lm:{0}:c", 100.0, 10, 10)]])
        client.eval(gcra.SCRIPT, 1, *keys, *values)
        assert 0 < client.pttl(b"lm:{0}:c") <= 102
