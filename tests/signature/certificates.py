"""Makes authorities and certificates for the tests of TLS."""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

DAY = timedelta(days=1)


@dataclass(frozen=True)
class Authority:
    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    def write(self, path: Path) -> Path:
        path.write_bytes(self.certificate.public_bytes(serialization.Encoding.PEM))
        return path


def authority(name="test authority"):
    key = ec.generate_private_key(ec.SECP256R1())
    subject = _name(name)
    made = _builder(subject, subject, key, datetime.now(UTC) + 30 * DAY)
    return Authority(key, made.add_extension(x509.BasicConstraints(ca=True, path_length=None), True).sign(key, hashes.SHA256()))


def pair(folder, signer, stem="server", *, until=None, name="localhost", password=None):
    """Write `stem.crt` and `stem.key` for 127.0.0.1 and localhost; gives both paths."""
    key = ec.generate_private_key(ec.SECP256R1())
    names = x509.SubjectAlternativeName([x509.DNSName("localhost"), x509.IPAddress(ipaddress.ip_address("127.0.0.1"))])
    made = _builder(_name(name), signer.certificate.subject, key, until or datetime.now(UTC) + DAY).add_extension(names, False)
    certificate, secret = folder / f"{stem}.crt", folder / f"{stem}.key"
    certificate.write_bytes(made.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM))
    locked = serialization.BestAvailableEncryption(password) if password else serialization.NoEncryption()
    secret.write_bytes(key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    return certificate, secret


def _name(text):
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


def _builder(subject, issuer, key, until):
    made = x509.CertificateBuilder().subject_name(subject).issuer_name(issuer).public_key(key.public_key())
    return made.serial_number(x509.random_serial_number()).not_valid_before(datetime.now(UTC) - 9 * DAY).not_valid_after(until)
