"""Asks a script to stop, by SIGINT or SIGTERM: it must end soon, with the right code, and tell the truth."""

import logging
import os
import random
import re
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from benchmarks.faults.fork_server import Ended, start
from benchmarks.faults.tally import STOPS, Committed, Tally
from common.checkpoints import BadCheckpoint, load_checkpoint

LIMIT_SECONDS = 10.0
"""A script ends at the latest this long after it was asked to."""
KNOWN = (
    "it left nothing half-written; ",
    "the demo was in this step: ",
    ": the same command goes on from there",
)
"""Messages that state nothing about files."""
DEMO = "demo.py --num_timesteps 4096 --num_episodes 16 --num_batches 8 --out_dir"
"""The demo runs other scripts, and is not run to its end."""
DEMO_SECONDS = 60.0


def stop_once(words: Sequence[str], out: Path, name: str, seconds: float, tally: Tally) -> bool:
    """Runs a script, sends it a signal, and checks how it ends; False if it had ended before.

    Args:
        words: its command.
        out: directory of its results.
        name: of the signal.
        seconds: until the signal.
        tally: where findings are noted.
    """
    committed = Committed(out)
    running = start(list(words), out)
    if (ended := running.wait(seconds, kill=False)) is not None:
        tally.note("unclear", unclear(words, ended, 0))
        return False
    number = signal.Signals[name]
    os.kill(running.process, number)
    asked = time.monotonic()
    ended = running.wait()
    tally.stops[name] += 1
    late = time.monotonic() - asked
    tally.note("late", [f"{late:.1f} s after {name}"] if late > LIMIT_SECONDS else [])
    tally.note("unclear", unclear(words, ended, number))
    tally.note("untrue", untrue(ended.said))
    committed.compare(tally)
    return True


def stop_demo(place: Path, stops: int, draw: random.Random) -> Tally:
    """Asks the demo to stop again and again; each time it goes on where it was."""
    tally = Tally()
    out = place / "demo"
    out.mkdir(parents=True)
    words = [*DEMO.split(), str(out)]
    for i in range(stops):
        seconds = draw.uniform(0.05, 0.9) * DEMO_SECONDS
        if not stop_once(words, out, STOPS[i % len(STOPS)], seconds, tally):
            break
    for finding in tally.findings:
        logging.warning("demo: %s", finding)
    return tally


def unclear(words: Sequence[str], ended: Ended, number: int) -> list[str]:
    """What is wrong with the code and the words of a script that a signal ended; one that had finished ends
    with 0.
    """
    if already_there(words, ended):
        return []
    if ended.code not in (0, 128 + number):
        return [f"it ended with {ended.code}: {ended.said[-700:]}"]
    if "Traceback" in ended.said:
        return [f"a traceback: {ended.said[-700:]}"]
    if not ended.code:
        return []
    said = f"interrupted by {signal.Signals(number).name}: "
    return [] if said in ended.said else [f"it does not say {said!r}: {ended.said[-700:]}"]


def already_there(words: Sequence[str], ended: Ended) -> bool:
    """Whether convert.py, which never overwrites, refused to run again after it had finished."""
    return words[0] == "convert.py" and "is there already" in ended.said


def untrue(said: str) -> list[str]:
    """Statements about what is kept that differ from the files."""
    lines = [line for line in re.split(r"[\r\n]+", said) if line.startswith("interrupted by ")]
    return [problem for line in lines for problem in _false(line)]


def _false(line: str) -> list[str]:
    state = re.search(r"the state (?:at|after) ([\d,]+) of [\d,]+ (?:steps|batches) is saved in (\S+);", line)
    if state:
        return _false_state(int(state[1].replace(",", "")), Path(state[2]), line)
    shards = re.search(r"(\d+) of \d+ shards are whole in (\S+);", line)
    if shards:
        found = len(list(Path(shards[2]).glob("shard_*.json")))
        return [] if found == int(shards[1]) else [f"{line!r}, and there are {found} shards"]
    where = re.search(r"what was finished is in (\S+);", line)
    if where:
        return [] if any(Path(where[1]).iterdir()) else [f"{line!r}, and nothing is there"]
    return [] if any(known in line for known in KNOWN) else [f"it says {line!r}"]


def _false_state(steps: int, run: Path, line: str) -> list[str]:
    try:
        about = load_checkpoint(run / "train_state.safetensors")[1]
    except BadCheckpoint as error:
        return [f"{line!r}, and {error}"]
    found = about.get("timesteps", about.get("batches"))
    return [] if found == steps else [f"{line!r}, and the state is that of {found}"]
