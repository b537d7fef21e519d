"""docs/reference/limits.md and the source say the same."""

import importlib
import re
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest

from peerway.core.relay.limits import RelayLimits

ROOT = Path(__file__).parents[1]
SOURCE = ROOT / "src" / "peerway"
PAGE = (ROOT / "docs" / "reference" / "limits.md").read_text()
ROW = re.compile(
    r"^\| (.+) \| ([\d,.]+)(?: (\w+))? \| `([\w.]+)` \| (.+) \| (?:`(.+)`)? ?\| `(\S+)` \|$", re.MULTILINE
)
UNITS = {"": 1, "s": 1, "KiB": 1 << 10, "MiB": 1 << 20, "MB": 1_000_000}
ROWS = [pytest.param(*found.groups(""), id=found[4]) for found in ROW.finditer(PAGE)]
# Limits on what is parsed or built, which nobody but the user, or a single message, can reach.
FORMATS = (
    "core/stun/attributes",
    "core/stun/framing",
    "core/stun/message",
    "core/netcheck",
    "core/portmap",
    "core/quic/transport",
    "core/relay/url",
    "core/ticket",
    "io/keyfile",
    "io/leases",
)
ELSEWHERE = {
    "MAX_CONNECTION_ID": "a field of a signal",
    "MAX_MAPPED": "of our own candidates",
    "MAX_REASON_BYTES": "a field of a goodbye",
    "MAX_REASON_CHARACTERS": "a field of a goodbye",
    "MAX_REFLEXIVE": "of our own candidates",
    "MAX_ROUTES": "the sum of two that are named",
    "MAX_SOFTWARE_BYTES": "what the operator gives",
    "MAX_UNKNOWN_LISTED": "a field of an answer",
    "MAX_WAITING": "within MAX_GUESTS",
}


def test_every_row_is_understood():
    tables = PAGE.partition("## Hard times")[0]
    assert len(ROWS) == tables.count("\n| ") - tables.count("\n| limit | value |")
    assert len(ROWS) > 90


def source_of(where):
    """The value at a dotted name within `peerway`."""
    names = where.split(".")
    for length in range(len(names) - 1, 0, -1):
        try:
            found = importlib.import_module(".".join(["peerway", *names[:length]]))
        except ModuleNotFoundError:
            continue
        for name in names[length:]:
            found = found() if is_dataclass(found) else found  # slots hide the defaults of the class
            found = getattr(found, name)
        return found
    raise LookupError(where)


@pytest.mark.parametrize(("what", "number", "unit", "where", "reached", "counter", "shown_by"), ROWS)
def test_the_value_is_that_of_the_source(what, number, unit, where, reached, counter, shown_by):
    assert float(number.replace(",", "")) * UNITS[unit] == source_of(where)


ALL_SOURCE = "".join(path.read_text() for path in sorted(SOURCE.rglob("*.py")))


@pytest.mark.parametrize(("what", "number", "unit", "where", "reached", "counter", "shown_by"), ROWS)
def test_the_counter_is_one_and_the_test_is_there(what, number, unit, where, reached, counter, shown_by):
    reason = (
        re.sub(r"^(relay|stun): ", "", counter)
        if where.startswith(("core.relay", "server", "core.stun"))
        else counter
    )
    assert not counter or re.search(rf'"{re.escape(reason)}"', ALL_SOURCE)
    path, _, function = shown_by.partition("::")
    assert f"def {function}(" in (ROOT / path).read_text()


def named_limits():
    """Every constant of the source that by its name is a limit, as path and name."""
    for folder in ("core", "io", "server"):
        for path in sorted((SOURCE / folder).rglob("*.py")):
            module = path.relative_to(SOURCE).with_suffix("").as_posix()
            for name in re.findall(
                r"^(MAX_\w+|\w+_PER_S|\w+_BURST|QUEUE_\w+) = ", path.read_text(), re.MULTILINE
            ):
                if not module.startswith(FORMATS):
                    yield module.replace("/", "."), name


@pytest.mark.parametrize(("module", "name"), list(named_limits()))
def test_every_limit_of_the_source_is_on_the_page(module, name):
    assert f"`{module}.{name}`" in PAGE or name in ELSEWHERE


@pytest.mark.parametrize("field", [field.name for field in fields(RelayLimits)])
def test_every_limit_of_a_relay_is_on_the_page(field):
    assert f"`core.relay.limits.RelayLimits.{field}`" in PAGE
