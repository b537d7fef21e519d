"""What every record of figures must be: complete."""

import math


def complete(figures):
    """The same figures; fails when one of them, however deeply nested, is missing or no number."""
    missing = [where for where, value in _leaves(figures) if _is_missing(value)]
    assert not missing, f"no figure for {', '.join(missing)}"
    return figures


def _leaves(figures, where=""):
    if not isinstance(figures, dict):
        yield where, figures
    elif not figures:
        yield where, None
    else:
        for key, value in figures.items():
            yield from _leaves(value, f"{where}.{key}" if where else str(key))


def _is_missing(value):
    return value is None or (isinstance(value, float) and not math.isfinite(value))
