"""All relays a node is connected to: its own for as long as it runs, others while needed.

Of its own one is *home*, the one that others are to try first: the nearest that can be reached. All
of its own are kept connected, so that losing one costs nothing but the way.
"""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass

from peerway.core.identity import SecretKey
from peerway.core.machine import Composite, Event, RelayAddress, Rng
from peerway.core.places import is_loopback
from peerway.core.relay.access import advice
from peerway.core.relay.home import choose_home
from peerway.core.relay.keeper import RelayDistance, RelayDown, RelayKeeper, RelayUp
from peerway.core.relay.url import RelayUrl

UNMEASURED_S = 1.0  # a relay that stands, before it was measured: better than none, worse than any


@dataclass(frozen=True, slots=True)
class HomeRelayChanged(Event):
    """Another of our relays is home now, and why."""

    url: str
    reason: str


class RelayConnections(Composite[str]):
    """Keepers by URL. `own` are canonical URLs; the X25519 secret of `key` is shown to them alone.

    So is `token`, to those of them where nobody can listen on the way.
    Until one of them stands, the first is home.
    """

    def __init__(self, own: tuple[str, ...], key: SecretKey, rng: Rng, token: str = "") -> None:
        super().__init__()
        self._own = own
        self._home = own[0] if own else None
        self._key = key
        self._token = token
        self._rng = rng
        self._keepers: dict[str, RelayKeeper] = {}

    @property
    def own(self) -> tuple[str, ...]:
        """Our own relays, the home first."""
        return tuple(sorted(self._own, key=lambda url: url != self._home))

    def __contains__(self, url: str) -> bool:
        return url in self._keepers

    def keep(self, relay: RelayUrl, now: float) -> None:
        """Have a connection to `relay` kept; when it is down, try again at once."""
        url = str(relay)
        if url in self._keepers:
            self._keepers[url].retry(now)
        else:
            is_own = url in self._own
            is_private = relay.tls or is_loopback(relay.host)
            keeper = RelayKeeper(
                url,
                self._key_for(url),
                self._rng,
                measures=is_own and len(self._own) > 1,
                token=self._token if is_own and is_private else "",
                if_refused=advice(str(self._key.node_id), url, is_own, is_private),
            )
            self._keepers[url] = keeper
            self._adopt(url, keeper)
            keeper.start(now)
        self._touch(url)
        self._settle(now)

    def _key_for(self, url: str) -> Callable[[], bytes]:
        # any but our own relays sees a key made for this connection only: the one derived
        # from our identity could be used, live, to pose as us at the home relay
        if url in self._own:
            return lambda: self._key.box_secret
        return lambda: self._rng.randbytes(32)

    def network_changed(self, now: float, *, moved: bool) -> None:
        """Whatever is down is tried again at once; what stands, too, when we send from elsewhere now."""
        for url, keeper in self._keepers.items():
            if moved:
                keeper.reconnect(now)
            else:
                keeper.retry(now)
            self._touch(url)
        self._settle(now)

    def forget_all_but(self, needed: Collection[str], now: float) -> None:
        """Let go of relays that are neither our own nor in `needed`."""
        for url in [url for url in self._keepers if url not in needed and url not in self._own]:
            keeper = self._keepers.pop(url)
            keeper.stop()
            while (event := keeper.poll_event()) is not None:
                self._events.append(event)
            self._release(url)

    def send(self, to: RelayAddress, packets: tuple[bytes, ...], now: float) -> None:
        """Send `packets` to a client of a relay we keep."""
        if to.url not in self._keepers:
            self._drop("relay: not connected to it any more")
            return
        self._keepers[to.url].send(to.key, packets, now)
        self._touch(to.url)
        self._settle(now)

    def state(self, url: str) -> tuple[bool, str]:
        """Whether the relay is connected, and the last error when it is not."""
        keeper = self._keepers.get(url)
        return (keeper.is_up, keeper.last_error) if keeper is not None else (False, "not in use")

    def stream_opened(self, stream: str, now: float) -> None:
        """The byte stream to a relay stands."""
        self._with(stream, lambda keeper: keeper.stream_opened(now), now)

    def stream_data(self, stream: str, data: bytes, now: float) -> None:
        """Bytes from a relay."""
        self._with(stream, lambda keeper: keeper.stream_data(data, now), now)

    def stream_closed(self, stream: str, error: str, now: float) -> None:
        """A stream to a relay ended or could not be opened."""
        self._with(stream, lambda keeper: keeper.stream_closed(error, now), now)

    def stream_paused(self, stream: str, now: float) -> None:
        """A stream to a relay takes no more for now."""
        self._with(stream, lambda keeper: keeper.stream_paused(now), now)

    def stream_resumed(self, stream: str, now: float) -> None:
        """A stream to a relay takes bytes again."""
        self._with(stream, lambda keeper: keeper.stream_resumed(now), now)

    def _child_event(self, key: str, event: Event, now: float) -> None:
        if not isinstance(event, RelayDistance):
            self._events.append(event)
        if isinstance(event, RelayDistance | RelayUp | RelayDown) and key in self._own:
            self._choose_home()

    def _choose_home(self) -> None:
        standing = {url: k for url in self._own if (k := self._keepers.get(url)) is not None and k.is_up}
        home = standing.get(self._home or "")
        if home is not None and home.round_trip is None:
            return  # it was home before; whether it is near enough we shall know soon
        round_trips = {
            url: UNMEASURED_S if k.round_trip is None else k.round_trip for url, k in standing.items()
        }
        choice = choose_home(round_trips, self._home)
        if choice.url is not None and choice.url != self._home:
            self._home = choice.url
            self._events.append(HomeRelayChanged(choice.url, choice.reason))

    def _with(self, stream: str, use: Callable[[RelayKeeper], None], now: float) -> None:
        for url, keeper in self._keepers.items():
            if keeper.owns(stream):
                use(keeper)
                self._touch(url)
                self._settle(now)
                return
