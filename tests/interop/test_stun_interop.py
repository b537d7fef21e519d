"""Our STUN client asks coturn; coturn's client and one of RFC 3489 ask our server. All on loopback."""

import contextlib
import random
import re
import select
import socket
import subprocess
import time

import pytest

from peerway.core.machine import Datagram, UdpAddress
from peerway.core.stun.attributes import (
    ErrorCode,
    MappedAddress,
    OtherAddress,
    ResponseOrigin,
    Unknown,
    UnknownAttributes,
    XorMappedAddress,
)
from peerway.core.stun.client import GATHERING_SCHEDULE, Detour, MappingLearned, StunClient
from peerway.core.stun.integrity import add_fingerprint, fingerprint_is_right
from peerway.core.stun.message import BINDING, Message, MessageClass, build, parse, parse_classic
from peerway.core.stun.server import StunServer

pytestmark = pytest.mark.interop

HOST = "127.0.0.1"
OTHER_HOST = "127.0.0.2"
PATIENCE_S = 10.0
TRANSACTION_ID = bytes(range(12))


def udp_socket(host=HOST):
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_DGRAM)
    opened.bind((host, 0))
    return opened


def address_of(opened):
    return UdpAddress(*opened.getsockname()[:2])


def drain(machine, opened):
    while (transmit := machine.poll_transmit()) is not None:
        for segment in transmit.segments:
            opened.sendto(segment, (transmit.remote.ip, transmit.remote.port))


def ask(server, host=HOST, detour=None, arrives_at=None):
    """Drive our client on a blocking socket until it knows; the event and the socket's address.

    `arrives_at` is another socket of ours, which the answer may come to.
    """
    with udp_socket(host) as opened:
        client, local = StunClient(random.SystemRandom(), GATHERING_SCHEDULE), address_of(opened)
        client.query(server, local, time.monotonic(), detour)
        while True:
            drain(client, opened)
            if (event := client.poll_event()) is not None:
                return event, local
            wait = max(0.0, client.poll_deadline().at - time.monotonic())
            sockets = [opened] if arrives_at is None else [opened, arrives_at]
            for ready in select.select(sockets, [], [], wait)[0]:
                data, source = ready.recvfrom(2048)
                datagram = Datagram(data, UdpAddress(*source[:2]), address_of(ready))
                client.receive(datagram, time.monotonic())
            client.handle_timeout(time.monotonic())


def exchange(request, server):
    """Send bytes and wait for the answer to them, over and over: its bytes, its source, our port."""
    with udp_socket() as opened:
        opened.settimeout(0.5)
        until = time.monotonic() + PATIENCE_S
        while time.monotonic() < until:
            opened.sendto(request, (server.ip, server.port))
            try:
                data, source = opened.recvfrom(2048)
            except TimeoutError:
                continue
            return data, UdpAddress(*source), address_of(opened)
    pytest.fail(f"{server} did not answer within {PATIENCE_S:g} s")


# --- our client asks coturn ---------------------------------------------------------------


def free_ports():
    with udp_socket() as first, udp_socket() as second:
        return address_of(first).port, address_of(second).port


@pytest.fixture(scope="module")
def coturn(tool, tmp_path_factory):
    """A coturn that answers STUN at two addresses, as RFC 5780 wants it: the first of its four."""
    program = tool("turnserver", "coturn")
    folder = tmp_path_factory.mktemp("coturn")
    port, other_port = free_ports()
    ipv6 = ["listening-ip=::1"] if has_ipv6() else []
    settings = [
        f"listening-ip={HOST}",
        f"listening-ip={OTHER_HOST}",
        *ipv6,
        f"listening-port={port}",
        f"alt-listening-port={other_port}",
        "stun-only",
        "fingerprint",
        "no-tcp",
        "no-tls",
        "no-dtls",
        "no-cli",
        "simple-log",
        f"log-file={folder}/turnserver.log",
        f"pidfile={folder}/turnserver.pid",
        f"userdb={folder}/turndb",
    ]
    config = folder / "turnserver.conf"
    config.write_text("\n".join(settings) + "\n")
    with open(folder / "output", "wb") as output:
        process = subprocess.Popen([program, "-c", str(config)], stdout=output, stderr=output, cwd=folder)
    try:
        event, _ = ask(UdpAddress(HOST, port))  # it is up when it answers
        assert isinstance(event, MappingLearned), (event, (folder / "output").read_text()[-2000:])
        yield UdpAddress(HOST, port)
    finally:
        process.terminate()
        process.wait(PATIENCE_S)


def has_ipv6():
    try:
        udp_socket("::1").close()
    except OSError:
        return False
    return True


def test_coturn_tells_our_client_its_address(coturn):
    event, local = ask(coturn)
    assert event == MappingLearned(local, coturn, local, event.round_trip, other=event.other)
    assert event.other.ip == OTHER_HOST
    assert 0 <= event.round_trip < PATIENCE_S


def test_coturn_tells_our_client_its_ipv6_address(coturn):
    if not has_ipv6():
        pytest.skip("there is no ::1 here")
    server = UdpAddress("::1", coturn.port)
    event, local = ask(server, "::1")
    assert (event.local, event.server, event.mapped) == (local, server, local)


def test_we_read_what_coturn_says_of_its_other_address(coturn):
    request = build(Message(MessageClass.REQUEST, BINDING, TRANSACTION_ID))
    data, source, local = exchange(add_fingerprint(request), coturn)
    answer = parse(data)
    assert source == coturn
    assert answer.first(XorMappedAddress) == XorMappedAddress(local)
    assert answer.first(ResponseOrigin) == ResponseOrigin(coturn)
    assert answer.first(OtherAddress).address.ip == OTHER_HOST
    assert fingerprint_is_right(data)


def test_coturn_answers_our_client_from_its_other_address_and_port(coturn):
    other = ask(coturn)[0].other
    for origin in (other, UdpAddress(HOST, other.port), UdpAddress(OTHER_HOST, coturn.port)):
        event, local = ask(coturn, detour=Detour(origin))
        assert (event.detour, event.mapped) == (Detour(origin), local)


def test_coturn_answers_our_client_at_another_port(coturn):
    with udp_socket() as second:
        detour = Detour(arrives_at=address_of(second), port=address_of(second).port)
        event, local = ask(coturn, detour=detour, arrives_at=second)
        assert (event.detour, event.mapped) == (detour, local)


def test_coturn_refuses_an_unknown_attribute_in_words_we_read(coturn):
    unknown = (Unknown(0x7FF1, bytes(4)),)
    data, _, _ = exchange(build(Message(MessageClass.REQUEST, BINDING, TRANSACTION_ID, unknown)), coturn)
    answer = parse(data)
    assert answer.message_class is MessageClass.ERROR
    assert answer.first(ErrorCode).code == 420
    assert answer.first(UnknownAttributes).types == (0x7FF1,)


def test_coturn_answers_our_form_of_an_rfc_3489_request(coturn):
    classic = Message(MessageClass.REQUEST, BINDING, bytes(range(16)))
    data, _, local = exchange(build(classic), coturn)
    answer = parse_classic(data)
    assert answer.transaction_id == bytes(range(16))
    assert answer.first(MappedAddress) == MappedAddress(local)


# --- other clients ask our server -----------------------------------------------------------


class Served:
    """What a program printed while our server answered it, and the sources it asked from.

    With `discovery` the server has two addresses and two ports.
    """

    def __init__(self, *command, discovery=False):
        self.sources = []
        hosts, ports = ((HOST, OTHER_HOST), 2) if discovery else ((HOST,), 1)
        with contextlib.ExitStack() as stack:
            self._sockets = {
                address_of(opened): stack.enter_context(opened) for opened in grid_of_sockets(hosts, ports)
            }
            self.machine = StunServer(sockets=list(self._sockets))
            filled = [part.format(port=next(iter(self._sockets)).port) for part in command]
            self.output = self._run(
                subprocess.Popen(filled, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
            )

    def _run(self, process):
        output, until = b"", time.monotonic() + PATIENCE_S
        with process, process.stdout:
            try:
                while time.monotonic() < until:
                    ready = select.select([*self._sockets.values(), process.stdout], [], [], 1.0)[0]
                    for opened in ready[:]:
                        if opened is not process.stdout:
                            self._answer(opened)
                    if process.stdout in ready:
                        piece = process.stdout.read1()
                        output += piece
                        if not piece:
                            break
            finally:
                process.kill()
        return output.decode(errors="replace")

    def _answer(self, opened):
        data, source = opened.recvfrom(2048)
        self.sources.append(UdpAddress(*source))
        self.machine.receive(Datagram(data, self.sources[-1], address_of(opened)), time.monotonic())
        while (transmit := self.machine.poll_transmit()) is not None:
            for segment in transmit.segments:
                self._sockets[transmit.local].sendto(segment, (transmit.remote.ip, transmit.remote.port))


def grid_of_sockets(hosts, ports):
    """Sockets at so many ports, the same ones at each host."""
    found = []
    for _ in range(ports):
        found.append(udp_socket(hosts[0]))
        for host in hosts[1:]:
            found.append(socket.socket(socket.AF_INET, socket.SOCK_DGRAM))
            found[-1].bind((host, address_of(found[-2]).port))
    return found


def test_our_server_tells_coturns_client_its_address(tool):
    served = Served(tool("turnutils_stunclient", "coturn"), "-p", "{port}", HOST)
    assert served.machine.answers.success == 1
    assert f"UDP reflexive addr: {served.sources[0]}" in served.output
    assert not served.machine.drops


def test_our_server_tells_an_rfc_3489_client_its_address(tool):
    served = Served(tool("stun", "stun-client"), HOST + ":{port}", "1", "-v")
    assert served.machine.answers.classic == 1
    assert re.findall(r"mappedAddr=(\S+)", served.output) == [str(served.sources[0])]
    assert not served.machine.drops


def test_our_server_refuses_to_answer_an_rfc_3489_client_from_another_address(tool):
    served = Served(tool("stun", "stun-client"), HOST + ":{port}", "2", "-v")
    assert served.machine.answers.refusal == 1
    assert "ErrorCode = 4 20" in served.output


def test_coturns_discovery_understands_our_server(tool):
    command = (tool("turnutils_natdiscovery", "coturn"), "-m", "-f", "-p", "{port}", HOST)
    served = Served(*command, discovery=True)
    verdicts = re.findall(r"NAT with (.*)!", served.output)
    assert verdicts == ["Endpoint Independent Mapping", "Endpoint Independent Filtering"]
    assert served.machine.answers.from_elsewhere >= 1
    assert not served.machine.drops


def test_an_rfc_3489_client_finds_no_nat_with_our_server(tool):
    served = Served(tool("stun", "stun-client"), HOST + ":{port}", "-v", discovery=True)
    assert "Open" in served.output
    assert served.machine.answers.classic >= 3
