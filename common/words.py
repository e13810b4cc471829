"""Words of messages and captions."""


def counted(number: int, one: str, more: str = "") -> str:
    """A number with its noun: "1 episode", "6,864 steps". more: the plural, where it is not `one` with an s (or es)."""
    plural = more or one + ("es" if one.endswith(("ch", "s", "x")) else "s")
    return f"1 {one}" if number == 1 else f"{number:,} {plural}"
