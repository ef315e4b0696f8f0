"""A certificate authority of a test's own, and certificates of servers and clients that it signs."""

from __future__ import annotations

import datetime
import ipaddress
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY: Final = datetime.timedelta(days=1)


class Authority:
    """Keeps its files in `folder`. `path`: its own certificate, which clients trust."""

    def __init__(self, folder: Path, name: str = "Test authority") -> None:
        self._folder, self._key, self._name = folder, _new_key(), _named(name)
        folder.mkdir(parents=True, exist_ok=True)
        self.path = folder / "authority.pem"
        own = _builder(self._name, self._name, self._key)
        own = own.add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        self.path.write_bytes(_pem(own.sign(self._key, hashes.SHA256())))

    def issue(self, name: str, days: int = 2, password: str = "") -> Path:
        """A PEM file: a private key (PKCS 8; "" is no password), then the certificate of the host `name` (an
        address or a domain), which ends in so many days."""
        key = _new_key()
        made = _builder(_named(name), self._name, key, days).add_extension(
            x509.SubjectAlternativeName([_alternative(name)]), critical=False
        )
        path = self._folder / f"{name}.pem"
        path.write_bytes(_key_pem(key, password) + _pem(made.sign(self._key, hashes.SHA256())))
        return path


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePrivateKey, days: int = 2
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC)
    return x509.CertificateBuilder(
        issuer_name=issuer,
        subject_name=subject,
        public_key=key.public_key(),
        serial_number=x509.random_serial_number(),
        not_valid_before=now + min(0, days - 2) * DAY - DAY,
        not_valid_after=now + days * DAY,
    )


def _alternative(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _named(name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])


def _new_key() -> ec.EllipticCurvePrivateKey:
    return ec.generate_private_key(ec.SECP256R1())


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey, password: str) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(password.encode())
        if password
        else serialization.NoEncryption(),
    )
