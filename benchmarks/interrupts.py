"""Interrupts programs at random moments, runs them again to the end, and checks that nothing finished is
lost.

After each signal it records the exit code, the seconds until the end, whether the program's message is true,
and whether every finished file is unchanged. Once a program has run to its end, its results must equal, bit
for bit, those of an uninterrupted run, and no partial file may remain. The demo is interrupted repeatedly but
not run to its end: its steps are the other programs.
"""

import csv
import hashlib
import json
import logging
import os
import re
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    work_dir: Path
    """An empty directory for the runs."""
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """Agent to record and analyse."""
    programs: tuple[str, ...] = ("train", "record", "train_gen_model", "precompute", "demo")
    """Programs to test; rows of other programs in the output are kept."""
    interrupts: int = 6
    """Signals per program; SIGINT, SIGTERM and SIGKILL take turns."""
    per_run: int = 3
    """Signals per run before it may end."""
    seed: int = 0
    """Seed of the times of interruption."""
    out_file: Path = Path("docs/results/interrupts.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.checkpoints import BadCheckpoint, load_checkpoint, write_json
from common.runs import UsageError, manifest

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LIMIT_SECONDS = 10.0
VOLATILE = ("manifest.json", "config.json", "done.json", "lock", "events.out.*", "latest")
"""Files that record when and how a run was made."""
GROWING = ("log.csv", "progress.csv", "train_state.safetensors", "best.safetensors")
"""Files that a program overwrites as it proceeds; compared with the reference at the end only."""
CLOCKS = ("wall_time", "steps_per_second", "frames_per_second", "wait_share", "peak_memory_mb", "peak_gpu_mb")
LEFTOVERS = (".*.part", ".*.lock", ".latest.*", ".*_[0-9a-f]*.[0-9]*")


@dataclass
class Program:
    """A program under test.

    Attributes:
        command: its words, given the directory of its results.
        seconds: duration of an uninterrupted run, once there was one.
    """

    name: str
    command: Callable[[Path], list[object]]
    finishes: bool = True
    seconds: float = 40.0
    reference: dict[str, str] = field(default_factory=dict)


def programs(args: Args, store: Path) -> dict[str, Program]:
    """All five programs, at small sizes; `record` writes the store that the later ones read."""
    agent = args.agent_file  # auto times the machine, and may choose another under load
    exact = ("--precision", "fp32")
    simple = ("--num_threads", 1, *exact)
    training = (
        "--param_name",
        "demo",
        "--num_levels",
        200,
        "--num_timesteps",
        8192,
        "--num_checkpoints",
        2,
        "--eval_episodes",
        2,
    )
    recording = (
        "--num_episodes",
        32,
        "--episodes_per_shard",
        4,
        "--num_envs",
        4,
        "--start_level",
        100_000,
        "--num_levels",
        400_000,
    )
    modelling = (
        "--interpreting_params_name",
        "tiny",
        "--num_batches",
        12,
        "--batch_size",
        4,
        "--log_interval",
        2,
        "--save_interval",
        4,
    )
    mapping = (
        "--methods",
        "pca",
        "nmf",
        "--points",
        800,
        "--clusters",
        4,
        "--components",
        4,
        "--counts",
        2,
        4,
        "--draws",
        0,
        "--maps",
        "tsne",
        "--path_episodes",
        2,
    )
    smallest = ("--num_timesteps", 4096, "--num_episodes", 16, "--num_batches", 8)
    listed = [
        Program("train", lambda out: ["train.py", *training, *simple, "--out_dir", out]),
        Program(
            "record", lambda out: ["record.py", "--agent_file", agent, *recording, *simple, "--out_dir", out]
        ),
        Program(
            "train_gen_model",
            lambda out: [
                "train_gen_model.py",
                "--agent_file",
                agent,
                "--data_dir",
                store,
                *modelling,
                *exact,
                "--out_dir",
                out,
            ],
        ),
        Program(
            "precompute",
            lambda out: [
                "analysis/hidden_analysis_precompute.py",
                "--data_dir",
                store,
                *mapping,
                "--out_dir",
                out,
            ],
        ),
        Program("demo", lambda out: ["demo.py", *smallest, "--out_dir", out], finishes=False, seconds=90.0),
    ]
    return {program.name: program for program in listed}


def start(program: Program, out: Path) -> subprocess.Popen:
    """Starts the program with stderr redirected to a file."""
    out.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *map(str, program.command(out))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(out.with_suffix(".log"), "w") as said:
        return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said)


def finish(program: Program, out: Path) -> float:
    """Runs the program to its end and returns the seconds."""
    began = time.monotonic()
    if code := start(program, out).wait():
        raise UsageError(f"{program.name} ended with {code}: {out.with_suffix('.log').read_text()[-2000:]}")
    return time.monotonic() - began


def digests(out: Path) -> dict[str, str]:
    """{path: hash} of every result below a directory, without clock columns."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith("."))
    chosen = [
        path
        for path in files
        if not any(path.match(name) for name in VOLATILE) and "latest" not in path.parts
    ]
    return {str(path.relative_to(out)): hashlib.sha256(_content(path)).hexdigest()[:16] for path in chosen}


def _content(path: Path) -> bytes:
    if path.suffix != ".csv":
        return path.read_bytes()
    with open(path) as file:
        rows = [
            {name: value for name, value in row.items() if name not in CLOCKS} for row in csv.DictReader(file)
        ]
    return json.dumps(rows).encode()


def leftovers(out: Path) -> list[str]:
    """Partial files below a directory."""
    return sorted(str(path.relative_to(out)) for name in LEFTOVERS for path in out.rglob(name))


def untrue(number: int, out: Path) -> list[str]:
    """Untrue statements in the program's message after a signal (SIGKILL gives none)."""
    said = out.with_suffix(".log").read_text()
    lines = [line for line in re.split(r"[\r\n]+", said) if line.startswith("interrupted by ")]
    problems = ["a traceback"] if "Traceback" in said else []
    if number == signal.SIGKILL:
        # a step of the demo that ended with it
        return problems + [f"it says {line!r}" for line in lines if "by SIGTERM: " not in line]
    problems += [
        f"it says {line!r}" for line in lines if f"interrupted by {signal.Signals(number).name}: " not in line
    ]
    return problems + [problem for line in lines for problem in _false(line, out)]


def _false(line: str, out: Path) -> list[str]:
    """Statements of a message that differ from the files on disk."""
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
    known = (
        "it left nothing half-written; " in line
        or "the demo was in this step: " in line
        or line.endswith(": the same command goes on from there")
    )
    return [] if known else [f"it says {line!r}"]


def _false_state(steps: int, run: Path, line: str) -> list[str]:
    try:
        about = load_checkpoint(run / "train_state.safetensors")[1]
    except BadCheckpoint as error:
        return [f"{line!r}, and {error}"]
    found = about.get("timesteps", about.get("batches"))
    return [] if found == steps else [f"{line!r}, and the state is that of {found}"]


def interrupt(program: Program, out: Path, number: int, after: float) -> dict | None:
    """Starts the program, sends the signal after the given seconds, and checks the outcome; None if it had
    ended before.
    """
    before = digests(out)
    left = leftovers(out)
    process = start(program, out)
    try:
        process.wait(after)
        return None
    except subprocess.TimeoutExpired:
        pass
    asked = time.monotonic()
    process.send_signal(number)
    code = process.wait()
    seconds = time.monotonic() - asked
    if program.name == "demo" and number == signal.SIGKILL:
        _wait_for_orphans(out)
    now = digests(out)
    shell = code if code >= 0 else 128 - code
    return {
        "program": program.name,
        "signal": signal.Signals(number).name,
        "after": round(after, 1),
        "code": code,
        "seconds": round(seconds, 2),
        "finished_files": len(now),
        "lost": [name for name in before if not name.endswith(GROWING) and now.get(name) != before[name]],
        "wrong_code": [] if shell == 128 + number or _had_finished(code, out) else [code],
        "late": [seconds] if seconds > LIMIT_SECONDS else [],
        "untrue": untrue(number, out),
        "leftovers": sorted(set(leftovers(out)) - set(left)) if number != signal.SIGKILL else [],
    }


def _had_finished(code: int, out: Path) -> bool:
    """Whether the signal came after all work was done, so that exit code 0 is right."""
    return code == 0 and any(out.rglob("done.json"))


def _users(out: Path) -> list[int]:
    """Other processes whose command line names the directory."""
    own = str(out)
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().decode(errors="replace").split("\0")
        except OSError:
            continue
        if int(path.parent.name) != os.getpid() and any(word.startswith(own) for word in words):
            found.append(int(path.parent.name))
    return found


def _wait_for_orphans(out: Path) -> None:
    """Checks that the demo's current step ends when the demo dies."""
    until = time.monotonic() + 2 * LIMIT_SECONDS
    while _users(out) and time.monotonic() < until:
        time.sleep(0.2)


def tried(program: Program, args: Args, rng: np.random.Generator) -> list[dict]:
    """All interruptions of a program, over as many runs as needed, each run to its end."""
    rows = []
    run = 0
    while len(rows) < args.interrupts:
        run += 1
        out = args.work_dir / f"{program.name}_{run}"
        for _ in range(args.per_run if program.finishes else args.interrupts):
            row = interrupt(
                program,
                out,
                SIGNALS[len(rows) % len(SIGNALS)],
                float(rng.uniform(0.05, 0.9)) * program.seconds,
            )
            if row is None or len(rows) == args.interrupts:
                break
            rows.append(row)
            logging.info("%s", json.dumps(row))
        if program.finishes:
            check_end(program, out, rows)
    return rows


def check_end(program: Program, out: Path, rows: list[dict]) -> None:
    """Runs the program to its end; adds differences from the reference and partial files to its last
    interruption.
    """
    finish(program, out)
    made = digests(out)
    differing = [
        name
        for name in sorted(made.keys() | program.reference.keys())
        if made.get(name) != program.reference.get(name)
    ]
    if rows:
        rows[-1] |= {"differing": differing, "leftovers": rows[-1]["leftovers"] + leftovers(out)}
        if differing or leftovers(out):
            logging.info("%s: differing %s, left %s", out, differing, leftovers(out))


def summary(rows: list[dict]) -> dict:
    """Number of interruptions, and of problems of each kind."""
    kinds = ("lost", "wrong_code", "late", "untrue", "leftovers", "differing")
    return {"interrupts": len(rows)} | {kind: sum(len(row.get(kind, [])) for row in rows) for kind in kinds}


def main(args: Args) -> None:
    if args.work_dir.exists() and any(args.work_dir.iterdir()):
        raise UsageError(f"{args.work_dir} is not empty: give a new directory")
    store = args.work_dir / "record_0" / "data" / "test"
    listed = programs(args, store)
    if unknown := [name for name in args.programs if name not in listed]:
        raise UsageError(f"no program {unknown[0]!r}; choose from: {', '.join(listed)}")
    for number, (name, program) in enumerate(listed.items()):
        read = name == "record" and {"train_gen_model", "precompute"} & set(args.programs)
        if (name in args.programs and program.finishes) or read:
            out = args.work_dir / f"{name}_0"
            program.seconds = finish(program, out)
            program.reference = digests(out)
            logging.info("%s: %.0f s, %d files, uninterrupted", name, program.seconds, len(program.reference))
        if name in args.programs:
            write(args.out_file, tried(program, args, np.random.default_rng([args.seed, number])))


def write(output: Path, rows: list[dict]) -> None:
    """Replaces the program's rows in the output file and prints the table."""
    kept = json.loads(output.read_text())["rows"] if output.exists() else []
    rows = [row for row in kept if row["program"] != rows[0]["program"]] + rows
    names = sorted({row["program"] for row in rows})
    totals = {name: summary([row for row in rows if row["program"] == name]) for name in names} | {
        "all": summary(rows)
    }
    for name, total in totals.items():
        logging.info("%-16s %s", name, "  ".join(f"{key} {value}" for key, value in total.items()))
    codes = Counter(f"{row['signal']} {row['code']}" for row in rows)
    slowest = max(row["seconds"] for row in rows)
    write_json(
        output,
        {"totals": totals, "codes": codes, "slowest_seconds": slowest, "rows": rows, "manifest": manifest()},
    )


if __name__ == "__main__":
    run_main(main, ARGS)
