"""Inflicts faults on every script that writes, and checks that nothing committed is lost, nothing damaged is
read as good, and every resume is exact.
"""

import json
import logging
import random
import shutil
from dataclasses import asdict, dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    work_dir: Path = Path("results/faults")
    """A directory for the runs. Uninterrupted runs in it are used again; delete it after a change of code."""
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """Agent that plays."""
    scripts: tuple[str, ...] = ()
    """Scripts to kill, by name; default: all. Rows of others in the output are kept."""
    kills: int = 14
    """Kills of each script that records, trains, simulates or converts: at a random time, at a random
    operation on files and in mid-write, in turn; 0 for none.
    """
    few_kills: int = 3
    """Kills of each analysis, plot and small writer; 0 for none."""
    per_run: int = 5
    """Kills of one run at most; each run is also asked to stop once."""
    demo_stops: int = 6
    """Times that the demo is asked to stop; 0 for none."""
    damages: int = 200
    """Damaged copies of a file of each kind that is read again; 0 for none."""
    losses: int = 3
    """Lost processes of each training in two processes; 0 for none."""
    seed: int = 0
    """Chooses the moments."""
    out_file: Path = Path("docs/results/faults.json")
    """JSON file for the results; rows of scripts that do not run are kept."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import torch

from benchmarks.faults.damage import SOURCES, damage_often
from benchmarks.faults.fork_server import warm_up
from benchmarks.faults.kills import kill_often, reference
from benchmarks.faults.ranks import lose_one
from benchmarks.faults.scripts import Script, all_scripts, needed, use_tiny_preset
from benchmarks.faults.stops import stop_demo
from benchmarks.faults.tally import Tally
from common.checkpoints import write_json
from common.runs import UsageError, manifest

TRAININGS = ("train_gen_model", "train_dt")
"""Trainings that run in several processes."""


def main(args: Args) -> None:
    torch.set_num_threads(1)
    place = args.work_dir.resolve()
    shutil.rmtree(place / "runs", ignore_errors=True)
    place.mkdir(parents=True, exist_ok=True)
    use_tiny_preset(place)
    listed = all_scripts(args.agent_file.resolve(), place / "reference")
    kills = kills_of(args, listed)
    run_first = needed([*kills, *(SOURCES if args.damages else ()), *(TRAININGS if args.losses else ())])
    warm_up([listed[name].module for name in run_first])
    for name, script in listed.items():
        if name not in run_first:
            continue
        expected = reference(script, place / "reference" / name)
        logging.info("%s: %.1f s, %d operations on files", name, expected.processor, expected.operations)
        if name in kills:
            draw = random.Random(f"{args.seed} {name}")
            tally = kill_often(script, expected, place / "runs", kills[name], args.per_run, draw)
            write(args.out_file, "scripts", {name: {"kind": script.kind} | row_of(tally)})
    draw = random.Random(args.seed)
    if args.demo_stops:
        write(args.out_file, "scripts", {"demo": row_of(stop_demo(place / "runs", args.demo_stops, draw))})
    if args.damages:
        write(
            args.out_file,
            "damage",
            damage_often(place / "reference", place / "runs", args.damages, draw),
        )
    for name in TRAININGS if args.losses else ():
        write(
            args.out_file, "lost_process", {name: lose_one(listed[name], place / "runs", args.losses, draw)}
        )


def kills_of(args: Args, listed: dict[str, Script]) -> dict[str, int]:
    """{script: kills} of the chosen scripts. Raises UsageError for an unknown name."""
    counts = {"made": 0, "resumed": args.kills, "short": args.few_kills}
    found = {name: counts[script.kind] for name, script in listed.items() if counts[script.kind]}
    if unknown := [name for name in args.scripts if name not in found]:
        raise UsageError(f"no script {unknown[0]!r} to kill; choose from: {', '.join(found)}")
    return {name: count for name, count in found.items() if not args.scripts or name in args.scripts}


def row_of(tally: Tally) -> dict:
    """The counts of one script, without paths of this machine."""
    return {"total": tally.total} | {k: v for k, v in asdict(tally).items() if k != "findings"}


def write(out_file: Path, part: str, rows: dict[str, dict]) -> None:
    """Replaces rows of a part of the output file, each with the commit that it is of, and its totals."""
    kept = json.loads(out_file.read_text()) if out_file.exists() else {}
    made = {name: value for name, value in manifest().items() if name != "command"}
    kept[part] = kept.get(part, {}) | {
        name: row | {"commit": made["git"]["commit"]} for name, row in rows.items()
    }
    total = _sum(list(kept[part].values()))
    kept["all"] = kept.get("all", {}) | {part: total}
    write_json(out_file, kept | {"manifest": made})
    logging.info("%s: %s", part, json.dumps(rows))


def _sum(rows: list[dict]) -> dict:
    """Sums of the numbers of rows, also of those in dictionaries."""
    return {
        key: _sum([row[key] for row in rows]) if isinstance(value, dict) else sum(row[key] for row in rows)
        for key, value in rows[0].items()
        if isinstance(value, dict | int)
    }


if __name__ == "__main__":
    run_main(main, ARGS)
