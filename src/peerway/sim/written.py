"""Values written as the Python that makes them: what differs from the defaults, and nothing else.

What is printed can be pasted into a test or into `peerway.sim.regressions`; every name in it is one of
`peerway.sim`'s. Lines are broken as ruff and black do it.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import MISSING, Field, fields, is_dataclass
from enum import Enum

WIDTH = 100
_INDENT = "    "


def written(value: object, width: int = WIDTH) -> str:
    """`value`, a dataclass of plain data, as Python source in lines of `width` where that is possible."""
    return _lay_out(value, "", width, "", "")


def default_of(field: Field[object]) -> object:
    """What a field is unless it is given; `dataclasses.MISSING` for one that must be."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def _lay_out(value: object, indent: str, width: int, before: str, after: str) -> str:
    line = f"{indent}{before}{_in_line(value)}{after}"
    if len(line) <= width or not (parts := list(_parts(value))):
        return line
    opening, closing = _brackets(value)
    inside = [_lay_out(part, indent + _INDENT, width, name, ",") for name, part in parts]
    return "\n".join([f"{indent}{before}{opening}", *inside, f"{indent}{closing}{after}"])


def _in_line(value: object) -> str:
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    if isinstance(value, str):
        return json.dumps(value, ensure_ascii=False)  # its quotes are the double ones
    if not is_dataclass(value) and not isinstance(value, tuple):
        return repr(value)
    opening, closing = _brackets(value)
    inside = ", ".join(f"{name}{_in_line(part)}" for name, part in _parts(value))
    lonely = "," if isinstance(value, tuple) and len(value) == 1 else ""
    return f"{opening}{inside}{lonely}{closing}"


def _brackets(value: object) -> tuple[str, str]:
    return ("(" if isinstance(value, tuple) else f"{type(value).__name__}("), ")"


def _parts(value: object) -> Iterator[tuple[str, object]]:
    """What stands between the brackets: each part after the keyword that it needs."""
    if isinstance(value, tuple):
        yield from (("", item) for item in value)
    elif is_dataclass(value):
        for field in fields(value):
            default, actual = default_of(field), getattr(value, field.name)
            if default is MISSING:
                yield "", actual
            elif actual != default:
                yield f"{field.name}=", actual
