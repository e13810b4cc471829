"""Training in two processes, of which one is killed: the other ends with a clear error, and the same command
resumes to the bits of an uninterrupted training.
"""

import os
import random
import shutil
import signal
import socket
from pathlib import Path

from benchmarks.faults import outcomes
from benchmarks.faults.fork_server import Ended, Running, start
from benchmarks.faults.injections import Injection
from benchmarks.faults.scripts import Script
from common.runs import UsageError

SIZE = 2
MOST_IN_VAIN = 5
"""Runs in a row that may end before the kill."""
SURVIVOR_SECONDS = 120.0
"""Within which the surviving process must have ended."""
CLEAR = "error: another process of this job ended"


def lose_one(script: Script, place: Path, losses: int, draw: random.Random) -> dict:
    """Loses a process `losses` times, each in a new run that is then finished.

    Returns:
        Counts: losses, survivors that ended late or unclearly, and files that differ after the resume.
    """
    out = place / f"{script.name}_two"
    whole = _wait(_start(script, out))
    if any(one.code for one in whole):
        said = "".join(one.said[-1500:] for one in whole if one.code)
        raise UsageError(f"{script.name} in two processes failed: {said}")
    expected = outcomes.contents(out)
    seconds = min(one.seconds for one in whole)
    counts = {"losses": 0, "late": 0, "unclear": 0, "wrong": 0, "said": ""}
    for number in range(losses):
        out = place / f"{script.name}_two_{number}"
        survivor = _survivor(script, out, seconds, draw)
        counts["losses"] += 1
        counts["late"] += survivor.code == -signal.SIGKILL
        resumed = _wait(_start(script, out))
        counts["unclear"] += not _is_clear(survivor) or any(one.code for one in resumed)
        counts["said"] = survivor.said[survivor.said.rfind("error:") :][:300]
        found = outcomes.contents(out)
        counts["wrong"] += sum(
            found.get(name) != expected.get(name) for name in found.keys() | expected.keys()
        )
    return counts


def _survivor(script: Script, out: Path, seconds: float, draw: random.Random) -> Ended:
    """How one process ended whose peer was killed; runs that end before the kill do not count."""
    for _ in range(MOST_IN_VAIN):
        shutil.rmtree(out, ignore_errors=True)
        ranks = _start(script, out)
        victim = draw.randrange(SIZE)
        early = ranks[victim].wait(draw.uniform(0.2, 0.9) * seconds, kill=False)
        ranks[victim].kill()
        survivor = ranks[1 - victim].wait(SURVIVOR_SECONDS)
        if early is None:
            return survivor
    raise UsageError(f"{script.name} in two processes ends before it can be killed: {early.said[-1500:]}")


def _is_clear(survivor: Ended) -> bool:
    """Whether it said in one line that another process is lost, or had ended well before."""
    return survivor.code == 0 or (CLEAR in survivor.said and "Traceback" not in survivor.said)


def _start(script: Script, out: Path) -> list[Running]:
    out.mkdir(parents=True, exist_ok=True)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    return [start(script.command(out), out, _as_rank(rank, port)) for rank in range(SIZE)]


def _as_rank(rank: int, port: int) -> Injection:
    """Sets what torchrun sets."""
    names = {"RANK": rank, "LOCAL_RANK": rank, "WORLD_SIZE": SIZE, "LOCAL_WORLD_SIZE": SIZE}
    names |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port}
    return lambda directory: os.environ.update({name: str(value) for name, value in names.items()})


def _wait(ranks: list[Running]) -> list[Ended]:
    return [one.wait() for one in ranks]
