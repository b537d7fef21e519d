"""What attackers do: one small function each, and the tables of them.

`HARMLESS` may change nothing, not even whether a path is direct. `POWERFUL` need an observer who is
quicker than the network and do have an effect, which docs/explanation/security.md names; what
they cannot do is read, alter or begin anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from peerway.core.demux import KINDS, Kind
from peerway.core.identity import SecretKey
from peerway.core.machine import UdpAddress, WireError
from peerway.core.path.candidate import Candidate, CandidateKind
from peerway.core.probe import message as probe
from peerway.core.signal import message as signal
from peerway.core.stun.attributes import XorMappedAddress
from peerway.core.stun.framing import TRANSACTION_ID_SIZE
from peerway.core.stun.message import BINDING, Message, MessageClass, build, is_stun, parse
from peerway.sim.attack.attacker import Forgery, Seen, Strategy, View
from peerway.sim.attack.damage import damaged, noise, resized

FIRST_BYTES = (0x00, 0x01, 0x03, 0x04, 0x05, 0x06, 0x1F, 0x40, 0x7F, 0x80, 0xC0, 0xE0, 0xFF)
FALSE_MAPPING = UdpAddress("198.18.6.66", 666)  # RFC 2544's, where nobody is
FALSE_MAPPING_V6 = UdpAddress("2001:db8:6666::66", 666)  # nor here
FLOOD_PACKETS = 300  # more than any budget of a node allows at once
QUIC_V1 = b"\0\0\0\1"


# --- without seeing anything but who talks to whom


def garbage_as_the_peer(view: View) -> Forgery:
    """Noise of every kind, in the name of whoever the victim talks to."""
    source, destination = view.rng.choice(view.flows)
    return Forgery(source, destination, noise(view.rng.choice(FIRST_BYTES), view.rng))


def garbage(view: View) -> Forgery:
    """Noise of every kind, from the attacker himself."""
    _, destination = view.rng.choice(view.flows)
    return Forgery(view.own_towards(destination), destination, noise(view.rng.choice(FIRST_BYTES), view.rng))


def answers_to_no_question(view: View) -> Forgery:
    """STUN answers with a false address, in the name of whoever was asked, to questions nobody asked."""
    source, destination = view.rng.choice(view.flows)
    transaction_id = view.rng.randbytes(TRANSACTION_ID_SIZE)
    return Forgery(destination, source, _false_answer(transaction_id, source))


def guessed_probes(view: View) -> Forgery:
    """Probes for an exchange that is guessed, of the right size."""
    source, destination = view.rng.choice(view.flows)
    size = view.rng.choice((probe.OVERHEAD + probe.PING_MIN_PLAINTEXT, probe.FULL_SIZE))
    return Forgery(source, destination, bytes([probe.FIRST_BYTE]) + view.rng.randbytes(size - 1))


def guessed_quic(view: View) -> Forgery:
    """The first packet of a QUIC dial that nobody announced, and packets of connections guessed."""
    source, destination = view.rng.choice(view.flows)
    rng = view.rng
    if rng.random() < 0.5:
        initial = b"\xc3" + QUIC_V1 + b"\x08" + rng.randbytes(8) + b"\x08" + rng.randbytes(8) + b"\0"
        return Forgery(source, destination, initial + rng.randbytes(1200 - len(initial)))
    return Forgery(source, destination, b"\x4a" + rng.randbytes(rng.randrange(20, 1200)))


def hellos_of_nobody(view: View) -> Forgery:
    """Hellos in perfect order and sealed as they should be, of keys that were made up for them."""
    rng = view.rng
    source, destination = rng.choice(view.flows)
    if rng.random() < 0.5:
        source = view.own_towards(destination)
    key, target = SecretKey(rng.randbytes(32)), rng.choice(view.targets)
    body = signal.Body(
        index=rng.randrange(1 << 32),
        dial=rng.randbytes(8),
        admission=rng.randbytes(16),
        candidates=(Candidate(CandidateKind.REFLEXIVE, FALSE_MAPPING),),
    )
    secret = rng.randbytes(signal.SECRET_SIZE)
    hello = signal.Signal(key.node_id, target, secret, b"", 1, body)
    return Forgery(source, destination, signal.build(hello, key.shared_with(target.box_public()), rng))


def hellos_in_the_peers_name(view: View) -> Forgery:
    """Hellos that name one target as their sender and another as their receiver, and do not open."""
    source, destination = view.rng.choice(view.flows)
    sealed = view.rng.choice(view.targets).public + view.rng.randbytes(300)
    return Forgery(source, destination, bytes([signal.FIRST_BYTE]) + sealed)


FLOODS = (
    garbage,
    garbage_as_the_peer,
    answers_to_no_question,
    guessed_probes,
    guessed_quic,
    hellos_of_nobody,
    hellos_in_the_peers_name,
)


def floods(view: View) -> Iterator[Forgery]:
    """Hundreds of one kind within a second, all about one pair of addresses."""
    kind, only = view.rng.choice(FLOODS), view.narrowed(view.rng.choice(view.flows))
    for _ in range(FLOOD_PACKETS):
        yield kind(only)


# --- by an observer, at leisure


def damaged_copies(view: View) -> Forgery:
    """Packets of the victims, cut short, lengthened, or with a bit changed.

    But for what STUN servers answer: with another address in it that is `stun_answers_as_the_server`.
    """
    seen = view.rng.choice(view.packets)
    damage = resized if _stun_class(seen) is MessageClass.SUCCESS else damaged
    return Forgery(seen.source, seen.destination, damage(seen.data, view.rng))


def late_replays(view: View) -> Forgery:
    """Anything ever seen, once more, in its sender's name."""
    seen = view.rng.choice(view.packets)
    return Forgery(seen.source, seen.destination, seen.data)


def late_replays_as_itself(view: View) -> Forgery:
    """Anything ever seen, once more, from the attacker's address."""
    seen = view.rng.choice(view.packets)
    return Forgery(view.own_towards(seen.destination), seen.destination, seen.data)


def late_replays_elsewhere(view: View) -> Forgery:
    """Anything ever seen, to somebody else, in the name of whoever that one talks to.

    But for what the attacker was sent: to pass that on is `forwarding`, by way of which a path leads.
    """
    source, destination = view.rng.choice(view.flows)
    seen = view.rng.choice(view.packets)
    if seen.destination in view.own:
        return Forgery(seen.source, seen.destination, seen.data)
    return Forgery(source, destination, seen.data)


# --- by an observer, at once


def replays_at_once(view: View, seen: Seen) -> Iterator[Forgery]:
    """Every packet twice, the copy before the original."""
    yield Forgery(seen.source, seen.destination, seen.data)


def replays_at_once_as_itself(view: View, seen: Seen) -> Iterator[Forgery]:
    """A copy of every packet from the attacker's address, before the original."""
    if seen.destination not in view.own:
        yield Forgery(view.own_towards(seen.destination), seen.destination, seen.data)


def reflections(view: View, seen: Seen) -> Iterator[Forgery]:
    """Every packet back to its sender, in the name of whom it was for and in the attacker's own."""
    yield Forgery(seen.destination, seen.source, seen.data)
    yield Forgery(view.own_towards(seen.source), seen.source, seen.data)


def stun_answers_as_itself(view: View, seen: Seen) -> Iterator[Forgery]:
    """Answers to the victims' STUN questions, with a false address, from the wrong server."""
    if question := _question(seen):
        yield Forgery(view.own_towards(seen.source), seen.source, _false_answer(question, seen.source))


def stun_answers_as_the_server(view: View, seen: Seen) -> Iterator[Forgery]:
    """Answers to the victims' STUN questions, with a false address, in the server's name and before it."""
    if question := _question(seen):
        yield Forgery(seen.destination, seen.source, _false_answer(question, seen.source))


def forwarding(view: View, seen: Seen) -> Iterator[Forgery]:
    """The victims' probes carried both ways by the attacker, quicker than the network: like one more NAT."""
    if not seen.data or KINDS[seen.data[0]] is not Kind.PROBE:
        return
    if seen.destination not in view.own:
        yield Forgery(view.own_towards(seen.destination), seen.destination, seen.data)
        return
    for source, destination in view.flows:
        if destination == seen.source and source not in view.own:
            yield Forgery(view.own_towards(source), source, seen.data)


def _stun(seen: Seen) -> Message | None:
    if not is_stun(seen.data):
        return None
    try:
        return parse(seen.data)
    except WireError:
        return None


def _stun_class(seen: Seen) -> MessageClass | None:
    message = _stun(seen)
    return message.message_class if message is not None else None


def _question(seen: Seen) -> bytes:
    """The transaction of a STUN request, empty for anything else."""
    message = _stun(seen)
    return message.transaction_id if message and message.message_class is MessageClass.REQUEST else b""


def _false_answer(transaction_id: bytes, asker: UdpAddress) -> bytes:
    mapped = XorMappedAddress(FALSE_MAPPING_V6 if ":" in asker.ip else FALSE_MAPPING)
    return build(Message(MessageClass.SUCCESS, BINDING, transaction_id, (mapped,)))


def _named(function: Callable[..., object]) -> str:
    return function.__name__.replace("_", " ")


def _off_path(function: Callable[[View], Forgery]) -> Strategy:
    return Strategy(_named(function), thought_of=function)


def _at_leisure(function: Callable[[View], Forgery]) -> Strategy:
    return Strategy(_named(function), thought_of=function, observes=True)


def _at_once(function: Callable[[View, Seen], Iterator[Forgery]]) -> Strategy:
    return Strategy(_named(function), provoked=function, observes=True)


OFF_PATH = (*map(_off_path, FLOODS), Strategy("floods", poured=floods))
OBSERVING = (
    *map(_at_leisure, (damaged_copies, late_replays, late_replays_as_itself, late_replays_elsewhere)),
    *map(_at_once, (replays_at_once, replays_at_once_as_itself, reflections, stun_answers_as_itself)),
)
HARMLESS = OFF_PATH + OBSERVING
POWERFUL = tuple(map(_at_once, (stun_answers_as_the_server, forwarding)))
