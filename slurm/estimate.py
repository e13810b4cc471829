"""Time, memory and disk of a script, from its flags and measured rates.

The rates of one processor core (benchmarks/rates_of_runs.py) and of a GPU (benchmarks/gpu.py) are in
docs/results: machine_speed_cpu.json and machine_speed_cuda.json. Time is that of one core, or of one GPU;
further cores are not counted.
"""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from agents.defaults import PRESETS
from common.descriptions import find_preset
from common.errors import UsageError
from decision.config import PRESETS as DT_PRESETS
from generative.model.config import STAGES
from generative.model.config import load_preset as world_model_preset
from interpret.sample_ids import parse_sample_ids

RESULTS = Path(__file__).parents[1] / "docs" / "results"
Row = Mapping[str, object]


@dataclass(frozen=True)
class Estimate:
    """What a script takes in all.

    Attributes:
        hours: of one job that does everything.
        memory_gb: of each process.
        disk_gb: that the results take.
        source: where the rates come from.
    """

    hours: float
    memory_gb: float
    disk_gb: float
    source: str

    def hours_per_job(self, jobs: int) -> float:
        """Hours of each of several jobs that share the work."""
        return self.hours / jobs


@dataclass(frozen=True)
class Rates:
    """Measured rows of one machine, as benchmarks/gpu.py writes them."""

    rows: Sequence[Row]
    machine: str

    def find(self, name: str, what: str = "") -> Row | None:
        """The row of a stage, in the precision that is faster; None if it was not measured."""
        found = [
            one for one in self.rows if (one["name"], one["what"]) == (name, what) and "per_second" in one
        ]
        return max(found, key=lambda one: one["per_second"]) if found else None


def read_rates(gpu: bool, directory: Path = RESULTS) -> Rates | None:
    """Rates of a GPU, or of one processor core; None if there are none."""
    path = directory / f"machine_speed_{'cuda' if gpu else 'cpu'}.json"
    if not path.exists():
        return None
    content = json.loads(path.read_text())
    return Rates(content["rows"], content["device"]["name"])


def estimate(script: str, flags: Mapping, rates: Rates | None) -> Estimate | None:
    """The estimate of a script with these flags; None where its speed has not been measured.

    Raises UsageError for sizes, samples and presets that the script would refuse.
    """
    if script not in WORK:
        return None
    parts = WORK[script](flags, rates or Rates((), ""))
    if not parts or any(row is None for row, _, _ in parts):
        return None
    seconds = sum(units / row["per_second"] for row, units, _ in parts)
    memory = max(row["peak_gb"] for row, _, _ in parts)
    disk = sum(written for _, _, written in parts)
    return Estimate(seconds / 3600, memory, disk / 1e9, f"measured on {rates.machine}")


Part = tuple[Row | None, float, float]
"""A measured row, units of work, and bytes written."""


def _size(flags: Mapping, name: str) -> int:
    """A size that must be above 0."""
    if flags[name] < 1:
        raise UsageError(f"--{name} is {flags[name]}: give 1 or more")
    return flags[name]


def _train(flags: Mapping, rates: Rates) -> list[Part]:
    find_preset(PRESETS, flags["param_name"])
    return [(rates.find("train", flags["param_name"]), _size(flags, "num_timesteps"), 0.0)]


def _record(flags: Mapping, rates: Rates) -> list[Part]:
    row, episodes = rates.find("record"), _size(flags, "num_episodes")
    if row is None:
        return []
    steps = episodes * row["steps_per_episode"]
    return [(row, steps, steps * row["bytes_per_step"])]


def _train_gen_model(flags: Mapping, rates: Rates) -> list[Part]:
    name = flags["interpreting_params_name"]
    sizes = {key: flags[key] for key in SIZES if flags.get(key) is not None}
    _, train = world_model_preset(name, {"num_actions": 1, "hidden_size": 1}, sizes)
    if flags.get("num_batches") is not None:
        train = train.with_total(flags["num_batches"])
    if flags.get("epochs") is not None:
        _size(flags, "epochs")
        return []  # depends on the store
    windows = {stage: train.motion_batch_size if stage == "motion" else train.batch_size for stage in STAGES}
    return [
        (
            rates.find("train_gen_model", f"{name} {stage}"),
            batches * windows[stage] * train.num_sim_steps,
            0.0,
        )
        for stage in STAGES
        if (batches := train.stage_batches(stage))
    ]


SIZES = ("batch_size", "motion_batch_size", "num_sim_steps", *(f"{stage}_batches" for stage in STAGES))
"""Flags of train_gen_model.py that override the preset's."""


def _record_gen_samples(flags: Mapping, rates: Rates) -> list[Part]:
    row = rates.find("record_gen_samples")
    steps = _size(flags, "num_samples") * _size(flags, "num_sim_steps")
    if row is None or flags["action_grid"]:
        return []
    return [(row, steps, steps * row["bytes_per_step"])]


def _saliency_exps(flags: Mapping, rates: Rates) -> list[Part]:
    row, draws = rates.find("saliency_exps"), _size(flags, "draws")
    maps = len(parse_sample_ids(flags["sample_ids"])) * len(flags["saliency_func_type"])
    return [(row, maps * draws / row["draws"], maps * row["bytes_per_map"])] if row else []


def _train_dt(flags: Mapping, rates: Rates) -> list[Part]:
    find_preset(DT_PRESETS, flags["param_name"])
    row = rates.find("train_dt", flags["param_name"])
    given = {name: _size(flags, name) for name in DT_SIZES if flags[name] is not None}
    if row is None:
        return []
    batches, windows, steps = (given.get(name, row[name]) for name in DT_SIZES)
    return [(row, batches * windows * steps, 0.0)]


DT_SIZES = ("num_batches", "batch_size", "window_steps")
"""Flags of train_dt.py that override the preset's."""


WORK: dict[str, Callable[[Mapping, Rates], list[Part]]] = {
    "train": _train,
    "record": _record,
    "train_gen_model": _train_gen_model,
    "record_gen_samples": _record_gen_samples,
    "saliency_exps": _saliency_exps,
    "train_dt": _train_dt,
}
"""The work of each script, from its flags."""
