"""How Freshet speaks to a broker: by TLS or in the clear, with SASL or without. What an operator must mend
there is a sentence, for every client alike."""

from __future__ import annotations

import ssl
from functools import lru_cache
from pathlib import Path
from typing import Any, Final

from infra.kafka_settings import ssl_refusal
from infra.settings import Settings
from schemas.errors import ConfigurationError

# X509_V_ERR_... of OpenSSL's x509_vfy.h
_OTHER_NAME: Final = (62, 64)
_EXPIRED: Final = 10
_NOT_YET_VALID: Final = 9


class KafkaSecurityError(ConfigurationError):
    """A broker and this installation do not agree on TLS or SASL: no waiting mends it."""


def uses_ssl(settings: Settings) -> bool:
    return settings.kafka_security_protocol.endswith("SSL")


def uses_sasl(settings: Settings) -> bool:
    return settings.kafka_security_protocol.startswith("SASL_")


def client_options(settings: Settings) -> dict[str, Any]:
    """Options of every client of kafka-python. Errors: `KafkaSecurityError` where a file for TLS is gone."""
    options: dict[str, Any] = {"security_protocol": settings.kafka_security_protocol}
    if uses_ssl(settings):
        options["ssl_context"] = ssl_context(settings)
    return options | (sasl_options(settings) if uses_sasl(settings) else {})


def sasl_options(settings: Settings) -> dict[str, str]:
    """Options of kafka-python's SASL mechanisms."""
    name = settings.kafka_sasl_username
    if settings.kafka_sasl_mechanism.startswith("SCRAM"):
        # RFC 5802, section 5.1: kafka-python writes a name as it is
        name = name.replace("=", "=3D").replace(",", "=2C")
    return {
        "sasl_mechanism": settings.kafka_sasl_mechanism,
        "sasl_plain_username": name,
        "sasl_plain_password": settings.kafka_sasl_password,
    }


def ssl_context(settings: Settings) -> ssl.SSLContext:
    """What TLS connections are made with; made anew where one of its files has changed.

    Errors: `KafkaSecurityError` where a file cannot be used any more.
    """
    files = (settings.kafka_ssl_cafile, settings.kafka_ssl_certfile, settings.kafka_ssl_keyfile)
    try:
        changed = tuple(Path(file).stat().st_mtime_ns for file in files if file)
        return _context(settings, changed)
    except OSError as error:
        raise KafkaSecurityError(
            ssl_refusal(settings) if isinstance(error, ssl.SSLError) else f"a file for TLS: {error}"
        ) from None


@lru_cache(maxsize=4)
def _context(settings: Settings, changed: tuple[int, ...]) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = settings.kafka_ssl_check_hostname
    if settings.kafka_ssl_cafile:
        context.load_verify_locations(settings.kafka_ssl_cafile)
    else:
        context.load_default_certs()
    if settings.kafka_ssl_certfile:
        context.load_cert_chain(
            settings.kafka_ssl_certfile,
            settings.kafka_ssl_keyfile or None,
            settings.kafka_ssl_key_password,
        )
    return context


def of_ssl(error: ssl.SSLError, address: str, settings: Settings) -> KafkaSecurityError:
    """The sentence for an error of TLS with the broker at `address`."""
    if isinstance(error, ssl.SSLCertVerificationError):
        return _of_certificate(error.verify_code, error.verify_message, address)
    reason = (error.reason or "").upper()
    if reason in ("WRONG_VERSION_NUMBER", "HTTP_REQUEST", "RECORD_LAYER_FAILURE"):
        return speaks_plaintext(address)
    refused = any(
        word in reason
        # the last one: of another authority of the same name
        for word in ("ALERT_UNKNOWN_CA", "BAD_CERTIFICATE", "CERTIFICATE_", "DECRYPT_ERROR")
    )
    # Kafka calls a certificate bad that we did not send
    if "CERTIFICATE_REQUIRED" in reason or (refused and not settings.kafka_ssl_certfile):
        return KafkaSecurityError(
            f"the broker at {address} asks for a certificate of ours",
            remedy="set KAFKA_SSL_CERTFILE and KAFKA_SSL_KEYFILE",
        )
    if refused:
        return KafkaSecurityError(
            f"the broker at {address} refuses our certificate ({reason})",
            remedy="give it the certificate's authority, or set KAFKA_SSL_CERTFILE to one that it takes",
        )
    return KafkaSecurityError(
        f"TLS with the broker at {address} failed ({reason or 'no reason given'})",
        remedy="are KAFKA_BOOTSTRAP, KAFKA_SECURITY_PROTOCOL and the KAFKA_SSL_ files right?",
    )


def _of_certificate(code: int, message: str, address: str) -> KafkaSecurityError:
    if code in _OTHER_NAME:
        return KafkaSecurityError(
            f"the certificate of the broker at {address} is of another name",
            remedy="name the host in KAFKA_BOOTSTRAP (and in the broker's advertised.listeners) as the"
            " certificate does; or set KAFKA_SSL_CHECK_HOSTNAME=false",
        )
    if code == _EXPIRED:
        return KafkaSecurityError(
            f"the certificate of the broker at {address} has expired", remedy="renew it"
        )
    if code == _NOT_YET_VALID:
        return KafkaSecurityError(
            f"the certificate of the broker at {address} is not valid yet",
            remedy="is the clock of this machine right?",
        )
    return KafkaSecurityError(
        f"the certificate of the broker at {address} is of no authority that is known here ({message})",
        remedy="set KAFKA_SSL_CAFILE to a file with the authority's certificate",
    )


def speaks_plaintext(address: str) -> KafkaSecurityError:
    return KafkaSecurityError(
        f"the broker at {address} speaks no TLS",
        remedy="set KAFKA_SECURITY_PROTOCOL to PLAINTEXT or SASL_PLAINTEXT, or KAFKA_BOOTSTRAP to a"
        " listener with TLS",
    )


def speaks_ssl(address: str) -> KafkaSecurityError:
    return KafkaSecurityError(
        f"the broker at {address} speaks TLS",
        remedy="set KAFKA_SECURITY_PROTOCOL to SSL or SASL_SSL, or KAFKA_BOOTSTRAP to a listener without"
        " TLS",
    )


def wants_sasl(address: str) -> KafkaSecurityError:
    return KafkaSecurityError(
        f"the broker at {address} wants SASL",
        remedy="set KAFKA_SECURITY_PROTOCOL to SASL_SSL or SASL_PLAINTEXT, and KAFKA_SASL_MECHANISM,"
        " KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD",
    )


def wants_no_sasl(address: str) -> KafkaSecurityError:
    return KafkaSecurityError(
        f"the listener of the broker at {address} has no SASL",
        remedy="set KAFKA_SECURITY_PROTOCOL to SSL or PLAINTEXT, or KAFKA_BOOTSTRAP to a listener with SASL",
    )


def other_mechanism(address: str, ours: str, offered: list[str]) -> KafkaSecurityError:
    return KafkaSecurityError(
        f"the broker at {address} does not take the SASL mechanism {ours}",
        remedy=f"set KAFKA_SASL_MECHANISM to what it takes ({', '.join(offered) or 'it names none'})",
    )


def wrong_credentials(address: str, settings: Settings) -> KafkaSecurityError:
    return KafkaSecurityError(
        f"the broker at {address} refuses the user or the password ({settings.kafka_sasl_mechanism})",
        remedy="set KAFKA_SASL_USERNAME and KAFKA_SASL_PASSWORD right",
    )
