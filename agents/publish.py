"""Publishes a training run: log, configuration and a few checkpoints with their hashes (`python -m
agents.publish`).
"""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    run: Path
    """Directory of a training run of train.py."""
    out_dir: Path
    """Directory to publish to; earlier files there are replaced."""
    checkpoints: int = 15
    """Number of intermediate checkpoints, evenly spread from the untrained agent to the last; 0 publishes
    model.safetensors only.
    """
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from agents.actor_critic import load_agent
from common.checkpoints import BadCheckpoint, write_atomically, write_json
from common.csv_log import read_log
from common.runs import UsageError, file_id
from common.words import counted

RECORDS = ("config.json", "manifest.json", "log.csv")
PROVENANCE = ("timesteps", "param_name", "seed", "env")


def steps_of(path: Path) -> int:
    return int(path.stem.split("_")[-1])


def checkpoints_of(run: Path) -> list[Path]:
    """The run's checkpoints in order. Raises UsageError if there are none."""
    found = [path for path in run.glob("model_*.safetensors") if path.stem.split("_")[-1].isdecimal()]
    if not found:
        raise UsageError(f"no checkpoints in {run}; give --run the directory of a run of train.py")
    return sorted(found, key=steps_of)


def chosen(ordered: list[Path], count: int) -> list[Path]:
    """Selects `count` checkpoints, evenly spread in steps, the first and the last included."""
    if count == 0:
        return []
    last = steps_of(ordered[-1])
    wanted = [last * i / (count - 1) for i in range(count)]
    return sorted(
        {min(ordered, key=lambda path: abs(steps_of(path) - step)) for step in wanted}, key=steps_of
    )


def check_records(run: Path, records: tuple[str, ...] = RECORDS) -> None:
    """Raises UsageError unless configuration, manifest and log are readable."""
    for name in records:
        path = run / name
        if not path.is_file():
            raise UsageError(f"{path} is missing: only a whole run can be shipped")
        try:
            whole = (
                read_log(path) if path.suffix == ".csv" else isinstance(json.loads(path.read_text()), dict)
            )
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise UsageError(f"{path} is damaged or empty: repair it, or publish another run")


def described(paths: list[Path]) -> dict:
    """Provenance from the last checkpoint, after all of them loaded. Raises BadCheckpoint if one does not
    load.
    """
    meta = [load_agent(path)[1] for path in paths][-1]
    missing = [name for name in PROVENANCE if name not in meta]
    if missing:
        raise BadCheckpoint(
            f"{paths[-1]} does not say its {', '.join(missing)}: give --run the directory of a run"
            " of train.py"
        )
    return {name: meta[name] for name in PROVENANCE}


def copy_all(copies: dict[str, Path], out: Path) -> None:
    """Copies files into `out` under the given names, each atomically."""
    for name, source in copies.items():
        write_atomically(out / name, lambda temporary, source=source: shutil.copyfile(source, temporary))


def main(args: Args) -> None:
    if args.checkpoints < 2 and args.checkpoints != 0:
        raise UsageError(
            f"--checkpoints must be at least 2, the first and the last, or 0 for none, not {args.checkpoints}"
        )
    ordered = checkpoints_of(args.run)
    kept = chosen(ordered, args.checkpoints)
    check_records(args.run)
    provenance = described([*kept, ordered[-1]])
    copies = {f"checkpoints/{path.name}": path for path in kept} | {"model.safetensors": ordered[-1]}
    copies |= {name: args.run / name for name in RECORDS}
    for old in (args.out_dir / "checkpoints").glob("model_*.safetensors"):
        if f"checkpoints/{old.name}" not in copies:
            old.unlink()
    copy_all(copies, args.out_dir)
    ids = {name: file_id(args.out_dir / name) for name in copies if name.endswith(".safetensors")}
    write_json(args.out_dir / "provenance.json", provenance | {"ids": ids})
    logging.info(
        "%s: %s up to %d steps", args.out_dir, counted(len(kept), "checkpoint"), provenance["timesteps"]
    )


if __name__ == "__main__":
    run_main(main, ARGS)
