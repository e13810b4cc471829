"""Submits a chain of steps, each of which begins when those before it have succeeded.

    python -m slurm.chain --chain_file slurm/chains/study.yml --launcher slurm --partition gpu

The file lists the steps in order: a command, and launcher's flags of its own (array, gpus, time, ...). A step
waits for the one before it, or for those that `after` names. A word with an asterisk stands for the file it
matches when the step begins, the last one if several do. Before any step is submitted, every command is
checked, and that the files it names exist or lie where a step that it waits for writes.
"""

import logging
import re
import shlex
import string
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from tempfile import TemporaryFile
from typing import Annotated, Literal

import tyro

from common.child_processes import run_command
from common.cli import parse, run_main
from common.descriptions import TextLoader, read_yaml
from common.errors import UsageError
from common.launcher import CLUSTER_FLAGS, Launch
from common.shared_flags import LogLevel
from common.stopping import WayOn, saving_on_stop, uninterrupted
from common.words import counted
from slurm.input_files import is_inside, read_report


@dataclass
class Args:
    chain_file: Path = Path("slurm/chains/study.yml")
    """YAML file with the steps."""
    variables: Annotated[tuple[str, ...], tyro.conf.arg(help_behavior_hint="(default: the file's)")] = ()
    """Values of the file's variables, such as EXP=mine SEED=1."""
    launcher: Literal["slurm", "sbatch", "local"] = "slurm"
    """slurm: submit with submitit; sbatch: write plain batch files and submit them; local: run the steps on
    this machine, one after the other, without what a step asks of Slurm alone, such as time and mem.
    """
    partition: str | None = None
    """Slurm partition of steps that name none; default: the cluster's."""
    account: str | None = None
    """Slurm account that is charged; default: yours."""
    job_dir: Path = Path("logs/slurm")
    """Directory for batch files and the jobs' output; all nodes must see it."""
    dry_run: bool = False
    """Print the batch files and estimates of time, memory and disk; submit nothing."""
    log_level: LogLevel = logging.INFO


@dataclass(frozen=True)
class Step:
    """A command of a chain.

    Attributes:
        name: of the step.
        words: script and flags.
        flags: launcher's flags by name.
        after: names of the steps it waits for.
    """

    name: str
    words: tuple[str, ...]
    flags: Mapping[str, object]
    after: tuple[str, ...]


OWN = ("run", "after")
FLAGS = {one.name for one in fields(Launch)} - {"launcher", "after", "dry_run", "job_name"}


def read_chain(path: Path, given: Sequence[str] = ()) -> list[Step]:
    """The steps of a file, with its variables filled in. Raises UsageError for a file that describes none."""
    if not path.is_file():
        raise UsageError(f"there is no chain file {path}")
    remedy = "see slurm/chains/study.yml"
    content = read_yaml(path, remedy, loader=TextLoader)
    variables, listed = content.get("variables") or {}, content.get("steps")
    if not (isinstance(variables, dict) and isinstance(listed, dict) and listed):
        raise UsageError(f"{path} is no chain: it needs `steps`, each with `run`; {remedy}")
    filled = variables | _values(path, variables, given)
    steps: list[Step] = []
    for name, described in listed.items():
        steps.append(_step(path, name, described, filled, [step.name for step in steps]))
    return steps


def _values(path: Path, variables: Mapping, given: Sequence[str]) -> dict[str, str]:
    """Values by name. Raises UsageError for a word that is not NAME=VALUE, or a name that the file lacks."""
    values = {}
    for word in given:
        name, equals, value = word.partition("=")
        if not equals:
            raise UsageError(f"--variables has {word!r}: give NAME=VALUE")
        if name not in variables:
            raise UsageError(f"--variables sets {name}; those of {path}: {', '.join(variables) or 'none'}")
        values[name] = value
    return values


def _step(path: Path, name: str, described, variables: Mapping, before: Sequence[str]) -> Step:
    """One step. Raises UsageError for unknown entries, variables, and steps that are not before it."""
    if not isinstance(described, dict) or "run" not in described:
        raise UsageError(f"{path}: the step {name} has no command: give it `run`")
    unknown = described.keys() - FLAGS - set(OWN)
    if unknown:
        raise UsageError(f"{path}: {min(unknown)} of the step {name} is none of {', '.join(sorted(FLAGS))}")
    after = described.get("after", before[-1:]) or ()
    after = (after,) if isinstance(after, str) else tuple(after)
    missing = [one for one in after if one not in before]
    if missing:
        raise UsageError(f"{path}: the step {name} is after {missing[0]}, which is no step before it")
    try:
        words = shlex.split(string.Template(described["run"]).substitute(variables))
    except (KeyError, ValueError) as error:
        raise UsageError(f"{path}: the step {name} uses a variable that is not set: {error}") from error
    flags = {key: value for key, value in described.items() if key not in OWN and value is not None}
    return Step(name, tuple(words), flags, after)


def command_of(step: Step, args: Args, after: Sequence[int], dry_run: bool) -> list[str]:
    """The command that submits a step, once those it waits for have the ids `after`."""
    flags = {"launcher": args.launcher, "job_dir": args.job_dir, "job_name": step.name}
    flags |= {name: getattr(args, name) for name in ("partition", "account") if getattr(args, name)}
    without = ("sweep", *(CLUSTER_FLAGS if args.launcher == "local" else ()))
    flags |= {name: value for name, value in step.flags.items() if name not in without}
    words = [f"--{name}={value}" for name, value in flags.items()]
    sweep = ["--sweep", *map(str, step.flags["sweep"])] if "sweep" in step.flags else []
    waits = ["--after", *map(str, after)] if after and args.launcher != "local" else []
    return [*step.words, *words, *sweep, *waits, *(["--dry_run"] if dry_run else [])]


def run_step(
    step: Step, args: Args, after: Sequence[int] = (), dry_run: bool = False, place: str = ""
) -> str:
    """What the step's script says when it is submitted. Raises UsageError where it refuses its flags.

    place: where its work is kept, for the message of a stop.
    """
    command = [sys.executable, *command_of(step, args, after, dry_run)]
    with TemporaryFile("w+") as out, TemporaryFile("w+") as err:
        code = run_command(command, place, stdout=out, stderr=err)
        said, refused = _text(out), _text(err)
    if code:
        raise UsageError(f"step {step.name}: {refused.strip().removeprefix('error: ')}")
    return said


def _text(file) -> str:
    file.seek(0)
    return file.read()


def check_steps(steps: Sequence[Step], args: Args) -> None:
    """Lets every script check its flags. Raises UsageError for what one refuses, and for a file that is not
    there and that no step before makes.
    """
    written: dict[str, list[str]] = {}  # by each step and those that it waits for
    for step in steps:
        said = run_step(step, args, dry_run=True)
        lacks, own = read_report(said)
        before = list(written) if args.launcher == "local" else step.after  # here they run in their order
        places = [place for name in before for place in written[name]]
        for flag, path in lacks:
            if not any(is_inside(path, place) for place in places):
                raise UsageError(
                    f"step {step.name}: {flag} names {path}, which does not exist, and no step that it waits"
                    " for writes there"
                )
        written[step.name] = places + own
        if args.dry_run:
            waits = f" (after {', '.join(step.after)})" if step.after else ""
            print(f"# {said.rstrip()}".replace("\n", f"{waits}\n", 1), end="\n\n")


def run_here(steps: Sequence[Step], args: Args) -> None:
    """Runs the steps on this machine, one after the other."""
    for step in steps:
        run_step(step, args, place=f"it was in the step {step.name}")
        logging.info("%s: done", step.name)


def submit_all(steps: Sequence[Step], args: Args) -> None:
    """Submits the steps. A stop waits for the step at hand, so that the id of its job is known."""
    ids: dict[str, int] = {}

    def queued() -> str:
        return in_the_queue(ids, len(steps))

    with saving_on_stop(queued):
        for step in steps:
            try:
                with uninterrupted():
                    said = run_step(step, args, [ids[name] for name in step.after], place=queued())
                    ids[step.name] = int(re.search(r"^submitted job (\d+)", said, flags=re.MULTILINE)[1])
            except UsageError as error:
                raise UsageError("; ".join(filter(None, (str(error), queued())))) from error
            logging.info("%s: job %d", step.name, ids[step.name])


def in_the_queue(ids: Mapping[str, int], number: int) -> str:
    """Which of a number of steps are submitted, and how to go on; empty where none is."""
    if not ids:
        return ""
    jobs = ", ".join(f"{name} (job {job})" for name, job in ids.items())
    return WayOn(
        f"of {counted(number, 'step')}, {len(ids)} stay in the queue: {jobs}; the same command submits every"
        f" step again, so cancel these first: scancel {' '.join(map(str, ids.values()))}; what jobs have"
        " saved is kept, and steps go on from there"
    )


def main(args: Args) -> None:
    steps = read_chain(args.chain_file, args.variables)
    check_steps(steps, args)
    if not args.dry_run:
        run = run_here if args.launcher == "local" else submit_all
        run(steps, args)


if __name__ == "__main__":
    run_main(main, parse(Args, __doc__, sys.argv[1:]))
