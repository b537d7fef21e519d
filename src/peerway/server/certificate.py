"""The relay's TLS certificate: one from files, or one it signs itself.

Nobody vouches for a certificate that signed itself: whoever connects must know its pin, the SHA-256
of its DER form, which is why the pin is part of the relay's URL.
"""

from __future__ import annotations

import datetime
import hashlib
import ipaddress
import os
import ssl
import tempfile
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from peerway.core.machine import PeerwayError

SELF_SIGNED_DAYS = 3650  # the pin is what is checked; a certificate that expires only breaks URLs
CLOCK_SKEW_DAYS = 2


class CertificateError(PeerwayError):
    """A certificate or its key cannot be used; the message says which file and why."""


@dataclass(frozen=True, slots=True)
class ServerCertificate:
    """A certificate chain and its private key, both PEM."""

    certificate: bytes
    key: bytes

    def __repr__(self) -> str:
        return f"ServerCertificate(pin={self.digest!r})"

    @property
    def digest(self) -> str:
        """SHA-256 of the first certificate's DER form: 64 hexadecimal digits."""
        return hashlib.sha256(self._first().public_bytes(serialization.Encoding.DER)).hexdigest()

    @property
    def pin(self) -> str | None:
        """What the URL must carry: the digest of a self-signed certificate, None for a vouched one."""
        first = self._first()
        return self.digest if first.issuer == first.subject else None

    @property
    def not_after(self) -> str:
        """Until when it is valid: ISO 8601, UTC."""
        return self._first().not_valid_after_utc.isoformat()

    def context(self) -> ssl.SSLContext:
        """TLS for a server that shows this certificate. Raises `CertificateError`."""
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        with tempfile.TemporaryDirectory() as folder:  # the ssl module reads files only
            certificate, key = Path(folder, "certificate.pem"), Path(folder, "key.pem")
            try:
                certificate.write_bytes(self.certificate)
                _write_private(key, self.key)
                context.load_cert_chain(certificate, key, password=_no_password)
            except (ssl.SSLError, OSError, ValueError) as error:
                raise CertificateError(f"the certificate and its key do not work together: {error}") from None
        return context

    def _first(self) -> x509.Certificate:
        return x509.load_pem_x509_certificate(self.certificate)


def load(certificate: Path, key: Path) -> ServerCertificate:
    """Read a certificate chain and its key from PEM files. Raises `CertificateError`."""
    try:
        loaded = ServerCertificate(certificate.read_bytes(), key.read_bytes())
    except OSError as error:
        raise CertificateError(f"cannot read {error.filename}: {error.strerror}") from None
    try:
        _ = loaded.pin, loaded.not_after
    except (ValueError, TypeError, x509.InvalidVersion) as error:  # all of what cryptography raises here
        raise CertificateError(f"{certificate} is not a certificate in PEM form: {error}") from None
    return loaded


def self_signed(name: str) -> ServerCertificate:
    """Make a certificate for a host name or IP address."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name[:64])])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=CLOCK_SKEW_DAYS))
        .not_valid_after(now + datetime.timedelta(days=SELF_SIGNED_DAYS))
        .add_extension(x509.SubjectAlternativeName([_alternative_name(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    return ServerCertificate(
        certificate.public_bytes(serialization.Encoding.PEM),
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        ),
    )


def load_or_make(certificate: Path, key: Path, name: str) -> ServerCertificate:
    """The self-signed certificate in two files, made and kept there when neither exists yet.

    A kept certificate keeps its pin, and URLs that carry it go on working. Raises `CertificateError`.
    """
    if certificate.exists() or key.exists():
        return load(certificate, key)
    made = self_signed(name)
    written: list[Path] = []
    try:
        for path, content in ((key, made.key), (certificate, made.certificate)):
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            written.append(path)
            _write_durably(descriptor, content)
    except OSError as error:
        for path in written:  # half a pair would be in the way for ever
            with suppress(OSError):
                path.unlink()
        raise CertificateError(f"cannot write a certificate to {key.parent}: {error.strerror}") from None
    return made


def _alternative_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _write_private(path: Path, content: bytes) -> None:
    _write_durably(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), content)


def _write_durably(descriptor: int, content: bytes) -> None:
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def _no_password() -> str:
    raise ValueError("the key is encrypted; give one without a passphrase")
