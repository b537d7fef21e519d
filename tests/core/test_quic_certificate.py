from __future__ import annotations

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key
from hypothesis import given
from hypothesis import strategies as st

from peerway.core.identity import SecretKey
from peerway.core.quic.certificate import build_certificate, build_private_key, certified_key, pem

KEY = SecretKey(bytes(range(32)))
CERTIFICATE = build_certificate(KEY)


def test_another_parser_reads_the_certificate():
    certificate = x509.load_der_x509_certificate(CERTIFICATE)
    public = certificate.public_key()
    assert isinstance(public, Ed25519PublicKey)
    assert public.public_bytes(Encoding.Raw, PublicFormat.Raw) == KEY.node_id.public
    assert certificate.serial_number == 1
    assert certificate.subject == certificate.issuer
    assert certificate.subject.rfc4514_string() == "CN=peerway"
    assert str(certificate.not_valid_before_utc) == "2020-01-01 00:00:00+00:00"
    assert str(certificate.not_valid_after_utc) == "9999-12-31 23:59:59+00:00"
    certificate.verify_directly_issued_by(certificate)


def test_another_parser_reads_the_private_key():
    loaded = load_pem_private_key(pem("PRIVATE KEY", build_private_key(KEY)), None)
    assert isinstance(loaded, Ed25519PrivateKey)
    assert loaded.private_bytes_raw() == KEY.seed


def test_the_certificate_is_the_same_every_time():
    assert len(CERTIFICATE) == 213
    assert build_certificate(SecretKey(bytes(range(32)))) == CERTIFICATE


def test_the_key_is_read_back():
    assert certified_key(CERTIFICATE) == KEY.node_id.public


def test_a_certificate_that_differs_anywhere_but_in_key_and_signature_has_no_key():
    start = CERTIFICATE.index(KEY.node_id.public)
    signature = len(CERTIFICATE) - 64
    for index in range(len(CERTIFICATE)):
        altered = bytearray(CERTIFICATE)
        altered[index] ^= 1
        inside = start <= index < start + 32 or index >= signature
        assert (certified_key(bytes(altered)) is not None) == inside
    assert certified_key(CERTIFICATE + b"\0") is None
    assert certified_key(CERTIFICATE[:-1]) is None


@given(st.binary(max_size=300))
def test_any_bytes_give_a_key_or_none(data):
    key = certified_key(data)
    assert key is None or len(key) == 32
