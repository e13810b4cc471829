"""Rates of one machine from runs that it has done: the logs of the shipped models and a benchmark.

Training rates are the medians of the shipped logs' rows, and peak memory is theirs. An iteration of train.py,
a shard of record.py and one of record_gen_samples.py are run here, in processor seconds, for what no log
holds. Writes the file that
estimates of `--launcher slurm` come from; benchmarks/gpu.py writes the same for another machine.
"""

import logging
import statistics
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent that plays."""
    world_model_file: Path = Path("pretrained/coinrun_simulator/model.safetensors")
    """Its world model."""
    agent_log: Path = Path("pretrained/coinrun_easy_200/seed_0/log.csv")
    """Log of an agent's training with the preset half-rec."""
    world_model_log: Path = Path("pretrained/coinrun_simulator/run_0/progress.csv")
    """Log of a world model's training with the preset small."""
    dt_log: Path = Path("pretrained/coinrun_decision_transformer/dt/progress.csv")
    """Log of a Decision Transformer's training with the preset coinrun."""
    saliency_results: Path = Path("docs/results/saliency_cost.json")
    """File that benchmarks/saliency.py has written."""
    num_episodes: int = 64
    """Episodes of the recorded shard."""
    precision: PrecisionName = "auto"
    out_file: Path = Path("docs/results/machine_speed_cpu.json")
    """JSON file for the rates."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import json
from types import SimpleNamespace

import torch

import decision.config
from benchmarks.device.cells import Budget, Cell, Place, measure
from benchmarks.device.stages import SALIENCY, agent_training, recording, simulation
from benchmarks.gpu import processor
from common.checkpoints import write_json
from common.csv_log import read_log
from common.precision import choose_precision
from common.runs import file_id, manifest
from generative.model.config import STAGES


def logged(path: Path, column: str, stage: str | None = None) -> tuple[float, float]:
    """Median rate and peak memory in GB of a log's rows, of one stage or of all."""
    rows = [row for row in read_log(path) if row[column] and stage in (None, row.get("stage"))]
    memory = [float(row["peak_memory_mb"]) / 1e3 for row in rows if row.get("peak_memory_mb")]
    return statistics.median(float(row[column]) for row in rows), max(memory, default=0.0)


def from_logs(args: Args) -> list[dict]:
    """Rows of train_gen_model.py and train_dt.py."""
    rows = []
    for stage in STAGES:
        path = args.world_model_log
        rate, memory = logged(path, "frames_per_second", stage)
        rows.append(row_of("train_gen_model", f"small {stage}", "frame", rate, memory, path))
    rate, memory = logged(args.dt_log, "frames_per_second")
    sizes = decision.config.load_preset("coinrun", {"num_actions": 15}, {})[1]
    more = {name: getattr(sizes, name) for name in ("batch_size", "window_steps", "num_batches")}
    return [*rows, row_of("train_dt", "coinrun", "step", rate, memory, args.dt_log) | more]


def from_results(args: Args) -> list[dict]:
    """The row of saliency_exps.py."""
    cost = json.loads(args.saliency_results.read_text())
    maps = statistics.median(cost["samples_per_second"]["ours"]) * len(cost["functions"])
    row = row_of("saliency_exps", "", "map", maps, cost["peak_bytes"] / 1e9, args.saliency_results)
    return [row | {"draws": SALIENCY.draws, "bytes_per_map": cost["bytes_per_map"]}]


def measured(args: Args, device: torch.device) -> list[dict]:
    """Rows of record.py, record_gen_samples.py and train.py."""
    precision = choose_precision(args.precision, device).name
    names = ("agent_file", "world_model_file", "num_episodes")
    flags = SimpleNamespace(**{name: getattr(args, name) for name in names}, num_threads=1, batch_sizes=(64,))
    with tempfile.TemporaryDirectory() as directory:
        place = Place(flags, device, Path(directory))
        real: dict[str, float] = {}
        simulated: dict[str, float] = {}
        cells = [
            Cell("record", "", "step", lambda: recording(place, precision, real), {}, real),
            Cell(
                "record_gen_samples",
                "",
                "step",
                lambda: simulation(place, precision, simulated),
                {},
                simulated,
            ),
            Cell("train", "half-rec", "step", lambda: agent_training(place, "half-rec", precision)),
        ]
        rows = [measure(cell, device, 0.0, Budget(60)) for cell in cells]
    rate, _ = logged(args.agent_log, "steps_per_second")
    rows[2] |= {"per_second": rate, "source": source_of(args.agent_log)}
    return [{"source": "benchmarks.rates_of_runs"} | row for row in rows]


def row_of(name: str, what: str, unit: str, rate: float, memory: float, path: Path) -> dict:
    """A row as benchmarks/gpu.py writes them, with its source."""
    row = {"name": name, "what": what, "unit": unit, "per_second": rate, "peak_gb": memory}
    return row | {"source": source_of(path)}


def source_of(path: Path) -> str:
    """A file's path, and the id of its content."""
    return f"{path} ({file_id(path)})"


def main(args: Args) -> None:
    torch.set_num_threads(1)
    device = torch.device("cpu")
    rows = [*measured(args, device), *from_logs(args), *from_results(args)]
    for row in rows:
        logging.info("%s %s: %.0f %s/s", row["name"], row["what"], row["per_second"], row["unit"])
    inputs = {"agent_file": file_id(args.agent_file)}
    about = {"type": "cpu", "name": processor(), "torch_threads": 1, "game_threads": 1}
    write_json(args.out_file, {"device": about, "rows": rows, "manifest": manifest(inputs)})


if __name__ == "__main__":
    run_main(main, ARGS)
