"""Settings of Kafka's security and replication: what cannot work is a sentence at the start."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

from infra.configuration import environment_settings
from infra.kafka.security import client_options, ssl_context
from infra.settings import BadSetting, Settings, from_environment, to_environment
from tests.support.certificates import Authority

ROOT = Path(__file__).resolve().parents[3]
SASL = {
    "KAFKA_SECURITY_PROTOCOL": "SASL_SSL",
    "KAFKA_SASL_MECHANISM": "SCRAM-SHA-512",
    "KAFKA_SASL_USERNAME": "a,b=c",
    "KAFKA_SASL_PASSWORD": "s3cret",
}


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Authority:
    return Authority(tmp_path_factory.mktemp("certificates"))


def refused(match: str, **environment: str) -> None:
    with pytest.raises(BadSetting, match=match) as error:
        from_environment(environment)
    assert "s3cret" not in str(error.value)


def without(name: str) -> dict[str, str]:
    return {key: value for key, value in SASL.items() if key != name}


@pytest.mark.parametrize(
    ("environment", "match"),
    [
        (
            {"KAFKA_SECURITY_PROTOCOL": "TLS"},
            "^KAFKA_SECURITY_PROTOCOL takes one of PLAINTEXT, SSL,",
        ),
        (without("KAFKA_SASL_MECHANISM"), "SASL_SSL needs KAFKA_SASL_MECHANISM$"),
        (without("KAFKA_SASL_USERNAME"), "SASL_SSL needs KAFKA_SASL_USERNAME$"),
        (without("KAFKA_SASL_PASSWORD"), "SASL_SSL needs KAFKA_SASL_PASSWORD$"),
        (
            without("KAFKA_SECURITY_PROTOCOL"),
            "^KAFKA_SASL_MECHANISM is for SASL, and KAFKA_SECURITY",
        ),
        (
            {**SASL, "KAFKA_SASL_MECHANISM": "OAUTHBEARER"},
            "^KAFKA_SASL_MECHANISM takes one of PLAIN,",
        ),
        ({**SASL, "KAFKA_SASL_PASSWORD": "s3cret\0"}, "take no NUL character$"),
        (
            {**SASL, "KAFKA_SSL_CHECK_HOSTNAME": "maybe"},
            "^KAFKA_SSL_CHECK_HOSTNAME must be true or f",
        ),
        (
            {"KAFKA_SSL_CAFILE": "/ca.pem"},
            "^KAFKA_SSL_CAFILE is for TLS, and KAFKA_SECURITY_PROTOCOL",
        ),
        ({"KAFKA_REPLICATION_FACTOR": "-1"}, "^KAFKA_REPLICATION_FACTOR must be 0"),
        ({"KAFKA_REPLICATION_FACTOR": "2", "KAFKA_MIN_INSYNC_REPLICAS": "3"}, "is 3 of 2 replicas"),
        (
            {"KAFKA_SASL_USER": "me"},
            "^KAFKA_SASL_USER is no setting, did you mean KAFKA_SASL_USERNAME",
        ),
        ({"KAFKA_SSL_CA_FILE": "x"}, "is no setting, did you mean KAFKA_SSL_CAFILE"),
        ({"KAFKA_SECURITY_PROTOCOLL": "x"}, "did you mean KAFKA_SECURITY_PROTOCOL"),
    ],
)
def test_what_cannot_work_is_refused(environment: dict[str, str], match: str) -> None:
    refused(match, **environment)


def test_files_that_cannot_be_used_are_refused(authority: Authority, tmp_path: Path) -> None:
    text = tmp_path / "text.pem"
    text.write_text("no PEM")
    ours, other = authority.issue("ours"), authority.issue("other")
    locked = authority.issue("locked", password="s3cret")
    only_certificate = tmp_path / "certificate.pem"
    only_certificate.write_text(
        "-----BEGIN CERT" + ours.read_text().partition("-----BEGIN CERT")[2]
    )
    for match, files in (
        ("KAFKA_SSL_CAFILE names a file that cannot be read .No such file", {"CAFILE": "/absent"}),
        ("KAFKA_SSL_CAFILE names a file that cannot be read .Is a directory", {"CAFILE": "/"}),
        ("KAFKA_SSL_CAFILE holds no certificate in PEM", {"CAFILE": text}),
        ("KAFKA_SSL_KEYFILE needs KAFKA_SSL_CERTFILE", {"KEYFILE": ours}),
        ("KAFKA_SSL_CERTFILE needs KAFKA_SSL_KEYFILE", {"CERTFILE": only_certificate}),
        ("KAFKA_SSL_CERTFILE holds no certificate in PEM", {"CERTFILE": text, "KEYFILE": ours}),
        ("KAFKA_SSL_KEYFILE holds no key in PEM", {"CERTFILE": ours, "KEYFILE": text}),
        ("holds the key of another certificate", {"CERTFILE": ours, "KEYFILE": other}),
        ("has it a password .KAFKA_SSL_KEY_PASSWORD", {"CERTFILE": locked}),
        ("KEY_PASSWORD does not open the key", {"CERTFILE": locked, "KEY_PASSWORD": "s3cret?"}),
    ):
        given = {f"KAFKA_SSL_{name}": str(value) for name, value in files.items()}
        refused(match, KAFKA_SECURITY_PROTOCOL="SSL", **given)
    from_environment(
        {
            "KAFKA_SECURITY_PROTOCOL": "SSL",
            "KAFKA_SSL_CAFILE": str(authority.path),
            "KAFKA_SSL_CERTFILE": str(locked),
            "KAFKA_SSL_KEY_PASSWORD": "s3cret",
        }
    )


def test_variables_of_others_that_begin_with_kafka_are_left_alone() -> None:
    assert from_environment({"KAFKA_HEAP_OPTS": "-Xmx1g", "KAFKA_CFG_NODE_ID": "0"}) == Settings()


def test_secrets_go_to_children_and_are_never_shown(authority: Authority) -> None:
    environment = {
        **SASL,
        "KAFKA_SSL_CAFILE": str(authority.path),
        "KAFKA_SSL_KEY_PASSWORD": "s3cret",
    }
    settings = from_environment(environment)
    assert from_environment(to_environment(settings)) == settings
    shown = {it.variable: it for it in environment_settings(environment)}
    assert shown["KAFKA_SASL_USERNAME"].value == "a,b=c"
    assert "s3cret" not in str(shown)
    assert shown["KAFKA_SASL_PASSWORD"].value == shown["KAFKA_SSL_KEY_PASSWORD"].value == "***"
    assert all(it.description for it in shown.values())


def test_a_name_is_escaped_for_scram_alone(authority: Authority) -> None:
    scram = from_environment({**SASL, "KAFKA_SSL_CAFILE": str(authority.path)})
    assert client_options(scram)["sasl_plain_username"] == "a=2Cb=3Dc"
    plain = from_environment({**SASL, "KAFKA_SASL_MECHANISM": "PLAIN"})
    assert client_options(plain)["sasl_plain_username"] == "a,b=c"
    assert client_options(Settings()) == {"security_protocol": "PLAINTEXT"}


def test_a_file_that_is_renewed_is_used(authority: Authority, tmp_path: Path) -> None:
    file = tmp_path / "ca.pem"
    file.write_bytes(authority.path.read_bytes())
    settings = Settings(kafka_security_protocol="SSL", kafka_ssl_cafile=str(file))
    first = ssl_context(settings)
    assert ssl_context(settings) is first
    renewed = Authority(tmp_path, "renewed")
    file.write_bytes(renewed.path.read_bytes())
    names = [it["subject"] for it in ssl_context(settings).get_ca_certs()]
    assert names == [((("commonName", "renewed"),),)]


def calls() -> Iterator[tuple[Path, str]]:
    """Every call of a class of kafka-python that connects, in our programs."""
    for package in ("schemas", "models", "infra", "flows", "serving"):
        for path in (ROOT / package).rglob("*.py"):
            text = path.read_text()
            for node in ast.walk(ast.parse(text)) if "Kafka" in text else ():
                if isinstance(node, ast.Call):
                    name = ast.unparse(node.func).rpartition(".")[2]
                    if name in (
                        "KafkaProducer",
                        "KafkaConsumer",
                        "KafkaAdminClient",
                        "KafkaClient",
                    ):
                        yield path.relative_to(ROOT), name


def test_every_client_of_kafka_is_made_in_one_place() -> None:
    """There it gets the options of security: a client made elsewhere would connect in the clear."""
    assert {path.as_posix() for path, _ in calls()} == {"infra/kafka/kafka_client.py"}


def test_no_flow_reads_or_writes_by_a_connector_of_bytewax() -> None:
    for path in (ROOT / "flows").rglob("*.py"):
        assert "bytewax.connectors.kafka" not in path.read_text(), path
