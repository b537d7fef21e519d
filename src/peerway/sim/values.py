"""Whether each value of a plan or scenario may stand where it stands.

Of what type it has to be is said by the annotation of its field, and how large a number may be by
`RANGES`, where a name stands for all fields that have it.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass, is_dataclass
from functools import cache
from types import NoneType
from typing import Any, Literal, NamedTuple, get_args, get_origin, get_type_hints

Fits = Callable[[Any], bool]


@dataclass(frozen=True, slots=True)
class Range:
    """Finite numbers from `least` to `most`; with `is_open` not `least` itself."""

    least: float = -math.inf
    most: float = math.inf
    is_open: bool = False

    @property
    def bounds(self) -> tuple[float, float]:
        """The least and the greatest number that is in it."""
        least = math.nextafter(self.least, math.inf) if self.is_open else self.least
        return max(least, -sys.float_info.max), min(self.most, sys.float_info.max)

    def __str__(self) -> str:
        if self == _ANY:
            return ""
        if self.is_open:
            return f" above {self.least}" + ("" if self.most == math.inf else f", at most {self.most}")
        return f" of at least {self.least}" if self.most == math.inf else f" from {self.least} to {self.most}"


_ANY = Range()
_CHANCE = Range(0, 1)
_NOT_NEGATIVE = Range(0)
_POSITIVE = Range(0, is_open=True)
_COUNT = Range(1)
RANGES = {
    # links
    **dict.fromkeys(("delay_s", "jitter_s", "reorder_s", "queue_bytes"), _NOT_NEGATIVE),
    **dict.fromkeys(("loss", "reorder", "duplicate", "end"), _CHANCE),
    "begin": Range(0, 1, is_open=True),
    "rate": _POSITIVE,
    "mtu": Range(68),  # RFC 791
    # NATs
    **dict.fromkeys(("idle_s", "stream_idle_s", "lifetime_s"), _POSITIVE),
    **dict.fromkeys(("memory_s", "other_ports_per_s", "block_ports"), _NOT_NEGATIVE),
    **dict.fromkeys(("port_step", "session_limit", "host_session_limit"), _COUNT),
    # routers, hosts, relays
    "outside_addresses": Range(1, 253),
    "port": Range(0, 65535),
    "bridges": Range(0, 15),  # from 172.17.0.0/16 to the end of 172.16.0.0/12
    **dict.fromkeys(("drop", "delay", "lie", "alter", "reflect", "replay", "deny"), _CHANCE),
    # scenarios
    "seed": _ANY,
    "seconds": _POSITIVE,
    "size": _COUNT,
    "under": _NOT_NEGATIVE,
}


def misfits(part: Any, owner: str = "") -> Iterator[str]:
    """What is wrong with the fields of the dataclass `part`, called `owner`; what is in tuples left out."""
    for field in _fields_of(type(part)):  # type: ignore[arg-type]  # to mypy no class is hashable
        value = getattr(part, field.name)
        if not field.fits(value):
            yield f"{owner}.{field.name} is {value!r}: it must be {field.expected}".lstrip(".")
        elif field.is_part and value is not None:
            yield from misfits(value, f"{owner}.{field.name}".lstrip("."))


class _Field(NamedTuple):
    """A field: what fits there, the same in words, and whether that has fields of its own."""

    name: str
    fits: Fits
    expected: str
    is_part: bool


@cache
def _fields_of(kind: type) -> tuple[_Field, ...]:
    return tuple(_field(name, hint) for name, hint in get_type_hints(kind).items())


def _field(name: str, hint: Any) -> _Field:
    if NoneType in get_args(hint):
        (other,) = (arm for arm in get_args(hint) if arm is not NoneType)
        field = _field(name, other)
        return field._replace(
            fits=lambda value: value is None or field.fits(value), expected=f"None or {field.expected}"
        )
    return _Field(name, *_fitting(hint, RANGES.get(name, _ANY)), is_part=is_dataclass(hint))


def _fitting(hint: Any, numbers: Range) -> tuple[Fits, str]:
    """What fits a type, and the same in words."""
    if get_origin(hint) is tuple:
        return _fitting_tuple(get_args(hint))
    if get_origin(hint) is Literal:
        words = get_args(hint)
        return (lambda value: value in words), " or ".join(map(repr, words))
    if hint in (int, float):
        return _fitting_number(hint, numbers)
    return (lambda value: isinstance(value, hint)), f"a {hint.__name__}"


def _fitting_number(hint: type, numbers: Range) -> tuple[Fits, str]:
    kinds, what = ((int,), "a whole number") if hint is int else ((int, float), "a number")
    least, most = numbers.bounds
    return (
        lambda value: isinstance(value, kinds) and not isinstance(value, bool) and least <= value <= most
    ), f"{what}{numbers}"


def _fitting_tuple(items: tuple[Any, ...]) -> tuple[Fits, str]:
    kinds = get_args(items[0]) or (items[0],)  # what stands there is classes, or a union of them
    count = None if items[-1] is Ellipsis else len(items)

    def fits(value: object) -> bool:
        return (
            isinstance(value, tuple)
            and count in (None, len(value))
            and all(isinstance(item, kinds) for item in value)
        )

    names = " or ".join(kind.__name__ for kind in kinds)
    return fits, f"a tuple of {names}" if count is None else f"a tuple of {count} {names}"
