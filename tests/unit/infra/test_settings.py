"""Settings that cannot work are refused at the start by the variable's name, never its value."""

from __future__ import annotations

from pathlib import Path

import pytest

from infra.heartbeat import BEAT_VARIABLE
from infra.local.find import find
from infra.local.plan import child_environment
from infra.local.supervisor import HANDOVER_VARIABLE
from infra.log_files import LOG_VARIABLE
from infra.settings import (
    FILES,
    VARIABLES,
    BadSetting,
    from_environment,
    from_record,
    to_environment,
)
from infra.variables import OTHER_VARIABLES
from models.kernels import loading


@pytest.mark.parametrize(
    ("variable", "value"),
    [
        ("FRESHET_PARTITIONS", "0"),
        ("FRESHET_PORT", "70000"),
        ("FRESHET_PORT", "eighty"),
        ("FRESHET_PSEUDONYM_KEYS", "1:s3cret"),
        ("KAFKA_BOOTSTRAP", ""),
        ("KAFKA_BOOTSTRAP", "s3cret:9092,"),
        ("KAFKA_BOOTSTRAP", "s3cret:port"),
        ("KAFKA_BOOTSTRAP", "s3cret:0"),
        ("KAFKA_BOOTSTRAP", "s3cret:70000"),
        ("KAFKA_BOOTSTRAP", "s3cret..example:9092"),
        ("KAFKA_BOOTSTRAP", f"{'s3cret' * 11}:9092"),
        ("KAFKA_BOOTSTRAP", "SASL_SSL://s3cret:9092"),
        ("KAFKA_BOOTSTRAP", "::1"),
        ("KAFKA_BOOTSTRAP", f"{'s3cret' * 10_000}!"),
        ("FRESHET_TOPIC_PREFIX", "s3cret/"),
        ("FRESHET_TOPIC_PREFIX", "Shop."),
        ("FRESHET_TOPIC_PREFIX", "{s3cret}"),
        ("FRESHET_TOPIC_PREFIX", "shop.\n"),
        ("FRESHET_TOPIC_PREFIX", 33 * "a"),
        ("REDIS_URL", ""),
        ("REDIS_URL", "s3cret:6379"),
        ("REDIS_URL", "redis://s3cret:port/0"),
        ("FRESHET_RATING_SCALE", "5,1"),
        ("FRESHET_RATING_SCALE", "1"),
        ("FRESHET_RATING_SCALE", "1,5,6"),
        ("FRESHET_RATING_SCALE", "1,5,3,3"),
        ("FRESHET_RATING_SCALE", "nan,5"),
        ("FRESHET_RATING_SCALE", "1,inf"),
        ("FRESHET_RATING_SCALE", "one,s3cret"),
        ("FRESHET_NOT_IDS", "guest,s3cret\n1"),
        ("FRESHET_RETRIEVAL", "s3cret"),
        ("FRESHET_HOSTS", "https://s3cret.example"),
        ("FRESHET_HOSTS", "shop.example,s3cret:http"),
        ("FRESHET_ORIGINS", "https://s3cret.example/"),
        ("FRESHET_ORIGINS", "null"),
        ("FRESHET_PUBLIC_URL", "https://s3cret@api.example"),
        ("FRESHET_TOKEN", "s3cret of 16 bytes"),
        ("FRESHET_TOKEN", "s3cret"),
        ("FRESHET_ALGORITHMS", "RS256,HS256"),
        ("FRESHET_AUDIENCE", ""),
        ("FRESHET_AUTH", "s3cret"),
    ],
)
def test_a_setting_that_cannot_work_is_refused(variable: str, value: str) -> None:
    with pytest.raises(BadSetting, match=f"^{variable} ") as error:
        from_environment({variable: value})
    assert "s3cret" not in str(error.value)


@pytest.mark.parametrize(
    "issuer",
    [
        "urn:freshet:home",
        "s3cret",
        "http://s3cret.example",
        "https://s3cret@id.example",
        "https://id.example?s3cret",
        "https://id.example\n",
        "https://[::1",
    ],
)
def test_an_issuer_is_a_url_of_https(issuer: str) -> None:
    with pytest.raises(BadSetting, match=r"^FRESHET_ISSUER takes the https URL") as error:
        from_environment({"FRESHET_ISSUER": issuer, "FRESHET_JWKS": "keys.json"})
    assert "s3cret" not in str(error.value)


def test_keys_come_from_a_path_by_https_or_from_this_machine() -> None:
    for jwks in ("keys.json", "https://id.example/keys", "http://localhost:8000/keys"):
        environment = {"FRESHET_ISSUER": "https://id.example", "FRESHET_JWKS": jwks}
        assert from_environment(environment).jwks == jwks
    for jwks in ("http://id.example/keys", "ftp://id.example/keys", "http://localhost.evil/"):
        with pytest.raises(BadSetting, match=r"^FRESHET_JWKS takes https"):
            from_environment({"FRESHET_ISSUER": "https://id.example", "FRESHET_JWKS": jwks})


def test_addresses_of_brokers_are_names_or_numbers() -> None:
    given = "kafka, a_b-1.svc.example.:9092,127.0.0.1:1,[::1]:9093,[fe80::1%eth0]"
    assert from_environment({"KAFKA_BOOTSTRAP": given}).kafka_bootstrap == given


def test_a_scale_and_words_that_are_no_ids_are_read() -> None:
    assert from_environment({}).scale == (1, 5)
    given = from_environment(
        {"FRESHET_RATING_SCALE": "0, 10, 6.5", "FRESHET_NOT_IDS": "0, Guest,,"}
    )
    assert given.scale == (0, 10, 6.5)
    assert given.refused_ids == {"0", "guest"}


@pytest.mark.parametrize(
    "url", ["redis://cache", "rediss://me:pw@cache:6380/2", "unix:///run/redis.sock"]
)
def test_every_kind_of_redis_url_is_taken(url: str) -> None:
    assert from_environment({"REDIS_URL": url}).redis_url == url


def test_a_patience_too_short_for_a_sign_of_life_a_second_is_refused() -> None:
    with pytest.raises(BadSetting, match="FRESHET_HANG_SECONDS must be 0"):
        from_environment({"FRESHET_HANG_SECONDS": "1"})
    assert from_environment({"FRESHET_HANG_SECONDS": "0"}).hang_seconds == 0


@pytest.mark.parametrize(
    ("variable", "sentence"),
    [
        ("FRESHET_TOKN", "FRESHET_TOKN is no setting, did you mean FRESHET_TOKEN?"),
        ("FRESHET_TOKEN_FIL", "FRESHET_TOKEN_FIL is no setting, did you mean FRESHET_TOKEN_FILE?"),
        ("FRESHET_ROLLUP", "FRESHET_ROLLUP is no setting, did you mean FRESHET_ROLLUP_SECONDS?"),
        ("FRESHET_XYZZY", "FRESHET_XYZZY is no setting:"),
        ("FRESHET_PORT_FILE", "FRESHET_PORT_FILE is no setting, did you mean FRESHET_PORT?"),
    ],
)
def test_a_misspelt_variable_is_refused_with_the_nearest_name(variable: str, sentence: str) -> None:
    with pytest.raises(BadSetting) as error:
        from_environment({variable: "s3cret"})
    assert str(error.value) == f"{sentence} `freshet config` lists all of them"
    with pytest.raises(BadSetting, match=variable):
        find(None, {variable: "s3cret"})


def test_other_variables_of_ours_are_no_misspelt_settings() -> None:
    ours = {BEAT_VARIABLE, LOG_VARIABLE, HANDOVER_VARIABLE, loading.VARIABLE, "FRESHET_URL"}
    assert ours == set(OTHER_VARIABLES)
    assert from_environment(dict.fromkeys(OTHER_VARIABLES, "x")) == from_environment({})


def test_what_a_system_of_another_version_noted_is_taken() -> None:
    """Its `up.json` may name a setting that this version does not have."""
    noted = {"FRESHET_PARTITIONS": "8", "FRESHET_OF_ANOTHER_VERSION": "1"}
    assert from_record(noted).partitions == 8


def test_what_kubernetes_sets_for_a_service_of_our_name_is_passed_over() -> None:
    links = {
        "FRESHET_SERVICE_HOST": "10.0.0.1",
        "FRESHET_SERVICE_PORT": "8080",
        "FRESHET_SERVICE_PORT_HTTP": "8080",
        "FRESHET_PORT_8080_TCP": "tcp://10.0.0.1:8080",
        "FRESHET_PORT_8080_TCP_PROTO": "tcp",
        "FRESHET_PORT_8080_TCP_PORT": "8080",
        "FRESHET_PORT_8080_TCP_ADDR": "10.0.0.1",
        "FRESHET_SERVING_SERVICE_HOST": "10.0.0.2",
        "FRESHET_SERVING_PORT": "tcp://10.0.0.2:8080",
        "FRESHET_SERVING_PORT_8080_TCP": "tcp://10.0.0.2:8080",
    }
    assert from_environment(links) == from_environment({})


@pytest.mark.parametrize("variable", ["FRESHET_PORT", "FRESHET_METRICS_PORT"])
def test_a_setting_that_kubernetes_sets_for_a_service_names_the_remedy(variable: str) -> None:
    """Of a service named `freshet`, or `freshet-metrics`: the names are the same as ours."""
    with pytest.raises(BadSetting, match=f"^{variable} .* enableServiceLinks: false") as error:
        from_environment({variable: "tcp://10.0.0.1:8080"})
    assert "10.0.0.1" not in str(error.value)


@pytest.mark.parametrize("field", FILES)
@pytest.mark.parametrize("end", ["", "\n", "\r\n"])
def test_a_secret_is_read_from_a_file(tmp_path: Path, field: str, end: str) -> None:
    value = {
        "redis_url": "redis://:s3cret@cache:6379/0",
        "pseudonym_keys": "7:" + "ab" * 16,
        "token": "s3cret-of-16-bytes",
    }
    (tmp_path / "secret").write_bytes((value.get(field, "s3cret ") + end).encode())
    given = {FILES[field]: str(tmp_path / "secret"), VARIABLES["partitions"]: "3"}
    settings = from_environment(given)
    assert getattr(settings, field) == value.get(field, "s3cret ")
    # an empty variable is none, as Compose sets it where nothing is given
    assert from_environment({**given, VARIABLES[field]: ""}) == settings


@pytest.mark.parametrize("field", FILES)
def test_a_secret_given_twice_or_in_a_missing_file_is_refused(tmp_path: Path, field: str) -> None:
    file, variable, path = FILES[field], VARIABLES[field], tmp_path / "s3cret"
    remedy = f"^{file} names .* or set {variable}$"

    def refused(match: str, **given: str) -> None:
        with pytest.raises(BadSetting, match=match) as error:
            from_environment({file: str(path), **given})
        assert "s3cret" not in str(error.value)

    refused(remedy)
    path.write_text("\n")
    refused(remedy)
    path.write_bytes(b"\xff s3cret")
    refused(remedy)
    path.write_text("s3cret")
    refused(f"^{file} and {variable} are both given", **{variable: "redis://s3cret"})


def test_a_child_gets_the_value_and_not_the_file_once_more(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("s3cret-of-16-bytes\n")
    monkeypatch.setenv("FRESHET_TOKEN_FILE", str(tmp_path / "token"))
    settings = from_environment()
    child = child_environment(settings)
    assert from_environment(child) == settings
    assert [name for name, value in child.items() if "s3cret" in value] == ["FRESHET_TOKEN"]


@pytest.mark.parametrize(
    "name", ["sh{op", "a/b", "a" * 17, "Shop", "shop\n", "shöp", "a.b", " ", "*"]
)
def test_a_namespace_that_breaks_the_hash_tag_is_refused(name: str) -> None:
    with pytest.raises(
        BadSetting, match=r"^FRESHET_NAMESPACE takes 1 to 16 of a-z, 0-9 and -"
    ) as error:
        from_environment({"FRESHET_NAMESPACE": name})
    assert "leave it unset" in str(error.value)


def test_a_namespace_is_in_every_key_of_the_installation() -> None:
    for name in ("shop", "a" * 16, "3", "eu-1"):
        settings = from_environment({"FRESHET_NAMESPACE": name})
        assert settings.keyspace.items(0) == b"i:{%b/0}" % name.encode()
        assert from_environment(to_environment(settings)) == settings
    assert from_environment({}).keyspace.items(0) == b"i:{0}"
