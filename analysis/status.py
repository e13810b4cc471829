"""Lists recordings, training runs and artefacts, which of them are stale, and the next command of the
sequence in docs/pipeline.md.
"""

import json
import logging
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    root: Path = Path(".")
    """The repository, in which the commands are run."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import re
import shlex
from functools import cache
from typing import NamedTuple

from analysis import (
    emergence_precompute,
    jacobian_check,
    policy_field_precompute,
    probes_precompute,
    saliency_truth_precompute,
    scene_bank,
    side_by_side_precompute,
    tuning_precompute,
)
from analysis.counterfactuals import edit_summary, goal_summary, interchange_summary
from analysis.interventions import confirmation
from analysis.interventions import summary as interventions_summary
from analysis.io.sequence import PAGE, PICTURES, Command, command_of, next_command, parse_sequence
from analysis.io.steps import LATEST
from analysis.lagged import consistency, cross_causation, stored_jacobians
from analysis.lagged import store_correlations as xcorr
from analysis.maps import latents, map_summary
from analysis.maps.simulated_state_steps import COMBINED, ENV_H, JACOBIAN, SML
from analysis.memory import summary as memory_summary
from analysis.probing import frame_baseline
from analysis.probing import store_concepts as concepts
from common.runs import UsageError, file_id
from common.words import counted
from interpret import overlap
from rollouts.store import KIND, Rollouts

OUTPUT_DIRS = ("logs", "data", "demo", "results")
"""Directories that the scripts write to."""
VERSIONS = {
    **{
        module.STEP: module.VERSION
        for module in (
            map_summary,
            latents,
            memory_summary,
            overlap,
            saliency_truth_precompute,
            goal_summary,
            confirmation,
            interventions_summary,
            policy_field_precompute,
            interchange_summary,
            edit_summary,
        )
    },
    **{
        module.NAME: module.VERSION
        for module in (
            xcorr,
            stored_jacobians,
            cross_causation,
            consistency,
            jacobian_check,
            probes_precompute,
            tuning_precompute,
            emergence_precompute,
            frame_baseline,
            side_by_side_precompute,
        )
    },
    **{step.name: step.version for step in (ENV_H, SML, COMBINED, JACOBIAN)},
    "concepts": concepts.VERSION,
    "scenes": scene_bank.VERSION,
}
"""{step: version that this code reads}."""


class FoundRun(NamedTuple):
    """A run: directory, version, ids of inputs, the command that started it, and whether it is finished."""

    dir: Path
    version: int | None
    inputs: dict[str, str]
    command: Command
    done: bool

    @property
    def step(self) -> str:
        """Name of its step."""
        return re.sub(r"_[0-9a-f]{12}(_\d+)?$", "", self.dir.name)


class FoundStore(NamedTuple):
    """A store of rollouts: its content in words, its id ("" if unreadable), and the command that recorded it.

    The command is None for an incomplete store.
    """

    dir: Path
    content: str
    id: str
    command: Command | None


def find_stores(root: Path) -> list[FoundStore]:
    """Stores of rollouts, by path."""
    files = (file for name in OUTPUT_DIRS for file in (root / name).rglob("manifest.json"))
    return [describe_store(file.parent) for file in sorted(files) if _read(file).get("kind") == KIND]


def describe_store(path: Path) -> FoundStore:
    """Content of a store, or why it cannot be read."""
    try:
        rollouts = Rollouts.open(path)
    except UsageError as error:
        return FoundStore(path, str(error), "", None)
    planned = (rollouts.manifest.get("plan") or {}).get("num_episodes") or len(rollouts)
    complete = len(rollouts) >= planned
    episodes = counted(max(planned, len(rollouts)), "episode")
    if not complete:
        episodes = f"{len(rollouts)} of {episodes}"
    kind = "simulated" if rollouts.simulated else "real"
    content = f"{episodes}, {counted(rollouts.num_steps, 'step')}, {kind}, id {rollouts.id}"
    words = (rollouts.manifest.get("made") or {}).get("command")
    command = command_of(_line(words)) if words and complete else None
    return FoundStore(path, content, rollouts.id, command)


def find_runs(root: Path) -> Iterator[FoundRun]:
    """Runs, oldest first."""
    files = [
        file
        for name in OUTPUT_DIRS
        for file in (root / name).rglob("config.json")
        if not file.parent.is_symlink()
    ]
    for file in sorted(files, key=lambda path: path.stat().st_mtime):
        about = _read(file.with_name("manifest.json"))
        if about.get("command"):
            inputs = {
                name: value for name, value in (about.get("inputs") or {}).items() if isinstance(value, str)
            }
            done = (file.parent / "done.json").exists()
            yield FoundRun(
                file.parent, _read(file).get("version"), inputs, command_of(_line(about["command"])), done
            )


def stale_reason(run: FoundRun, ids: Mapping[Path, str], root: Path) -> str | None:
    """Why the artefacts of a run are stale, or None.

    An input is looked up at the path given by the run's command, or among the latest artefacts; a missing
    input makes nothing stale.

    Args:
        run: to check.
        ids: {path: id} of the stores.
        root: the repository.
    """
    known = VERSIONS.get(run.step)
    if known is not None and run.version != known:
        return f"of version {run.version} of the step; the current version is {known}"
    for name, recorded in run.inputs.items():
        (path,) = run.command.flags.get(f"--{name}") or (_latest_of(name, run, root),)
        now = path and _id_of(root / path, ids)
        if now and now != recorded:
            return f"--{name} {path} has changed since (it was {recorded} and is {now})"
    return None


def _latest_of(name: str, run: FoundRun, root: Path) -> Path | None:
    """The artefacts that a command without the flag --<step>_dir reads, the latest; None for another flag."""
    if not name.endswith("_dir"):
        return None
    return (run.dir.parents[1] / f"{name.removesuffix('_dir')}_precomp" / LATEST).relative_to(root)


def _id_of(path: Path, ids: Mapping[Path, str]) -> str | None:
    """Id of a store or a file, or name of a directory of artefacts; None if there is none of these."""
    if (path / "config.json").is_file():
        return path.resolve().name
    return _file_id(path) if path.is_file() else ids.get(path)


_file_id = cache(file_id)


def up_to_date(step: str, folder: str, root: Path, fresh: set[Path]) -> bool:
    """Whether the latest artefacts of a step are current, and its figures are not older."""
    latest = (root / "results" / f"{step}_precomp" / LATEST).resolve()
    pictures = (path for path in (root / "results" / f"{folder}_plots").rglob("*") if path.is_file())
    newest = max((path.stat().st_mtime for path in pictures), default=0.0)
    return latest in fresh and newest >= (latest / "done.json").stat().st_mtime


def main(args: Args) -> None:
    page = args.root / PAGE
    if not args.root.is_dir():
        raise UsageError(f"no directory {args.root}: give --root the repository")
    if not page.exists():
        raise UsageError(f"{args.root.resolve()} holds no {PAGE}: run this in the repository, or give --root")
    stores = find_stores(args.root)
    runs = list(find_runs(args.root))
    ids = {store.dir: store.id for store in stores}
    stale = {run.dir: stale_reason(run, ids, args.root) for run in runs}
    latest = {link.resolve() for link in (args.root / "results").glob(f"*_precomp/{LATEST}")}
    print("recordings" if stores else "recordings: none")
    for store in stores:
        print(f"   {store.dir.relative_to(args.root)}: {store.content}")
    print(f"runs and artefacts{' (*: the latest of its kind)' if runs else ': none'}")
    for run in runs:
        mark = "*" if run.dir.resolve() in latest else " "
        print(f" {mark} {run.dir.relative_to(args.root)}: {run_state(run, stale[run.dir])}")
    fresh = [run for run in runs if run.done and not stale[run.dir]]
    print(f"next: {what_next(page.read_text(), stores, fresh, args.root)}")


def run_state(run: FoundRun, stale: str | None) -> str:
    """State of a run in words; stale: the reason why its artefacts are stale, if they are."""
    if not run.done:
        return "unfinished; its command resumes it"
    return f"stale: {stale}" if stale else "done"


def what_next(page: str, stores: list[FoundStore], fresh: list[FoundRun], root: Path) -> str:
    """The next command of the page's sequence, with real paths; fresh: finished runs that are not stale."""
    names, commands = parse_sequence(page, root)
    if not names.get("DATA"):
        return "make demo"
    done = [run.command for run in fresh] + [store.command for store in stores if store.command]
    whole = {run.dir.resolve() for run in fresh}
    drawn = {script: up_to_date(*where, root, whole) for script, where in PICTURES.items()}
    command = next_command(commands, done, drawn)
    return command.line if command else "nothing, the sequence is finished"


def _line(words: list[str]) -> str:
    return f"python {shlex.join(map(str, words))}"


def _read(file: Path) -> dict:
    """A JSON object; {} if the file is missing, damaged or no object."""
    try:
        content = json.loads(file.read_text())
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


if __name__ == "__main__":
    run_main(main, ARGS)
