"""Every target by its name: a function that takes any bytes, and fails by an exception.

A target raises nothing for input that is refused in the documented way; whatever leaves it is a bug.
"""

from collections.abc import Callable

from tests.fuzz import gateway_codecs, local_codecs, peer_codecs, relay_codecs, stun_codecs

Target = Callable[[bytes], None]

TARGETS: dict[str, Target] = {
    target.__name__: target
    for module in (stun_codecs, relay_codecs, peer_codecs, gateway_codecs, local_codecs)
    for target in module.TARGETS
}
