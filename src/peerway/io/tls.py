"""Whom a TLS client of ours believes: the system's authorities, or one pinned certificate."""

from __future__ import annotations

import functools
import hashlib
import ssl

ALPN = ["http/1.1"]  # relays are reached by an HTTP/1.1 upgrade; a proxy must not choose HTTP/2


@functools.cache
def system_trust() -> ssl.SSLContext:
    """Certificates signed by an authority the system trusts, for the host asked for."""
    context = ssl.create_default_context()
    context.set_alpn_protocols(ALPN)
    return context


@functools.cache
def any_certificate() -> ssl.SSLContext:
    """Any certificate: for connections whose certificate is compared with a pin afterwards."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    context.set_alpn_protocols(ALPN)
    return context


def pin_of(certificate: bytes) -> str:
    """The pin of a certificate in DER: its SHA-256, 64 hexadecimal digits in lower case."""
    return hashlib.sha256(certificate).hexdigest()
