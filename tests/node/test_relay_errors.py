"""Why a relay cannot be used, as a node tells it: what failed, on what, and what to try."""

import contextlib
import hashlib
import socket
import ssl
import threading

import pytest
from tests.authority import Authority
from tests.node.running import run

from peerway import Node, PeerwayError, RelayUnreachableError
from peerway.server import Server


async def told(url, **options):
    """What a node says of its only relay once a try to reach it has failed."""
    async with Node(relays=[url], **options) as node:
        while not node._machine.relay_state(node.relays[0])[1]:
            await node._changed.wait()
        with pytest.raises(RelayUnreachableError) as caught:
            await node.wait_relay(0)
    message = str(caught.value)
    start = f"cannot reach the relay {node.relays[0]}: "
    assert message.startswith(start)
    return message.removeprefix(start)


def relay(certificate=None, **settings):
    """A relay on loopback that shows a certificate; its key is in the same file."""
    files = {"certificate": certificate, "key": certificate} if certificate else {}
    return Server(host="127.0.0.1", relay_port=0, stun_port=0, public_host="localhost", **files, **settings)


async def told_of(server, scheme="https", query="", **options):
    async with server:
        url = f"{scheme}://localhost:{server.relay_port}"
        return url.removeprefix(f"{scheme}://"), await told(url + query, **options)


@pytest.mark.parametrize(
    ("certificate", "fault"),
    [
        (
            {"days": (-3, -1)},
            "has expired: it must be renewed there, unless this machine's clock is wrong",
        ),
        ({"days": (0.5, 1)}, "is not valid yet: is this machine's clock right?"),
        (
            {"names": ("relay.example.org",)},
            "is for another host (Hostname mismatch, certificate is not valid for 'localhost'): "
            "use the name it was issued for, unless somebody is in between",
        ),
        (
            {"self_signed": True},
            "is self-signed, and nobody this system trusts vouches for it: "
            "use the whole URL that the relay printed, with its pin",
        ),
    ],
)
def test_a_certificate_that_will_not_do_is_told_with_its_fault(authority, certificate, fault):
    where, message = run(told_of(relay(authority.issue(**certificate))))
    assert message == f"the certificate of {where} {fault}"


def test_an_unknown_authority_is_told_with_the_flag_that_makes_it_known(tmp_path):
    certificate = Authority(tmp_path).issue()
    where, message = run(told_of(relay(certificate)))
    assert message.startswith(f"the certificate of {where} is signed by an authority this system does not")
    assert "--ca FILE" in message


def test_an_authority_of_ones_own_is_believed_when_it_is_named_and_only_then_and_nobody_elses(tmp_path):
    other = tmp_path / "other"
    other.mkdir()
    own = Authority(tmp_path)

    async def main():
        async with relay(own.issue()) as server:
            async with Node(relays=[server.url], ca=own.file) as node:
                await node.wait_relay(10)
            message = await told(server.url, ca=Authority(other).file)
            assert message.startswith("the certificate of localhost:")
            assert "pin" not in server.url

    run(main())


def test_the_systems_authorities_are_still_believed_beside_ones_own(authority, tmp_path):
    own = tmp_path / "own"
    own.mkdir()

    async def main():
        async with (
            relay(authority.issue()) as server,
            Node(relays=[server.url], ca=Authority(own).file) as node,
        ):
            await node.wait_relay(10)

    run(main())


def test_a_file_without_an_authority_is_an_error_at_once(tmp_path):
    (tmp_path / "ca.pem").write_text("hello")
    with pytest.raises(PeerwayError, match=r"ca\.pem holds no certificate of an authority in PEM form"):
        Node(ca=tmp_path / "ca.pem")
    with pytest.raises(PeerwayError, match=r"cannot read the authorities in .*none\.pem: No such file"):
        Node(ca=tmp_path / "none.pem")


def test_another_certificate_than_the_pinned_one_is_told_with_both_pins(authority):
    certificate = authority.issue()
    found = hashlib.sha256(ssl.PEM_cert_to_DER_cert(certificate_in(certificate))).hexdigest()
    wanted = "ab" * 32
    where, message = run(told_of(relay(certificate), query=f"?pin={wanted}"))
    assert message == (
        f"the certificate of {where} is not the pinned one: expected {wanted}, found {found}; "
        "if it was renewed, use the URL that the relay prints now; if not, somebody is in between"
    )


def certificate_in(path):
    text = path.read_text()
    return text[text.index("-----BEGIN CERTIFICATE") :]


def test_plain_http_where_tls_is_expected_is_told():
    where, message = run(told_of(relay()))
    assert message == f"{where} does not speak TLS: if it is a relay without TLS, its URL begins with http://"


def test_tls_where_plain_http_is_expected_is_told():
    where, message = run(told_of(relay(tls="self-signed"), scheme="http"))
    assert message.startswith((f"{where} closed the connection", f"{where} reset the connection"))
    assert message.endswith(" without an answer: if it speaks TLS, its URL begins with https://")


@contextlib.contextmanager
def one_at_a_time(serve):
    """The port of a server in a thread that gives each connection to `serve`, and then closes it."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def accept():
            while True:
                sock, _ = listener.accept()
                with sock, contextlib.suppress(OSError):
                    if sock.recv(1, socket.MSG_PEEK) == b"":
                        return
                    serve(sock)

        thread = threading.Thread(target=accept)
        thread.start()
        try:
            yield listener.getsockname()[1]
        finally:
            socket.create_connection(listener.getsockname()).close()
            thread.join()


PAGE = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 13\r\n\r\n<html></html>"


def web_server(sock):
    sock.recv(4096)
    sock.sendall(PAGE)


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_web_server_that_is_no_relay_is_told(authority, scheme):
    context, _ = authority.server()

    def serve(sock):
        if scheme == "http":
            web_server(sock)
        else:
            with context.wrap_socket(sock, server_side=True) as encrypted:
                web_server(encrypted)

    with one_at_a_time(serve) as port:
        message = run(told(f"{scheme}://localhost:{port}"))
    assert message == (
        f"{scheme}://localhost:{port} answered 200 OK: there is no relay at /derp; "
        "are host, port and path right?"
    )


def test_something_that_speaks_no_http_is_told():
    def serve(sock):
        sock.sendall(b"SSH-2.0-OpenSSH_9.9\r\n\r\n")
        sock.recv(4096)

    with one_at_a_time(serve) as port:
        message = run(told(f"http://127.0.0.1:{port}"))
    assert message.startswith(f"http://127.0.0.1:{port} is no relay: its answer is not HTTP")


@pytest.mark.filterwarnings("ignore:ssl.TLSVersion:DeprecationWarning")
def test_a_relay_that_speaks_only_old_tls_is_told(authority):
    context, _ = authority.server()
    context.set_ciphers("DEFAULT:@SECLEVEL=0")
    context.minimum_version = ssl.TLSVersion.TLSv1
    context.maximum_version = ssl.TLSVersion.TLSv1_1

    def serve(sock):
        context.wrap_socket(sock, server_side=True).close()

    with one_at_a_time(serve) as port:
        message = run(told(f"https://localhost:{port}"))
    assert message == f"localhost:{port} speaks no TLS that is new enough: it needs 1.2 or newer"
