"""Whom a TLS client of ours believes: the system's authorities, the user's own, or one pinned certificate."""

from __future__ import annotations

import functools
import hashlib
import ssl
from pathlib import Path

from peerway.core.machine import PeerwayError

ALPN = ["http/1.1"]  # relays are reached by an HTTP/1.1 upgrade; a proxy must not choose HTTP/2


class TrustError(PeerwayError):
    """A file of authorities cannot be used; the message says which and why."""


@functools.cache
def system_trust() -> ssl.SSLContext:
    """Certificates signed by an authority the system trusts, for the host asked for."""
    return _verifying()


def trust_also(authorities: Path) -> ssl.SSLContext:
    """As `system_trust`, and certificates signed by an authority in a PEM file. Raises `TrustError`."""
    context = _verifying()
    try:
        context.load_verify_locations(authorities)
    except ssl.SSLError:
        raise TrustError(f"{authorities} holds no certificate of an authority in PEM form") from None
    except OSError as error:
        why = error.strerror or str(error)
        raise TrustError(f"cannot read the authorities in {authorities}: {why}") from None
    return context


@functools.cache
def any_certificate() -> ssl.SSLContext:
    """Any certificate: for connections whose certificate is compared with a pin afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(ALPN)
    return context


def _verifying() -> ssl.SSLContext:
    context = ssl.create_default_context()
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.set_alpn_protocols(ALPN)
    return context


def pin_of(certificate: bytes) -> str:
    """The pin of a certificate in DER: its SHA-256, 64 hexadecimal digits in lower case."""
    return hashlib.sha256(certificate).hexdigest()
