"""Every target by its name: a function that takes any bytes, and fails by an exception.

A target raises nothing for input that is refused in the documented way; whatever leaves it is a bug.
"""

from collections.abc import Callable

from tests.fuzz import (
    gateway_codecs,
    gateway_machines,
    local_codecs,
    node_machines,
    peer_codecs,
    peer_machines,
    relay_codecs,
    relay_machines,
    stun_codecs,
    stun_machines,
)

Target = Callable[[bytes], None]

CODECS = (stun_codecs, relay_codecs, peer_codecs, gateway_codecs, local_codecs)
MACHINES = (stun_machines, relay_machines, gateway_machines, peer_machines, node_machines)
TARGETS: dict[str, Target] = {
    target.__name__: target for module in (*CODECS, *MACHINES) for target in module.TARGETS
}
