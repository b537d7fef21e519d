"""All relays a node is connected to: its home relays for as long as it runs, others while needed."""

from __future__ import annotations

from collections.abc import Callable, Collection

from peerway.core.machine import Composite, RelayAddress, Rng
from peerway.core.relay.keeper import RelayKeeper
from peerway.core.relay.url import RelayUrl


class RelayConnections(Composite[str]):
    """Keepers by URL. `home` are canonical URLs; `home_key` is the X25519 secret shown to them alone."""

    def __init__(self, home: tuple[str, ...], home_key: bytes, rng: Rng) -> None:
        super().__init__()
        self._home = home
        self._home_key = home_key
        self._rng = rng
        self._keepers: dict[str, RelayKeeper] = {}

    def __contains__(self, url: str) -> bool:
        return url in self._keepers

    def keep(self, relay: RelayUrl, now: float) -> None:
        """Have a connection to `relay` kept; when it is down, try again at once."""
        url = str(relay)
        if url in self._keepers:
            self._keepers[url].retry(now)
        else:
            keeper = self._keepers[url] = RelayKeeper(url, self._key_for(url), self._rng)
            self._adopt(url, keeper)
            keeper.start(now)
        self._touch(url)
        self._settle(now)

    def _key_for(self, url: str) -> Callable[[], bytes]:
        # any but the home relays sees a key made for this connection only: the one derived
        # from our identity could be used, live, to pose as us at the home relay
        if url in self._home:
            return lambda: self._home_key
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
        """Let go of relays that are neither home nor in `needed`."""
        for url in [url for url in self._keepers if url not in needed and url not in self._home]:
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

    def _with(self, stream: str, use: Callable[[RelayKeeper], None], now: float) -> None:
        for url, keeper in self._keepers.items():
            if keeper.owns(stream):
                use(keeper)
                self._touch(url)
                self._settle(now)
                return
