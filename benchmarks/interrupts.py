"""Is anything finished ever lost? Programs are interrupted at random moments, checked, and run again to the end.

After each signal: the exit code, the seconds until the end, whether what the program said is so, and whether every finished file is
still there with the same bytes. After the last one the program runs to its end: its results must equal, bit for bit, those of a run
that nobody interrupted, and nothing half-written may be left. The demo is interrupted again and again but not run to its end: its
steps are the other programs.
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


@dataclass
class Args:
    work_dir: Path
    """An empty directory for the runs."""
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent that is recorded and looked into."""
    programs: tuple[str, ...] = ("train", "record", "train_gen_model", "precompute", "demo")
    """Which programs. What the output says of the others stays."""
    interrupts: int = 6
    """Signals per program; SIGINT, SIGTERM and SIGKILL take turns."""
    per_run: int = 3
    """Signals that one run gets before it may end."""
    seed: int = 0
    """Seed of the moments."""
    output: Path = Path("docs/results/interrupts.json")
    """Where the figures go."""
    log_level: int = logging.INFO
    """Python logging level."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.checkpoints import BadCheckpoint, load_checkpoint, write_json
from common.runs import UsageError, manifest

ROOT = Path(__file__).parents[1]
SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGKILL)
LIMIT_SECONDS = 10.0
VOLATILE = ("manifest.json", "config.json", "done.json", "lock", "events.out.*", "latest")
"""Files that say when and how a run was made."""
GROWING = ("log.csv", "progress.csv", "train_state.safetensors", "best.safetensors")
"""Files that a program replaces as it goes on: held against the reference at the end alone."""
CLOCKS = ("wall_time", "steps_per_second", "frames_per_second", "wait_share", "peak_memory_mb", "peak_gpu_mb")
LEFTOVERS = (".*.part", ".*.lock", ".latest.*", ".*_[0-9a-f]*.[0-9]*")


@dataclass
class Program:
    """command: its words, given where its results go. seconds: of a run that nobody interrupts, once there was one."""

    name: str
    command: Callable[[Path], list[object]]
    finishes: bool = True
    seconds: float = 40.0
    reference: dict[str, str] = field(default_factory=dict)


def programs(args: Args, store: Path) -> dict[str, Program]:
    """All five, small. store: what `record` records and the later ones read."""
    agent, exact = args.agent_file, ("--precision", "fp32")  # auto times the machine, and may choose another under load
    simple = ("--num_threads", 1, *exact)
    training = ("--param_name", "demo", "--num_levels", 200, "--num_timesteps", 8192, "--num_checkpoints", 2, "--eval_episodes", 2)
    recording = ("--num_episodes", 32, "--episodes_per_shard", 4, "--num_envs", 4, "--start_level", 100_000, "--num_levels", 400_000)
    modelling = ("--interpreting_params_name", "tiny", "--num_batches", 12, "--batch_size", 4, "--log_interval", 2, "--save_interval", 4)
    mapping = (
        "--methods", "pca", "nmf", "--points", 800, "--clusters", 4, "--components", 4, "--counts", 2, 4,
        "--draws", 0, "--maps", "tsne", "--followed", 2,
    )  # fmt: skip
    smallest = ("--num_timesteps", 4096, "--num_episodes", 16, "--num_batches", 8)
    listed = [
        Program("train", lambda out: ["train.py", *training, *simple, "--out_dir", out]),
        Program("record", lambda out: ["record.py", "--model_file", agent, *recording, *simple, "--out_dir", out]),
        Program("train_gen_model", lambda out: ["train_gen_model.py", "--agent_file", agent, "--data_dir", store, *modelling, *exact, "--out_dir", out]),
        Program("precompute", lambda out: ["analysis/hidden_analysis_precompute.py", "--data_dir", store, *mapping, "--out_dir", out]),
        Program("demo", lambda out: ["demo.py", *smallest, "--out", out], finishes=False, seconds=90.0),
    ]
    return {program.name: program for program in listed}


def start(program: Program, out: Path) -> subprocess.Popen:
    """The program, with what it says on stderr kept in a file."""
    out.mkdir(parents=True, exist_ok=True)
    words = [sys.executable, *map(str, program.command(out))]
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with open(out.with_suffix(".log"), "w") as said:
        return subprocess.Popen(words, cwd=ROOT, env=environment, stdout=subprocess.DEVNULL, stderr=said)


def finish(program: Program, out: Path) -> float:
    """Runs the program to its end. Returns its seconds."""
    began = time.monotonic()
    if code := start(program, out).wait():
        raise UsageError(f"{program.name} ended with {code}: {out.with_suffix('.log').read_text()[-2000:]}")
    return time.monotonic() - began


def digests(out: Path) -> dict[str, str]:
    """The hash of every result below a directory, clock columns left out, by its path there."""
    files = (path for path in sorted(out.rglob("*")) if path.is_file() and not path.name.startswith("."))
    chosen = [path for path in files if not any(path.match(name) for name in VOLATILE) and "latest" not in path.parts]
    return {str(path.relative_to(out)): hashlib.sha256(_content(path)).hexdigest()[:16] for path in chosen}


def _content(path: Path) -> bytes:
    if path.suffix != ".csv":
        return path.read_bytes()
    with open(path) as file:
        rows = [{name: value for name, value in row.items() if name not in CLOCKS} for row in csv.DictReader(file)]
    return json.dumps(rows).encode()


def leftovers(out: Path) -> list[str]:
    """What is half-written below a directory."""
    return sorted(str(path.relative_to(out)) for name in LEFTOVERS for path in out.rglob(name))


def untrue(number: int, out: Path) -> list[str]:
    """What is not so of that which the program said on stderr after a signal; nothing is said after a SIGKILL."""
    said = out.with_suffix(".log").read_text()
    lines = [line for line in re.split(r"[\r\n]+", said) if line.startswith("interrupted by ")]
    problems = ["a traceback"] if "Traceback" in said else []
    if number == signal.SIGKILL:
        return problems + [f"it says {line!r}" for line in lines if "by SIGTERM: " not in line]  # a step of the demo that ended with it
    problems += [f"it says {line!r}" for line in lines if f"interrupted by {signal.Signals(number).name}: " not in line]
    return problems + [problem for line in lines for problem in _false(line, out)]


def _false(line: str, out: Path) -> list[str]:
    """Where a message differs from what lies on disk."""
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
    known = "it left nothing half-written; " in line or "the demo was in this step: " in line or line.endswith(": the same command goes on from there")
    return [] if known else [f"it says {line!r}"]


def _false_state(steps: int, run: Path, line: str) -> list[str]:
    try:
        about = load_checkpoint(run / "train_state.safetensors")[1]
    except BadCheckpoint as error:
        return [f"{line!r}, and {error}"]
    found = about.get("timesteps", about.get("batches"))
    return [] if found == steps else [f"{line!r}, and the state is that of {found}"]


def interrupt(program: Program, out: Path, number: int, after: float) -> dict | None:
    """Starts the program, sends the signal after so many seconds, and checks what came of it; None where it had ended before."""
    before, left, process = digests(out), leftovers(out), start(program, out)
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
        "program": program.name, "signal": signal.Signals(number).name, "after": round(after, 1), "code": code, "seconds": round(seconds, 2),
        "finished_files": len(now),
        "lost": [name for name in before if not name.endswith(GROWING) and now.get(name) != before[name]],
        "wrong_code": [] if shell == 128 + number or _had_finished(code, out) else [code],
        "late": [seconds] if seconds > LIMIT_SECONDS else [],
        "untrue": untrue(number, out),
        "leftovers": sorted(set(leftovers(out)) - set(left)) if number != signal.SIGKILL else [],
    }  # fmt: skip


def _had_finished(code: int, out: Path) -> bool:
    """Whether the signal came when all work was done, so that 0 is the true code."""
    return code == 0 and any(out.rglob("done.json"))


def _users(out: Path) -> list[int]:
    """Processes whose command line names the directory, beside this one."""
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
    """The step in hand hears of the demo's death and ends."""
    until = time.monotonic() + 2 * LIMIT_SECONDS
    while _users(out) and time.monotonic() < until:
        time.sleep(0.2)


def tried(program: Program, args: Args, rng: np.random.Generator) -> list[dict]:
    """All interrupts of a program, over as many runs as it takes, each run to its end."""
    rows, run = [], 0
    while len(rows) < args.interrupts:
        run += 1
        out = args.work_dir / f"{program.name}_{run}"
        for _ in range(args.per_run if program.finishes else args.interrupts):
            row = interrupt(program, out, SIGNALS[len(rows) % len(SIGNALS)], float(rng.uniform(0.05, 0.9)) * program.seconds)
            if row is None or len(rows) == args.interrupts:
                break
            rows.append(row)
            logging.info("%s", json.dumps(row))
        if program.finishes:
            check_end(program, out, rows)
    return rows


def check_end(program: Program, out: Path, rows: list[dict]) -> None:
    """Runs the program to its end and notes, with its last interrupt, what differs from the reference and what is left over."""
    finish(program, out)
    made = digests(out)
    differing = [name for name in sorted(made.keys() | program.reference.keys()) if made.get(name) != program.reference.get(name)]
    if rows:
        rows[-1] |= {"differing": differing, "leftovers": rows[-1]["leftovers"] + leftovers(out)}
        if differing or leftovers(out):
            logging.info("%s: differing %s, left %s", out, differing, leftovers(out))


def summary(rows: list[dict]) -> dict:
    """How many interrupts, and how many problems of each kind."""
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
        if name in args.programs and program.finishes or read:
            out = args.work_dir / f"{name}_0"
            program.seconds = finish(program, out)
            program.reference = digests(out)
            logging.info("%s: %.0f s, %d files, uninterrupted", name, program.seconds, len(program.reference))
        if name in args.programs:
            write(args.output, tried(program, args, np.random.default_rng([args.seed, number])))


def write(output: Path, rows: list[dict]) -> None:
    """Puts the rows of a program in the place of those that the output has of it, and shows the table of all."""
    kept = json.loads(output.read_text())["rows"] if output.exists() else []
    rows = [row for row in kept if row["program"] != rows[0]["program"]] + rows
    names = sorted({row["program"] for row in rows})
    totals = {name: summary([row for row in rows if row["program"] == name]) for name in names} | {"all": summary(rows)}
    for name, total in totals.items():
        logging.info("%-16s %s", name, "  ".join(f"{key} {value}" for key, value in total.items()))
    codes = Counter(f"{row['signal']} {row['code']}" for row in rows)
    slowest = max(row["seconds"] for row in rows)
    write_json(output, {"totals": totals, "codes": codes, "slowest_seconds": slowest, "rows": rows, "manifest": manifest()})


if __name__ == "__main__":
    run_main(main, ARGS)
