"""What a machine does per second: every network and every stage of the pipeline, on one device.

    python -m benchmarks.gpu                            # a CUDA GPU if there is one, else the CPU

Networks are timed at several batch sizes in float32 and bf16, eagerly, compiled (torch.compile), and compiled
with CUDA graphs. Stages are what the scripts do: train.py, record.py, label.py, train_gen_model.py stage by
stage, record_gen_samples.py, saliency_exps.py and train_dt.py. They play and record their own episodes with
the shipped agent and simulator. The estimates of `--launcher slurm` come from the file that this writes.

On a CPU, rates are per second of processor time: of one core. Each figure has its peak memory. A cell that
fails, or that there is no time left for, says so in the file.
"""

import logging
import tempfile
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent that plays."""
    world_model_file: Path = Path("pretrained/coinrun_simulator/model.safetensors")
    """Its world model."""
    parts: tuple[str, ...] = ("stages", "networks")
    """What to measure: stages, networks or both."""
    precisions: tuple[str, ...] = ("fp32", "bf16")
    """Precisions of convolutions."""
    modes: tuple[str, ...] = ("eager", "compile", "graphs")
    """How networks run: eager, compile, or graphs (compiled, with CUDA graphs; on a GPU only)."""
    batch_sizes: tuple[int, ...] = (64, 512)
    """Frames, samples or windows side by side, of networks."""
    num_episodes: int = 48
    """Episodes that are recorded for the stages."""
    seconds: float = 1.0
    """Least time that a cell is measured for, after a warm-up."""
    minutes: float = 8.0
    """Time limit of the whole; cells beyond it are left out."""
    torch_threads: int = 1
    """PyTorch threads."""
    num_threads: int = 1
    """Threads of the game simulator."""
    device: Device = "auto"
    out_file: Path = Path("benchmarks/results/gpu.json")
    """JSON file for the results; it is written after every cell."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import platform

import torch

from benchmarks.device.cells import Budget, Place, measure
from benchmarks.device.networks import network_cells
from benchmarks.device.stages import stage_cells
from common.checkpoints import write_json
from common.runs import UsageError, choose_device, file_id, manifest

PARTS = {"stages": stage_cells, "networks": network_cells}


def main(args: Args) -> None:
    unknown = set(args.parts) - PARTS.keys()
    if unknown or not args.parts:
        raise UsageError(f"--parts are {' '.join(args.parts)}: give {' or '.join(PARTS)}")
    device = choose_device(args.device)
    torch.set_num_threads(args.torch_threads)
    budget = Budget(args.minutes)
    rows: list[dict] = []
    with tempfile.TemporaryDirectory() as directory:
        place = Place(args, device, Path(directory))
        for part in args.parts:
            for cell in PARTS[part](place):
                rows.append({"part": part} | measure(cell, device, args.seconds, budget))
                logging.info("%s", described(rows[-1]))
                write_json(args.out_file, result(args, device, rows))
    left_out = sum("skipped" in row for row in rows)
    logging.info(
        "%s: %d cells, %d of them left out, %.1f minutes", args.out_file, len(rows), left_out, budget.spent
    )


def result(args: Args, device: torch.device, rows: list[dict]) -> dict:
    """The content of the file."""
    gpu = torch.cuda.get_device_properties(device) if device.type == "cuda" else None
    return {
        "device": {
            "type": device.type,
            "name": gpu.name if gpu else processor(),
            "memory_gb": gpu.total_memory / 1e9 if gpu else None,
            "torch_threads": args.torch_threads,
            "game_threads": args.num_threads,
        },
        "rows": rows,
        "manifest": manifest(
            {"agent_file": file_id(args.agent_file), "world_model_file": file_id(args.world_model_file)}
        ),
    }


def processor() -> str:
    """The processor's name, as Linux gives it."""
    info = Path("/proc/cpuinfo")
    names = [line.partition(":")[2].strip() for line in info.read_text().splitlines() if "model name" in line]
    return names[0] if names else platform.processor()


def described(row: dict) -> str:
    """A row in a line."""
    name = " ".join(str(row[key]) for key in ("name", "what", "precision", "mode") if row.get(key))
    if "skipped" in row:
        return f"{name}: left out, {row['skipped']}"
    return f"{name}: {row['per_second']:,.0f} {row['unit']}/s, {row['peak_gb']:.2f} GB"


if __name__ == "__main__":
    run_main(main, ARGS)
