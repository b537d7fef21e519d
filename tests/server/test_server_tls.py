"""TLS as the relay speaks it: its versions, and a certificate that is renewed while clients are in."""

import asyncio
import hashlib
import logging
import ssl

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization
from tests.server.relay_peer import RelayPeer, run, trusting_client, until

from peerway.core.quic.certificate import pem
from peerway.core.relay.url import RelayUrl
from peerway.server import Server
from peerway.server.certificate import self_signed


def limited_to(version):
    """TLS for a client that speaks one version, however old, and believes every certificate."""
    context = trusting_client()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = context.maximum_version = version
    return context


@pytest.mark.parametrize(
    ("version", "name"), [(ssl.TLSVersion.TLSv1_2, "TLSv1.2"), (ssl.TLSVersion.TLSv1_3, "TLSv1.3")]
)
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_clients_of_both_tls_versions_exchange_packets(version, name, loop):
    async def scenario():
        async with Server(host="127.0.0.1", relay_port=0, stun_port=0, tls="self-signed") as server:
            alice = await RelayPeer.connect(server.url, "alice", context=limited_to(version))
            bob = await RelayPeer.connect(server.url, "bob")
            assert alice.tls_version == name
            alice.send(bob, b"hello")
            await until(lambda: bob.packets() == [b"hello"], "bob has it")
            await alice.close()
            await bob.close()

    run(scenario(), loop)


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1])
def test_nothing_older_than_tls_1_2_is_spoken(version):
    async def scenario():
        async with Server(host="127.0.0.1", relay_port=0, stun_port=0, tls="self-signed") as server:
            with pytest.raises(OSError):
                await RelayPeer(server.url, "alice").open(context=limited_to(version))
            await until(lambda: not server._relay._connections, "freed")
            tls = server._relay.tls
            tls.set_ciphers("DEFAULT:@SECLEVEL=0")
            tls.minimum_version = version  # the control: it was only this that kept the client out
            alice = await RelayPeer.connect(server.url, "alice", context=limited_to(version))
            await alice.close()

    run(scenario())


class Files:
    """A certificate and its key where a server is told to find them."""

    def __init__(self, folder):
        self.certificate, self.key = folder / "c.pem", folder / "k.pem"
        self.put(self_signed("relay.example"))

    def put(self, made):
        self.certificate.write_bytes(made.certificate)
        self.key.write_bytes(made.key)
        self.digest = made.digest

    def server(self):
        files = {"certificate": self.certificate, "key": self.key}
        return Server(host="127.0.0.1", relay_port=0, stun_port=0, **files)


async def shown_by(server):
    """The digest of the certificate that a newcomer sees."""
    _, writer = await asyncio.open_connection("127.0.0.1", server.relay_port, ssl=trusting_client())
    certificate = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.transport.abort()
    return hashlib.sha256(certificate).hexdigest()


def test_a_renewed_certificate_is_shown_to_newcomers_and_no_client_notices(tmp_path, caplog):
    files = Files(tmp_path)

    async def scenario():
        async with files.server() as server:
            old = files.digest
            alice = await RelayPeer.connect(server.url, "alice")
            bob = await RelayPeer.connect(server.url, "bob")
            files.put(self_signed("relay.example"))
            assert await shown_by(server) == old
            await server.reload()
            assert await shown_by(server) == files.digest != old
            assert RelayUrl.parse(server.url).pin == files.digest
            alice.send(bob, b"still here")
            await until(lambda: bob.packets() == [b"still here"], "bob has it")
            await alice.close()
            await bob.close()

    with caplog.at_level(logging.WARNING, "peerway.server"):
        run(scenario())
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("relay pin-changed url=https://127.0.0.1:")
    assert files.digest in line


def gone(files):
    files.certificate.unlink()


def garbled(files):
    files.certificate.write_text("hello")


def of_no_version(files):
    certificate = x509.load_pem_x509_certificate(self_signed("relay.example").certificate)
    der = certificate.public_bytes(serialization.Encoding.DER).replace(b"\xa0\3\2\1\2", b"\xa0\3\2\1\6", 1)
    files.certificate.write_bytes(pem("CERTIFICATE", der))


def half_renewed(files):
    files.certificate.write_bytes(self_signed("relay.example").certificate)


def without_key(files):
    files.key.write_text("hello")


@pytest.mark.parametrize(
    ("spoil", "why"),
    [
        (gone, "c.pem: No such file"),
        (garbled, "c.pem is not a certificate in PEM form"),
        (of_no_version, "c.pem is not a certificate in PEM form"),
        (half_renewed, "do not work together"),
        (without_key, "do not work together"),
    ],
)
def test_a_new_certificate_that_cannot_be_used_leaves_the_old_one_and_says_so_once(
    tmp_path, caplog, spoil, why
):
    files = Files(tmp_path)

    async def scenario():
        async with files.server() as server:
            spoil(files)
            await server.reload()
            assert await shown_by(server) == files.digest
            assert RelayUrl.parse(server.url).pin == files.digest

    with caplog.at_level(logging.WARNING, "peerway.server"):
        run(scenario())
    (line,) = [record.message for record in caplog.records]
    assert line.startswith("relay certificate-kept")
    assert why in line


def test_a_server_that_serves_no_files_or_not_yet_takes_a_reload_for_nothing(tmp_path):
    async def scenario():
        files = Files(tmp_path)
        await files.server().reload()
        for settings in ({}, {"tls": "self-signed"}):
            async with Server(host="127.0.0.1", relay_port=0, stun_port=0, **settings) as server:
                url = server.url
                await server.reload()
                assert server.url == url

    run(scenario())
