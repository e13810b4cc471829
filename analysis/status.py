"""What there is here: recordings, training runs and artefacts, which of them are stale, and which command of the README's sequence comes next."""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    root: Path = Path(".")
    """The directory in which the commands of the README are run."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import re
import shlex
from functools import cache
from typing import NamedTuple

from analysis import concepts, hidden_numbers, latents, memory_summary, overlap, scene_bank, xcorr
from analysis import emergence_precompute, frame_baseline, probes_precompute, tuning_precompute
from analysis.sequence import PICTURES, Command, command_of, next_command, parse_sequence
from analysis.state_steps import COMBINED, ENV_H, SML
from analysis.steps import LATEST
from common.runs import UsageError, file_id
from common.words import counted
from rollouts.store import KIND, Rollouts

PLACES = ("logs", "data", "demo", "results")
"""Folders that the scripts write to."""
VERSIONS = {
    **{module.STEP: module.VERSION for module in (hidden_numbers, latents, memory_summary, overlap)},
    **{module.NAME: module.VERSION for module in (xcorr, probes_precompute, tuning_precompute, emergence_precompute, frame_baseline)},
    **{step.name: step.version for step in (ENV_H, SML, COMBINED)},
    "concepts": concepts.VERSION, "scenes": scene_bank.VERSION,
}  # fmt: skip
"""The version of each step that this code reads."""


class Found(NamedTuple):
    """A run: its directory, config, the ids of its inputs, the command that began it, and whether it is done."""

    dir: Path
    version: int | None
    inputs: dict[str, str]
    command: Command
    done: bool

    @property
    def step(self) -> str:
        """The name of its step, without the key."""
        return re.sub(r"_[0-9a-f]{12}(_\d+)?$", "", self.dir.name)


class Store(NamedTuple):
    """A directory of rollouts: what it holds, in a line, its id ("" where it cannot be read), and the command that recorded it, where it is whole."""

    dir: Path
    holds: str
    id: str
    command: Command | None


def find_stores(root: Path) -> list[Store]:
    """The stores of rollouts, by name."""
    files = (file for place in PLACES for file in (root / place).rglob("manifest.json"))
    return [look_at(file.parent) for file in sorted(files) if _read(file).get("kind") == KIND]


def look_at(path: Path) -> Store:
    try:
        rollouts = Rollouts.open(path)
    except UsageError as error:
        return Store(path, str(error), "", None)
    wanted = (rollouts.manifest.get("plan") or {}).get("num_episodes") or len(rollouts)
    episodes = counted(len(rollouts), "episode") if len(rollouts) >= wanted else f"{len(rollouts)} of {counted(wanted, 'episode')}"
    holds = f"{episodes}, {counted(rollouts.num_steps, 'step')}, {'simulated' if rollouts.simulated else 'real'}, id {rollouts.id}"
    words = (rollouts.manifest.get("made") or {}).get("command")
    return Store(path, holds, rollouts.id, command_of(_line(words)) if words and len(rollouts) >= wanted else None)


def find_runs(root: Path) -> Iterator[Found]:
    """Runs, the oldest first."""
    files = [file for place in PLACES for file in (root / place).rglob("config.json") if not file.parent.is_symlink()]
    for file in sorted(files, key=lambda path: path.stat().st_mtime):
        about = _read(file.with_name("manifest.json"))
        if about.get("command"):
            inputs = {name: value for name, value in (about.get("inputs") or {}).items() if isinstance(value, str)}
            done = (file.parent / "done.json").exists()
            yield Found(file.parent, _read(file).get("version"), inputs, command_of(_line(about["command"])), done)


def why_stale(run: Found, ids: Mapping[Path, str], root: Path) -> str | None:
    """Why the artefacts of a run are out of date, or None. ids: of the stores that there are.

    An input is looked up at the path that the run's own command gave; one that stands at no path any more makes nothing stale.
    """
    known = VERSIONS.get(run.step)
    if known is not None and run.version != known:
        return f"made by version {run.version} of the step, which is {known} by now"
    for name, made_from in run.inputs.items():
        (path,) = run.command.flags.get(f"--{name}") or (None,)
        now = path and _id_of(root / path, ids)
        if now and now != made_from:
            return f"--{name} {path} has changed since (it was {made_from} and is {now})"
    return None


def _id_of(path: Path, ids: Mapping[Path, str]) -> str | None:
    """The id of a store or a file; None where there is neither."""
    return _file_id(path) if path.is_file() else ids.get(path)


_file_id = cache(file_id)


def up_to_date(step: str, folder: str, root: Path, fresh: set[Path]) -> bool:
    """Whether the latest artefacts of a step are up to date, and its pictures are there and no older."""
    latest = (root / "results" / f"{step}_precomp" / LATEST).resolve()
    pictures = (path for path in (root / "results" / f"{folder}_plots").rglob("*") if path.is_file())
    newest = max((path.stat().st_mtime for path in pictures), default=0.0)
    return latest in fresh and newest >= (latest / "done.json").stat().st_mtime


def main(args: Args) -> None:
    page = args.root / "README.md"
    if not args.root.is_dir():
        raise UsageError(f"no directory {args.root}: give --root the repository")
    if not page.exists():
        raise UsageError(f"{args.root.resolve()} holds no README.md: run this in the repository, or give --root")
    stores, runs = find_stores(args.root), list(find_runs(args.root))
    ids = {store.dir: store.id for store in stores}
    stale = {run.dir: why_stale(run, ids, args.root) for run in runs}
    latest = {link.resolve() for link in (args.root / "results").glob(f"*_precomp/{LATEST}")}
    print("recordings" if stores else "recordings: none")
    for store in stores:
        print(f"   {store.dir.relative_to(args.root)}: {store.holds}")
    print(f"runs and artefacts{' (*: the latest of its kind)' if runs else ': none'}")
    for run in runs:
        state = "unfinished, its command resumes it" if not run.done else f"stale: {stale[run.dir]}" if stale[run.dir] else "done"
        print(f" {'*' if run.dir.resolve() in latest else ' '} {run.dir.relative_to(args.root)}: {state}")
    fresh = [run for run in runs if run.done and not stale[run.dir]]
    print(f"next: {what_next(page.read_text(), stores, fresh, args.root)}")


def what_next(page: str, stores: list[Store], fresh: list[Found], root: Path) -> str:
    """The next command of the page's sequence, with real paths. fresh: the runs that are done and up to date."""
    names, commands = parse_sequence(page, root)
    if not names.get("DATA"):
        return "make demo"
    done = [run.command for run in fresh] + [store.command for store in stores if store.command]
    whole = {run.dir.resolve() for run in fresh}
    drawn = {script: up_to_date(*where, root, whole) for script, where in PICTURES.items()}
    found = next_command(commands, done, drawn)
    return found.line if found else "nothing, the sequence is done"


def _line(words: list[str]) -> str:
    return f"python {shlex.join(map(str, words))}"


def _read(file: Path) -> dict:
    """A JSON description; {} for one that is missing, damaged or no mapping."""
    try:
        found = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


if __name__ == "__main__":
    run_main(main, ARGS)
