"""Time limits as Slurm writes them: minutes, MM:SS, H:MM:SS, D-H, D-HH:MM or D-HH:MM:SS."""

import re

from common.errors import UsageError


def minutes_of(limit: str) -> float:
    """A time limit in minutes. Raises UsageError for anything else."""
    found = re.fullmatch(r"(?:(\d+)-)?(\d+)(?::(\d+))?(?::(\d+))?", limit)
    if not found:
        raise UsageError(f"--time is {limit}: give minutes, H:MM:SS or D-HH:MM:SS, such as 90 or 1-12:00:00")
    days, *parts = found.groups()
    numbers = [int(part) for part in parts if part is not None]
    if days is not None:
        hours, minutes, seconds = (*numbers, 0, 0)[:3]
    elif len(numbers) == 3:
        hours, minutes, seconds = numbers
    else:
        hours, minutes, seconds = 0, *(*numbers, 0)[:2]
    return int(days or 0) * 1440 + hours * 60 + minutes + seconds / 60


def limit_of(minutes: float) -> str:
    """A time limit as H:MM:SS or D-HH:MM:SS: the minutes rounded up, one at least."""
    whole = max(-int(-minutes // 1), 1)
    days, rest = divmod(whole, 1440)
    clock = f"{rest // 60:02d}:{rest % 60:02d}:00"
    return f"{days}-{clock}" if days else clock
