"""What a `Server` can be told, what it binds, and what it says about itself."""

import asyncio
import errno
import logging
import socket
import stat
import struct

import pytest
from tests.server.relay_peer import RelayPeer, run

from peerway.core.relay.url import RelayUrl, RelayUrlError
from peerway.server import Server, listen
from peerway.server.certificate import CertificateError, load, load_or_make, self_signed
from peerway.server.listen import ListenError, bind_all

STUN_REQUEST = bytes.fromhex("0001 0000 2112a442") + b"transaction!"


def ask_stun(host, port):
    """Send a binding request; returns a coroutine of the answer and of the socket's own port."""

    async def ask():
        loop = asyncio.get_running_loop()
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        with socket.socket(family, socket.SOCK_DGRAM) as sock:
            sock.setblocking(False)
            sock.connect((host, port))
            await loop.sock_sendall(sock, STUN_REQUEST)
            return await loop.sock_recv(sock, 2048), sock.getsockname()[1]

    return ask()


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_stun_answers_with_the_address_a_request_came_from(host, loop):
    async def scenario():
        async with Server(host=("127.0.0.1", "::1"), relay_port=0, stun_port=0) as server:
            answer, port = await ask_stun(host, server.stun_port)
            assert answer[:2] == b"\x01\x01"
            assert answer[8:20] == b"transaction!"
            # XOR-MAPPED-ADDRESS: the port is the first of the cookie's halves away
            assert struct.unpack_from("!HHBBH", answer, 20)[4] == port ^ 0x2112

    run(scenario(), loop)


def test_stun_can_listen_elsewhere_than_the_relay():
    async def scenario():
        async with Server(host="127.0.0.1", stun_hosts=["127.0.0.2"], relay_port=0, stun_port=0) as server:
            answer, _ = await ask_stun("127.0.0.2", server.stun_port)
            assert answer[:2] == b"\x01\x01"

    run(scenario())


TWO_HOSTS = ("127.0.0.1", "127.0.0.2")


async def ask_from_elsewhere(host, port, change=0x06):
    """Send a binding request with CHANGE-REQUEST; the answer and where it came from."""
    request = STUN_REQUEST[:2] + b"\x00\x08" + STUN_REQUEST[4:] + struct.pack("!HHI", 0x0003, 4, change)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.settimeout(10)
        sock.sendto(request, (host, port))
        return await asyncio.to_thread(sock.recvfrom, 2048)


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
def test_with_two_addresses_stun_answers_from_the_other_address_and_port(loop):
    async def scenario():
        async with Server(host=TWO_HOSTS, relay_port=0, stun_port=0) as server:
            assert server.stun_offers == ("address", "port")
            _, source = await ask_from_elsewhere("127.0.0.1", server.stun_port)
            assert source == ("127.0.0.2", server.stun_other_port)
            _, source = await ask_from_elsewhere("127.0.0.2", server.stun_other_port)
            assert source == ("127.0.0.1", server.stun_port)

    run(scenario(), loop)


def test_with_a_second_port_stun_answers_from_it():
    async def scenario():
        async with Server(relay_port=0, stun_port=0, stun_other_port=0) as server:
            assert server.stun_offers == ("port",)
            _, source = await ask_from_elsewhere("127.0.0.1", server.stun_port, change=0x02)
            assert source == ("127.0.0.1", server.stun_other_port)
            answer, source = await ask_from_elsewhere("127.0.0.1", server.stun_port, change=0x04)
            assert answer[:2] == b"\x01\x11"
            assert source == ("127.0.0.1", server.stun_port)

    run(scenario())


def test_with_one_address_and_one_port_stun_offers_no_discovery():
    async def scenario():
        async with Server(host=("127.0.0.1", "::1"), relay_port=0, stun_port=0) as server:
            assert (server.stun_offers, server.stun_other_port) == ((), None)

    run(scenario())


@pytest.mark.parametrize(
    ("settings", "port"),
    [
        ({"host": TWO_HOSTS}, 3479),
        ({"host": TWO_HOSTS, "stun_port": 65535}, 65534),
        ({"host": TWO_HOSTS, "stun_other_port": 4000}, 4000),
        ({"host": "127.0.0.1", "stun_hosts": ["2001:db8::1", "2001:db8::2"]}, 3479),
        ({"host": ("0.0.0.0", "127.0.0.1")}, None),
        ({"host": ("127.0.0.1", "::1")}, None),
        ({"stun_other_port": 4000}, 4000),
    ],
)
def test_two_addresses_of_a_family_come_with_a_second_port(settings, port):
    assert Server(**settings)._other_port_to_bind() == port


def test_a_second_port_in_use_is_an_error_that_says_so_and_frees_the_first():
    async def scenario():
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as taken:
            taken.bind(("127.0.0.1", 0))
            port = taken.getsockname()[1]
            with pytest.raises(ListenError, match="for STUN's other port at"):
                async with Server(host="127.0.0.1", relay_port=0, stun_port=0, stun_other_port=port):
                    pass

    run(scenario())


def test_what_stun_does_not_answer_is_counted():
    async def scenario():
        async with Server(host="127.0.0.1", relay_port=0, stun_port=0) as server:
            with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
                sock.sendto(b"not STUN", ("127.0.0.1", server.stun_port))
            await ask_stun("127.0.0.1", server.stun_port)
            assert sum(server.drops.values()) == 1

    run(scenario())


def test_by_default_every_address_of_both_families_is_served():
    async def scenario():
        async with Server(relay_port=0, stun_port=0) as server:
            for host in ("127.0.0.1", "[::1]"):
                peer = await RelayPeer.connect(f"http://{host}:{server.relay_port}", host)
                await peer.close()

    run(scenario())


@pytest.mark.parametrize(
    ("settings", "start"),
    [
        ({"public_host": "Relay.Example"}, "http://relay.example:"),
        ({"public_host": "2001:db8::1"}, "http://[2001:db8::1]:"),
        ({}, "http://127.0.0.1:"),
        ({"host": ["::", "127.0.0.1"]}, "http://127.0.0.1:"),
        ({"host": "::1"}, "http://[::1]:"),
    ],
)
def test_the_url_says_how_to_reach_it(settings, start):
    async def scenario():
        async with Server(**{"host": "127.0.0.1", "relay_port": 0, "stun_port": 0} | settings) as server:
            assert server.url == f"{start}{server.relay_port}?stun={server.stun_port}"
            assert RelayUrl.parse(server.url).stun_port == server.stun_port

    run(scenario())


@pytest.mark.parametrize(("host", "fallback"), [("0.0.0.0", "127.0.0.1"), ("::", "::1")])
def test_without_a_route_the_url_names_this_machine_only(host, fallback, monkeypatch):
    monkeypatch.setattr("peerway.server.serve._outgoing_address", lambda unspecified: None)
    assert Server(host=host)._public_host == fallback


def test_the_outgoing_address_is_an_address_of_this_machine():
    host = Server()._public_host
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as sock:
        sock.bind((host, 0))


def test_ports_are_by_default_those_of_the_scheme():
    assert Server()._port_to_bind() == 3340
    assert Server(tls="self-signed")._port_to_bind() == 443
    assert Server(tls="self-signed", relay_port=8443)._port_to_bind() == 8443


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"certificate": "c.pem"}, "a certificate needs its key"),
        ({"tls": "yes"}, "tls='yes' is not known"),
        ({"host": "localhost"}, "'localhost' is not an IP address"),
        ({"host": []}, "no address to listen at"),
        ({"stun_hosts": []}, "no address to listen at"),
        ({"stun_port": 3478, "stun_other_port": 3478}, "another one than 3478"),
        ({"public_host": "a/b"}, "not a relay URL"),
    ],
)
def test_what_cannot_be_meant_is_refused_at_once(settings, message):
    with pytest.raises(ValueError, match=message):
        Server(**settings)
    assert issubclass(RelayUrlError, ValueError)


def test_a_server_has_no_ports_before_it_listens_and_serves_once():
    server = Server(host="127.0.0.1", relay_port=0, stun_port=0)
    for name in ("relay_port", "stun_port", "url"):
        with pytest.raises(RuntimeError, match="does not listen"):
            getattr(server, name)
    assert server.drops == {}

    async def scenario():
        async with server:
            pass
        async with server:
            pass

    with pytest.raises(RuntimeError, match="make a new one"):
        run(scenario())


def test_a_port_in_use_is_an_error_that_says_so_and_frees_the_rest():
    async def scenario():
        async with Server(host="127.0.0.1", relay_port=0, stun_port=0) as first:
            with pytest.raises(
                ListenError, match=r"for the relay at 127\.0\.0\.1:\d+.*another program"
            ) as caught:
                async with Server(host="127.0.0.1", relay_port=first.relay_port, stun_port=0):
                    pass
            assert caught.value.port == first.relay_port
            with pytest.raises(ListenError, match="for STUN"):
                async with Server(host="127.0.0.1", relay_port=0, stun_port=first.stun_port):
                    pass

    run(scenario())


def test_an_address_of_another_machine_is_an_error():
    async def scenario():
        async with Server(host="192.0.2.1", relay_port=0, stun_port=0):
            pass

    with pytest.raises(ListenError, match="does not have that address"):
        run(scenario())


class Fake:
    def __init__(self, port):
        self.port = port
        self.closed = False

    def close(self):
        self.closed = True


def test_any_port_is_one_that_is_free_at_every_address():
    taken, made = {5001, 5002}, []

    def bind(host, port):
        if host == "::" and port in taken:
            raise OSError(errno.EADDRINUSE, "in use")
        made.append(Fake(port or 5001 + len(made)))
        return made[-1]

    bound = bind_all("a test", ["0.0.0.0", "::"], 0, bind)
    assert [each.port for each in bound] == [5003, 5003]
    assert [each.closed for each in made] == [True, True, False, False]


def test_the_search_for_a_free_port_ends():
    tries = []

    def bind(host, port):
        tries.append(port)
        raise OSError(errno.EADDRINUSE, "in use")

    with pytest.raises(ListenError):
        bind_all("a test", ["0.0.0.0"], 0, bind)
    assert len(tries) == listen.PORT_TRIES


def test_a_machine_without_ipv6_serves_ipv4(caplog):
    def bind(host, port):
        if host == "::":
            raise OSError(errno.EAFNOSUPPORT, "no IPv6")
        return Fake(port)

    assert len(bind_all("a test", ["0.0.0.0", "::"], 7, bind)) == 1
    assert "not-listening" in caplog.text
    with pytest.raises(ListenError):
        bind_all("a test", ["::"], 7, bind)
    with pytest.raises(ValueError, match="no address"):
        bind_all("a test", [], 7, bind)


# --- certificates


def test_a_plain_relay_warns_and_an_encrypted_one_does_not(caplog):
    async def scenario(**settings):
        async with Server(host="127.0.0.1", relay_port=0, stun_port=0, **settings):
            pass

    with caplog.at_level(logging.WARNING, "peerway.server"):
        run(scenario(tls="self-signed"))
        assert caplog.records == []
        run(scenario())
        assert [record.message.split()[:2] for record in caplog.records] == [["relay", "plain-http"]]


def test_a_self_signed_certificate_is_kept_where_asked_and_keeps_its_pin(tmp_path):
    files = {"certificate": tmp_path / "c.pem", "key": tmp_path / "k.pem"}

    async def scenario():
        async with Server(host="127.0.0.1", relay_port=0, stun_port=0, tls="self-signed", **files) as server:
            return RelayUrl.parse(server.url).pin

    pin = run(scenario())
    assert pin is not None
    assert run(scenario()) == pin
    assert stat.S_IMODE(files["key"].stat().st_mode) == 0o600


def test_files_are_served_and_a_certificate_somebody_vouches_for_needs_no_pin(tmp_path):
    made = self_signed("relay.example")
    (tmp_path / "c.pem").write_bytes(made.certificate)
    (tmp_path / "k.pem").write_bytes(made.key)

    async def scenario():
        async with Server(
            host="127.0.0.1",
            relay_port=0,
            stun_port=0,
            certificate=str(tmp_path / "c.pem"),
            key=str(tmp_path / "k.pem"),
        ) as server:
            assert RelayUrl.parse(server.url).pin == made.digest
            peer = await RelayPeer.connect(server.url, "alice")
            await peer.close()

    run(scenario())


@pytest.mark.parametrize("name", ["relay.example", "192.0.2.1", "2001:db8::1", "x" * 60 + ".example"])
def test_a_certificate_can_be_made_for_any_name(name):
    assert len(self_signed(name).pin) == 64


def test_the_private_key_is_not_shown():
    made = self_signed("relay.example")
    assert repr(made) == f"ServerCertificate(pin={made.digest!r})"


def test_files_that_do_not_serve_say_which_and_why(tmp_path):
    certificate, key = tmp_path / "c.pem", tmp_path / "k.pem"
    with pytest.raises(CertificateError, match=r"cannot read .*c\.pem: No such file"):
        load(certificate, key)
    certificate.write_text("hello")
    key.write_text("hello")
    with pytest.raises(CertificateError, match="not a certificate in PEM form"):
        load(certificate, key)
    certificate.write_bytes(self_signed("a").certificate)
    key.write_bytes(self_signed("b").key)
    with pytest.raises(CertificateError, match="do not work together"):
        load(certificate, key).context()
    with pytest.raises(CertificateError, match="cannot write"):
        load_or_make(tmp_path / "no" / "c.pem", tmp_path / "no" / "k.pem", "a")


def test_an_encrypted_key_is_an_error_and_never_a_prompt(tmp_path):
    from cryptography.hazmat.primitives import serialization

    made = self_signed("a")
    key = serialization.load_pem_private_key(made.key, None)
    encrypted = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.BestAvailableEncryption(b"secret"),
    )
    (tmp_path / "c.pem").write_bytes(made.certificate)
    (tmp_path / "k.pem").write_bytes(encrypted)
    with pytest.raises(CertificateError, match="without a passphrase"):
        load(tmp_path / "c.pem", tmp_path / "k.pem").context()
