"""Ships a training run small: its log, configuration and a few checkpoints, with the hash of each (`python -m agents.publish`)."""

import logging
import shutil
from dataclasses import dataclass
from pathlib import Path

import tyro

from agents.actor_critic import load_agent
from common.checkpoints import write_atomically, write_json
from common.cli import run_script
from common.runs import UsageError, file_id

RECORDS = ("config.json", "manifest.json", "log.csv")


@dataclass
class Args:
    run: Path
    """Directory of a training run, as train.py wrote it."""
    out: Path
    """Where to ship it; an earlier shipment there is replaced."""
    checkpoints: int = 15
    """How many checkpoints of the way to ship, evenly spread from the untrained agent to the last."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


def steps_of(path: Path) -> int:
    return int(path.stem.split("_")[-1])


def chosen(paths: list[Path], count: int) -> list[Path]:
    """`count` of the checkpoints, the first and the last among them, the others as evenly spread in steps as they come."""
    ordered = sorted(paths, key=steps_of)
    last = steps_of(ordered[-1])
    wanted = [last * i / max(count - 1, 1) for i in range(count)]
    return sorted({min(ordered, key=lambda path: abs(steps_of(path) - step)) for step in wanted}, key=steps_of)


def main(args: Args) -> None:
    found = list(args.run.glob("model_*.safetensors"))
    if not found:
        raise UsageError(f"no checkpoints in {args.run}; give --run the directory of a run of train.py")
    kept = chosen(found, args.checkpoints)
    copies = {f"checkpoints/{path.name}": path for path in kept} | {"model.safetensors": kept[-1]}
    copies |= {name: args.run / name for name in RECORDS}
    for old in (args.out / "checkpoints").glob("model_*.safetensors"):
        if f"checkpoints/{old.name}" not in copies:
            old.unlink()
    for name, source in copies.items():
        write_atomically(args.out / name, lambda temporary, source=source: shutil.copyfile(source, temporary))
    meta = load_agent(kept[-1])[1]
    ids = {name: file_id(args.out / name) for name in copies if name.endswith(".safetensors")}
    write_json(args.out / "provenance.json", {name: meta[name] for name in ("timesteps", "param_name", "seed", "env")} | {"ids": ids})
    logging.info("%s: %d checkpoints up to %d steps", args.out, len(kept), meta["timesteps"])


if __name__ == "__main__":
    run_script(main, tyro.cli(Args, description=__doc__))
