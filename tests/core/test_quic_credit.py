from __future__ import annotations

import pytest

from peerway.core.quic.credit import INITIAL_CREDIT, MAX_WINDOW, CreditPool, ReceiveCredit, SendCredit
from peerway.core.quic.errors import PeerViolation, SessionCode

KIB = 1 << 10


def test_both_sides_begin_with_the_same_credit():
    assert INITIAL_CREDIT == 256 * KIB
    assert SendCredit().remaining == INITIAL_CREDIT
    ReceiveCredit(CreditPool()).receive(INITIAL_CREDIT)


def test_one_byte_too_many_is_a_violation():
    credit = ReceiveCredit(CreditPool())
    credit.receive(INITIAL_CREDIT)
    with pytest.raises(PeerViolation) as raised:
        credit.receive(1)
    assert raised.value.code is SessionCode.CREDIT_EXCEEDED


def test_a_grant_goes_when_a_quarter_of_the_window_was_read():
    credit = ReceiveCredit(CreditPool())
    credit.receive(200 * KIB)
    assert credit.consume(64 * KIB - 1) is None
    assert credit.consume(1) == 320 * KIB
    assert credit.consume(63 * KIB) is None


def test_a_held_up_sender_gets_a_wider_window_once_the_application_has_read():
    credit = ReceiveCredit(CreditPool())
    assert credit.ask() is None
    credit.receive(128 * KIB)
    assert credit.consume(63 * KIB) is None
    assert credit.consume(1 * KIB) == 64 * KIB + 1024 * KIB
    credit.receive(256 * KIB)
    assert credit.consume(256 * KIB) == 320 * KIB + 1024 * KIB
    assert credit.ask() == 320 * KIB + 4096 * KIB
    credit.receive(2048 * KIB)
    credit.consume(2048 * KIB)
    assert credit.ask() == 2368 * KIB + MAX_WINDOW
    credit.receive(MAX_WINDOW // 2)
    credit.consume(MAX_WINDOW // 2)
    assert credit.ask() is None


def test_an_application_that_never_reads_never_gets_a_wider_window():
    credit = ReceiveCredit(CreditPool())
    for _ in range(10):
        assert credit.ask() is None
    credit.receive(INITIAL_CREDIT)
    assert credit.ask() is None
    assert credit.window == INITIAL_CREDIT


def test_the_window_of_an_application_that_lags_stays_as_it_is():
    credit = ReceiveCredit(CreditPool())
    credit.receive(256 * KIB)
    credit.consume(127 * KIB)
    assert credit.ask() is None
    credit.consume(1 * KIB)
    assert credit.window == 1024 * KIB


def test_windows_draw_on_one_pool_and_give_back():
    pool = CreditPool(800 * KIB)
    first, second = ReceiveCredit(pool), ReceiveCredit(pool)
    for credit in (first, second):
        credit.receive(128 * KIB)
        credit.consume(64 * KIB)
    assert first.ask() == 64 * KIB + 1024 * KIB
    assert pool.free == 32 * KIB
    assert second.ask() == 64 * KIB + 288 * KIB
    assert pool.free == 0
    first.release()
    first.release()
    assert pool.free == 768 * KIB
    second.release()
    assert pool.free == 800 * KIB


def test_a_sender_asks_once_per_limit_when_it_runs_short():
    credit = SendCredit()
    assert not credit.should_ask(300 * KIB)  # enough is left for now
    credit.spend(200 * KIB)
    assert not credit.should_ask(56 * KIB)  # what is queued may go
    assert credit.should_ask(57 * KIB)
    assert not credit.should_ask(57 * KIB)
    assert credit.raise_to(257 * KIB)
    assert credit.should_ask(58 * KIB)


def test_an_old_grant_changes_nothing():
    credit = SendCredit()
    assert not credit.raise_to(INITIAL_CREDIT)
    assert not credit.raise_to(5)
    assert credit.limit == INITIAL_CREDIT
