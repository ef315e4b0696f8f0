"""Settings that cannot work are refused at the start: the variable's name, never its value."""

from __future__ import annotations

import pytest

from infra.settings import BadSetting, from_environment


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FRESHET_PARTITIONS", "0"),
        ("FRESHET_PORT", "70000"),
        ("FRESHET_PORT", "eighty"),
        ("FRESHET_PSEUDONYM_KEYS", "1:s3cret"),
        ("KAFKA_BOOTSTRAP", ""),
        ("KAFKA_BOOTSTRAP", "s3cret:9092,"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "s3cret:6379"),
        ("REDIS_URL", "redis://s3cret:port/0"),
    ],
)
def test_what_cannot_work_is_refused(variable: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"^{variable} ") as error:
        from_environment({variable: value})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "url", ["redis://cache", "rediss://me:pw@cache:6380/2", "unix:///run/redis.sock"]
)
def test_every_kind_of_redis_url_is_taken(url: str) -> None:
    assert from_environment({"REDIS_URL": url}).redis_url == url


def test_a_patience_too_short_for_a_sign_of_life_a_second_is_refused() -> None:
    with pytest.raises(BadSetting, match="FRESHET_HANG_SECONDS must be 0"):
        from_environment({"FRESHET_HANG_SECONDS": "1"})
    assert from_environment({"FRESHET_HANG_SECONDS": "0"}).hang_seconds == 0
