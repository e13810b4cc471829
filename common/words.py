"""Words of messages and captions."""

import math


def counted(number: int, one: str, more: str = "") -> str:
    """A number with its noun: "1 episode", "6,864 steps". more: the plural, where it is not `one` with an s
    (or es).
    """
    plural = more or one + ("es" if one.endswith(("ch", "s", "x")) else "s")
    return f"1 {one}" if number == 1 else f"{number:,} {plural}"


def with_interval(value: float | None, low: float | None, high: float | None, form: str = ".2f") -> str:
    """A number with its interval, "0.51 [0.27, 0.71]"; without one where there is none, and "undefined" for
    no number. form: Python's format of each.
    """
    if not _is_number(value):
        return "undefined"
    bounds = f" [{low:{form}}, {high:{form}}]" if _is_number(low) and _is_number(high) else ""
    return f"{value:{form}}{bounds}"


def _is_number(x: float | None) -> bool:
    return x is not None and math.isfinite(x)
