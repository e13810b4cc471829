"""Ships a training run small: its log, configuration and a few checkpoints, with the hash of each (`python -m agents.publish`)."""

import json
import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    run: Path
    """Directory of a training run, as train.py wrote it."""
    out: Path
    """Where to ship it; an earlier shipment there is replaced."""
    checkpoints: int = 15
    """How many checkpoints of the way to ship, evenly spread from the untrained agent to the last; 0 ships model.safetensors alone."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


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
    """The run's checkpoints from the first to the last. Raises UsageError where there are none."""
    found = [path for path in run.glob("model_*.safetensors") if path.stem.split("_")[-1].isdecimal()]
    if not found:
        raise UsageError(f"no checkpoints in {run}; give --run the directory of a run of train.py")
    return sorted(found, key=steps_of)


def chosen(ordered: list[Path], count: int) -> list[Path]:
    """`count` of the checkpoints, the first and the last among them, the others as evenly spread in steps as they come; none for a count of 0."""
    if count == 0:
        return []
    last = steps_of(ordered[-1])
    wanted = [last * i / (count - 1) for i in range(count)]
    return sorted({min(ordered, key=lambda path: abs(steps_of(path) - step)) for step in wanted}, key=steps_of)


def check_records(run: Path, records: tuple[str, ...] = RECORDS) -> None:
    """Raises UsageError unless configuration, manifest and log are there and can be read."""
    for name in records:
        path = run / name
        if not path.is_file():
            raise UsageError(f"{path} is missing: only a whole run can be shipped")
        try:
            whole = read_log(path) if path.suffix == ".csv" else isinstance(json.loads(path.read_text()), dict)
        except (ValueError, RecursionError):
            whole = False
        if not whole:
            raise UsageError(f"{path} is damaged or empty: mend it, or ship another run")


def described(paths: list[Path]) -> dict:
    """What the last checkpoint says of itself, once all of them have been loaded. Raises BadCheckpoint for one that cannot be."""
    meta = [load_agent(path)[1] for path in paths][-1]
    missing = [name for name in PROVENANCE if name not in meta]
    if missing:
        raise BadCheckpoint(f"{paths[-1]} does not say its {', '.join(missing)}: give --run the directory of a run of train.py")
    return {name: meta[name] for name in PROVENANCE}


def copy_all(copies: dict[str, Path], out: Path) -> None:
    """Copies files into `out` under the given names, each whole or not at all."""
    for name, source in copies.items():
        write_atomically(out / name, lambda temporary, source=source: shutil.copyfile(source, temporary))


def main(args: Args) -> None:
    if args.checkpoints < 2 and args.checkpoints != 0:
        raise UsageError(f"--checkpoints must be at least 2, the first and the last, or 0 for none, not {args.checkpoints}")
    ordered = checkpoints_of(args.run)
    kept = chosen(ordered, args.checkpoints)
    check_records(args.run)
    provenance = described([*kept, ordered[-1]])
    copies = {f"checkpoints/{path.name}": path for path in kept} | {"model.safetensors": ordered[-1]}
    copies |= {name: args.run / name for name in RECORDS}
    for old in (args.out / "checkpoints").glob("model_*.safetensors"):
        if f"checkpoints/{old.name}" not in copies:
            old.unlink()
    copy_all(copies, args.out)
    ids = {name: file_id(args.out / name) for name in copies if name.endswith(".safetensors")}
    write_json(args.out / "provenance.json", provenance | {"ids": ids})
    logging.info("%s: %s up to %d steps", args.out, counted(len(kept), "checkpoint"), provenance["timesteps"])


if __name__ == "__main__":
    run_main(main, ARGS)
