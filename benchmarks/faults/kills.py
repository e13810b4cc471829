"""Kills a script again and again, lets it finish, and compares the result with an uninterrupted run's."""

import json
import logging
import math
import random
import shutil
import signal
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.faults import outcomes
from benchmarks.faults.fork_server import Ended, run, start
from benchmarks.faults.injections import (
    Counter,
    counting,
    full_disk,
    full_write,
    jumping_clock,
    kill_after,
    kill_at,
    nothing,
    read_only,
    torn_write,
)
from benchmarks.faults.scripts import Script
from benchmarks.faults.stops import already_there, stop_once
from benchmarks.faults.tally import ENDINGS, KINDS, REFUSALS, STOPS, Committed, Tally
from common.checkpoints import write_json
from common.runs import UsageError

MOST = 0.6
"""A kill comes at the latest after this share of an uninterrupted run; a resumed run has less ahead of it."""
MOST_IN_VAIN = 5
"""Runs in a row that may end before a kill."""
KILLED = (-signal.SIGKILL, -signal.SIGXFSZ, -signal.SIGPROF)


@dataclass
class Reference:
    """An uninterrupted run: contents of its files, operations, seconds of the processor, and the size of its
    largest file.
    """

    contents: dict[str, str]
    operations: int
    processor: float
    largest: int


def reference(script: Script, out: Path) -> Reference:
    """Runs a script without faults, and checks that a second run has the same contents; or reads what an
    earlier call found.
    """
    noted = out.with_suffix(".json")
    if noted.exists():
        return Reference(**json.loads(noted.read_text()))
    again = out.with_name(f"{out.name}_again")
    counter = Counter()
    ended = [_uninterrupted(script, place, counter) for place in (again, out)]
    first, second = outcomes.contents(out), outcomes.contents(again)
    differing = [name for name in first.keys() | second.keys() if first.get(name) != second.get(name)]
    if differing:
        raise UsageError(f"two uninterrupted runs of {script.name} differ in {sorted(differing)[:5]}")
    shutil.rmtree(again)
    sizes = [path.stat().st_size for path in outcomes.files_below(out)]
    found = Reference(first, counter.value // 2, min(one.processor for one in ended), max(sizes))
    write_json(noted, asdict(found))
    return found


def _uninterrupted(script: Script, out: Path, counter: Counter) -> Ended:
    _begin(script, out)
    ended = run(script.command(out), out, counting(counter))
    if ended.code:
        raise UsageError(f"{script.name} ended with {ended.code}: {ended.said[-2000:]}")
    return ended


def _begin(script: Script, out: Path) -> None:
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir(parents=True)
    script.prepare(out)


def kill_often(
    script: Script, expected: Reference, place: Path, kills: int, per_run: int, draw: random.Random
) -> Tally:
    """Kills a script `kills` times, several times per run. Each run is also asked to stop, meets a full disk
    or a read-only directory, and is then finished.

    Args:
        script: the script.
        expected: its uninterrupted run.
        place: directory for the runs.
        kills: number of kills.
        per_run: kills of one run at most.
        draw: chooses times and operations, and the first kind of stop, refusal and ending.
    """
    tally = Tally()
    number, in_vain = draw.randrange(math.lcm(len(STOPS), len(REFUSALS), len(ENDINGS))), 0
    while tally.total < kills:
        before = tally.total
        out = place / f"{script.name}_{number}"
        _begin(script, out)
        for _ in range(min(per_run, kills - tally.total)):
            if not _kill_once(script, expected, out, draw, tally):
                break
        seconds = draw.uniform(0.0, MOST) * expected.processor
        stop_once(script.command(out), out, STOPS[number % len(STOPS)], seconds, tally)
        _refuse_once(script, expected, out, REFUSALS[number % len(REFUSALS)], draw, tally)
        _finish(script, expected, out, ENDINGS[number % len(ENDINGS)], tally)
        shutil.rmtree(out)
        number += 1
        in_vain = in_vain + 1 if tally.total == before else 0
        if in_vain == MOST_IN_VAIN:
            raise UsageError(f"{script.name} ends before it can be killed: {tally.findings[-1:]}")
    for finding in tally.findings:
        logging.warning("%s: %s", script.name, finding)
    return tally


def _kill_once(script: Script, expected: Reference, out: Path, draw: random.Random, tally: Tally) -> bool:
    """Runs the script with one kill and checks what is left; False if it ended before."""
    kind = KINDS[tally.tried % len(KINDS)]
    tally.tried += 1
    committed = Committed(out)
    ended = _run_with_kill(script, expected, out, kind, draw)
    if ended.code not in KILLED:
        if ended.code and not already_there(script.command(out), ended):
            tally.note("unclear", [f"{kind}: it ended with {ended.code}: {ended.said[-700:]}"])
        return False
    tally.kills[kind] += 1
    committed.compare(tally)
    return True


def _run_with_kill(script: Script, expected: Reference, out: Path, kind: str, draw: random.Random) -> Ended:
    share = draw.uniform(0.02, MOST)
    operation = 1 + int(share * expected.operations)
    if kind == "operation":
        return run(script.command(out), out, kill_at(operation))
    if kind == "torn":
        size = int(expected.largest ** draw.uniform(0.2, 1.0))
        return run(script.command(out), out, torn_write(operation, size))
    return run(script.command(out), out, kill_after(share * expected.processor))


def _refuse_once(
    script: Script, expected: Reference, out: Path, kind: str, draw: random.Random, tally: Tally
) -> None:
    """Runs the script with a full disk or a directory that it may not write: one clear line, nothing lost."""
    committed = Committed(out)
    operation = draw.randint(1, max(1, expected.operations // 2))
    faults = {
        "full_disk": full_disk(operation),
        "full_write": full_write(operation, int(expected.largest ** draw.uniform(0.2, 1.0))),
        "read_only": read_only,
    }
    ended = run(script.command(out), out, faults[kind])
    tally.refusals[kind] += 1
    if not _ended_clearly(ended):
        tally.note("unclear", [f"{kind}: it ended with {ended.code}: {ended.said[-700:]}"])
    committed.compare(tally)


def _finish(script: Script, expected: Reference, out: Path, ending: str, tally: Tally) -> None:
    """The same command again: it must end well, and its results must equal the reference's."""
    tally.endings[ending] += 1
    if ending == "rivals":
        rivals = [start(script.command(out), out, nothing) for _ in range(2)]
        ends = [rival.wait() for rival in rivals]
        tally.note("unclear", [f"rivals: {one.said[-700:]}" for one in ends if not _ended_clearly(one)])
    ended = run(script.command(out), out, jumping_clock(tally.total) if ending == "clock" else nothing)
    if ended.code and not already_there(script.command(out), ended):
        tally.note("unclear", [f"{ending}: it ended with {ended.code}: {ended.said[-700:]}"])
    found = outcomes.contents(out)
    names = sorted(found.keys() | expected.contents.keys())
    wrong = [name for name in names if found.get(name) != expected.contents.get(name)]
    tally.note("wrong", [f"{ending}: {name}" for name in wrong])
    tally.note("leftovers", outcomes.leftovers(out))


def _ended_clearly(ended: Ended) -> bool:
    """Whether a run ended well, or with one line that says why."""
    return not ended.code or ("error: " in ended.said and "Traceback" not in ended.said)
