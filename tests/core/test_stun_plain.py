"""Plain requests answered by the batch: the same answers as one by one."""

from hypothesis import given
from hypothesis import strategies as st

from peerway.core.machine import Datagram, UdpAddress
from peerway.core.stun.plain import Answers, Questions, build_answers
from peerway.core.stun.server import StunServer

PLAIN = bytes.fromhex("00010000 2112a442 000102030405060708090a0b")
OTHER = bytes.fromhex("00010000 2112a442 f0f1f2f3f4f5f6f7f8f9fafb")
CLASSIC = bytes.fromhex("00010000 000102030405060708090a0b0c0d0e0f")
ENDPOINT = bytes.fromhex("8055 c0000201")  # 192.0.2.1:32853
ANSWER = bytes.fromhex("0101000c 2112a442 000102030405060708090a0b 00200008 0001a147e112a643")
ANSWER_TO_OTHER = bytes.fromhex("0101000c 2112a442 f0f1f2f3f4f5f6f7f8f9fafb 00200008 0001a147e112a643")
ENDPOINT_IPV6 = bytes.fromhex("0001 20010db8 00000000 00000000 00000001")
ANSWER_IPV6 = bytes.fromhex(
    "01010018 2112a442 000102030405060708090a0b 00200014 00022113 0113a9fa 00010203 04050607 08090a0a"
)


def questions(*asked):
    return Questions(
        b"".join(endpoint for endpoint, _ in asked),
        b"".join(data[:20].ljust(20, b"\0") for _, data in asked),
        [len(data) for _, data in asked],
    )


def test_a_batch_is_answered_in_its_order():
    server = StunServer()
    answers = server.answer_plain(questions((ENDPOINT, PLAIN), (ENDPOINT, OTHER)), 1.0)
    assert answers == Answers(range(2), ANSWER + ANSWER_TO_OTHER, ())
    assert server.answers.success == 2


def test_ipv6_answers_are_masked_each_with_its_own_transaction_id():
    answers = StunServer().answer_plain(questions((ENDPOINT_IPV6, PLAIN), (ENDPOINT_IPV6, OTHER)), 1.0)
    assert answers.data[:44] == ANSWER_IPV6
    assert answers.data[44 + 8 : 44 + 20] == OTHER[8:]
    assert answers.data[-12:] == bytes.fromhex("f0f1f2f3 f4f5f6f7 f8f9fafa")


def test_software_follows_the_address():
    answers = StunServer("peer").answer_plain(questions((ENDPOINT, PLAIN)), 1.0)
    assert answers.data == ANSWER[:3] + b"\x14" + ANSWER[4:] + bytes.fromhex("80220004") + b"peer"


def test_whatever_else_comes_is_left_and_not_counted():
    server = StunServer()
    asked = questions((ENDPOINT, CLASSIC), (ENDPOINT, PLAIN), (ENDPOINT, PLAIN + b"\0"), (ENDPOINT, b""))
    assert server.answer_plain(asked, 1.0) == Answers([1], ANSWER, [0, 2, 3])
    assert server.drops == {}
    assert len(server.limiter) == 1


def test_nothing_is_sent_to_port_zero():
    asked = questions((bytes(2) + ENDPOINT[2:], PLAIN), (b"\x00\x05" + ENDPOINT[2:], PLAIN))
    answers = StunServer().answer_plain(asked, 1.0)
    assert (answers.answered, answers.left) == ([1], [0])


def test_only_those_are_answered_whose_source_has_not_asked_too_much():
    server = StunServer(answers_per_s=10, burst=2)
    elsewhere = b"\x00\x01\xc6\x33\x64\x01"
    asked = questions(*[(ENDPOINT, PLAIN)] * 3, (elsewhere, OTHER))
    answers = server.answer_plain(asked, 1.0)
    assert answers.answered == [0, 1, 3]
    assert answers.data[:64] == ANSWER * 2
    assert answers.left == ()
    assert server.drops == {"rate limit": 1}


def test_a_batch_comes_out_of_what_all_sources_may_have():
    server = StunServer(in_all_per_s=3)
    assert len(server.answer_plain(questions(*[(ENDPOINT, PLAIN)] * 2), 1.0).answered) == 2
    assert len(server.answer_plain(questions(*[(ENDPOINT, PLAIN)] * 2), 1.5).answered) == 1
    assert server.drops == {"rate limit of all": 1}


def test_a_batch_of_which_nothing_is_answered():
    server = StunServer(in_all_per_s=0)
    assert server.answer_plain(questions((ENDPOINT, PLAIN)), 1.0) == Answers((), b"", ())


def test_a_socket_that_helps_with_discovery_answers_one_by_one():
    here, there, alone = UdpAddress("192.0.2.9", 1), UdpAddress("192.0.2.9", 2), UdpAddress("2001:db8::9", 3)
    server = StunServer(sockets=[here, there, alone])
    assert [server.is_plain_at(each) for each in (here, there, alone)] == [False, False, True]


PORTS = st.integers(1, 65535)
IDS = st.binary(min_size=12, max_size=12)


@given(st.lists(st.tuples(PORTS, st.ip_addresses(v=4), IDS), min_size=1, max_size=20))
def test_ipv4_answers_are_those_of_one_at_a_time(asked):
    check_against_receive(asked)


@given(st.lists(st.tuples(PORTS, st.ip_addresses(v=6), IDS), min_size=1, max_size=20))
def test_ipv6_answers_are_those_of_one_at_a_time(asked):
    check_against_receive([(port, ip, made) for port, ip, made in asked if ip.ipv4_mapped is None])


def check_against_receive(asked):
    server, batch, expected = StunServer(), [], []
    for port, ip, transaction_id in asked:
        batch.append((port.to_bytes(2, "big") + ip.packed, PLAIN[:8] + transaction_id))
        server.receive(Datagram(batch[-1][1], UdpAddress(str(ip), port)), 1.0)
        expected += server.poll_transmit().segments
    if batch:
        endpoints, requests = (b"".join(column) for column in zip(*batch, strict=True))
        assert build_answers(endpoints, requests) == b"".join(expected)
