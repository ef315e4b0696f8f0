"""The settings of Kafka: addresses, security, replication; and what is wrong with them, in one sentence."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Final

import msgspec

DEFAULT_PORT: Final = 9092
MAX_PORT: Final = (1 << 16) - 1
# a name of RFC 1123, an address, or one of IPv6 in brackets; and a port
_SERVER: Final = re.compile(
    r"(?:(?:[\w-]{1,63}\.)*[\w-]{1,63}\.?|\[[0-9A-Fa-f:.]+(?:%[\w.-]+)?\])(?::(?P<port>[0-9]{1,5}))?"
)
PROTOCOLS: Final = ("PLAINTEXT", "SSL", "SASL_PLAINTEXT", "SASL_SSL")
MECHANISMS: Final = ("PLAIN", "SCRAM-SHA-256", "SCRAM-SHA-512")


class KafkaSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Field ``x`` comes from the variable ``X``. The first part of `infra.settings.Settings`."""

    kafka_bootstrap: str = "127.0.0.1:9092"
    """``host:port`` of brokers of Kafka, comma-separated."""
    kafka_security_protocol: str = "PLAINTEXT"
    """How to speak to the brokers: PLAINTEXT, SSL, SASL_PLAINTEXT or SASL_SSL."""
    kafka_sasl_mechanism: str = ""
    """With SASL: PLAIN, SCRAM-SHA-256 or SCRAM-SHA-512."""
    kafka_sasl_username: str = ""
    """The user that SASL names."""
    kafka_sasl_password: str = ""
    """The user's password."""
    kafka_ssl_cafile: str = ""
    """File with the certificates (PEM) of authorities that sign those of the brokers; "" is the system's."""
    kafka_ssl_certfile: str = ""
    """File with our own certificate (PEM), where brokers ask for one; "" is none."""
    kafka_ssl_keyfile: str = ""
    """File with the key (PEM) of that certificate; "" where `kafka_ssl_certfile` holds it, too."""
    kafka_ssl_key_password: str = ""
    """Password of that key; "" is none."""
    kafka_ssl_check_hostname: bool = True
    """Whether a broker's certificate must name the host of its address: true or false."""
    kafka_replication_factor: int = 0
    """Replicas of each topic that this installation creates; 0: 3 where there are three brokers or more,
    else 1."""
    kafka_min_insync_replicas: int = 0
    """So many replicas of such a topic must have a record before it is acknowledged; 0: 2 where the topic has
    three replicas or more, else 1."""


def broker_address(server: str) -> tuple[str, int]:
    """Host and port of ``host:port``, also where a broker says it.

    >>> [broker_address(it) for it in ("one:1234", "[::1]:9093", "::1:9094", "two", "[::2]")]
    [('one', 1234), ('::1', 9093), ('::1', 9094), ('two', 9092), ('::2', 9092)]
    """
    host, _, port = server.rpartition(":")
    if not (host and port.isdecimal()):
        host, port = server, str(DEFAULT_PORT)
    return host.strip("[]"), int(port)


def refusal(settings: KafkaSettings) -> str:
    """The first thing wrong with the settings of Kafka; "" where nothing is. Reads the files they name."""
    if not all(map(_is_server, settings.kafka_bootstrap.split(","))):
        return "KAFKA_BOOTSTRAP takes host:port, several with commas between them ([host]:port for IPv6)"
    if settings.kafka_security_protocol not in PROTOCOLS:
        return f"KAFKA_SECURITY_PROTOCOL takes one of {', '.join(PROTOCOLS)}"
    return _of_sasl(settings) or _of_ssl(settings) or _of_replicas(settings)


def _is_server(text: str) -> bool:
    found = _SERVER.fullmatch(text.strip())
    return found is not None and 0 < int(found["port"] or DEFAULT_PORT) <= MAX_PORT


def _of_sasl(settings: KafkaSettings) -> str:
    given = {
        "KAFKA_SASL_MECHANISM": settings.kafka_sasl_mechanism,
        "KAFKA_SASL_USERNAME": settings.kafka_sasl_username,
        "KAFKA_SASL_PASSWORD": settings.kafka_sasl_password,
    }
    if not settings.kafka_security_protocol.startswith("SASL_"):
        del given["KAFKA_SASL_PASSWORD"]  # a secret may lie ready
        needless = next((name for name, value in given.items() if value), "")
        return needless and (
            f"{needless} is for SASL, and KAFKA_SECURITY_PROTOCOL is"
            f" {settings.kafka_security_protocol}: set it to SASL_SSL or SASL_PLAINTEXT, or leave"
            f" {needless} out"
        )
    if missing := next((name for name, value in given.items() if not value), ""):
        return f"KAFKA_SECURITY_PROTOCOL {settings.kafka_security_protocol} needs {missing}"
    if settings.kafka_sasl_mechanism not in MECHANISMS:
        return f"KAFKA_SASL_MECHANISM takes one of {', '.join(MECHANISMS)}"
    if "\0" in settings.kafka_sasl_username + settings.kafka_sasl_password:
        return "KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD take no NUL character"
    return ""


def _of_ssl(settings: KafkaSettings) -> str:
    files = {
        "KAFKA_SSL_CAFILE": settings.kafka_ssl_cafile,
        "KAFKA_SSL_CERTFILE": settings.kafka_ssl_certfile,
        "KAFKA_SSL_KEYFILE": settings.kafka_ssl_keyfile,
    }
    if not settings.kafka_security_protocol.endswith("SSL"):
        needless = next((name for name, value in files.items() if value), "")
        return needless and (
            f"{needless} is for TLS, and KAFKA_SECURITY_PROTOCOL is"
            f" {settings.kafka_security_protocol}: set it to SSL or SASL_SSL, or leave {needless} out"
        )
    for name, path in files.items():
        if path and (why := _unreadable(path)):
            return f"{name} names a file that cannot be read ({why})"
    if settings.kafka_ssl_keyfile and not settings.kafka_ssl_certfile:
        return "KAFKA_SSL_KEYFILE needs KAFKA_SSL_CERTFILE, the certificate of that key"
    return ssl_refusal(settings)


def _unreadable(path: str) -> str:
    try:
        with Path(path).open("rb"):
            return ""
    except OSError as error:
        return error.strerror or type(error).__name__


def ssl_refusal(settings: KafkaSettings) -> str:
    """What is wrong with the files for TLS, by loading them as a connection does; "" where nothing is."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    if settings.kafka_ssl_cafile:
        try:
            context.load_verify_locations(settings.kafka_ssl_cafile)
        except OSError:  # an SSLError is one
            return "KAFKA_SSL_CAFILE holds no certificate in PEM"
    if not settings.kafka_ssl_certfile:
        return ""
    try:
        context.load_cert_chain(
            settings.kafka_ssl_certfile,
            settings.kafka_ssl_keyfile or None,
            # never None: OpenSSL would ask on the terminal
            settings.kafka_ssl_key_password,
        )
    except OSError as error:
        return _of_pair(settings, error)
    return ""


def _of_pair(settings: KafkaSettings, error: OSError) -> str:
    """Why a certificate and its key cannot be loaded. `error`: OpenSSL's, which names no file."""
    reason = getattr(error, "reason", None) or ""
    if reason == "KEY_VALUES_MISMATCH":
        return "KAFKA_SSL_KEYFILE holds the key of another certificate than KAFKA_SSL_CERTFILE"
    if "PRIVATE KEY-----" not in _text(settings.kafka_ssl_keyfile or settings.kafka_ssl_certfile):
        if settings.kafka_ssl_keyfile:
            return "KAFKA_SSL_KEYFILE holds no key in PEM"
        return "KAFKA_SSL_CERTFILE needs KAFKA_SSL_KEYFILE, since it holds no key itself"
    if "-----BEGIN CERTIFICATE" not in _text(settings.kafka_ssl_certfile):
        return "KAFKA_SSL_CERTFILE holds no certificate in PEM"
    if settings.kafka_ssl_key_password:
        return "KAFKA_SSL_KEY_PASSWORD does not open the key of KAFKA_SSL_CERTFILE"
    return (
        "the key of KAFKA_SSL_CERTFILE cannot be read: has it a password (KAFKA_SSL_KEY_PASSWORD)?"
    )


def _text(path: str) -> str:
    return Path(path).read_text("latin-1")


def _of_replicas(settings: KafkaSettings) -> str:
    replicas, in_sync = settings.kafka_replication_factor, settings.kafka_min_insync_replicas
    if not 0 <= replicas < 1 << 15:
        return "KAFKA_REPLICATION_FACTOR must be 0 (by the number of brokers) or more"
    if in_sync < 0:
        return "KAFKA_MIN_INSYNC_REPLICAS must be 0 (by the number of replicas) or more"
    if replicas and in_sync > replicas:
        return (
            f"KAFKA_MIN_INSYNC_REPLICAS is {in_sync} of {replicas} replicas (KAFKA_REPLICATION_FACTOR): no"
            " record would ever be acknowledged"
        )
    return ""
