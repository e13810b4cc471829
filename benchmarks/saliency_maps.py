"""What saliency maps depend on: gradients through changed actions, the noise of draws, and precision.

Maps of the value and of the log-probability of the taken action, at step 4. Three comparisons, sample by
sample: maps with and without gradients from actions to the environment (one draw, float32), means over draws
at several sizes of noise against the plain gradient, and bf16 against float32. Intervals are by level.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent."""
    world_model_file: Path = Path("pretrained/coinrun_simulator/model.safetensors")
    """The world model."""
    data_dir: Path | None = None
    """Store of real rollouts that samples start from; by default the one that the model was trained on, in
    data/.
    """
    num_samples: int = 48
    """Samples compared by path."""
    num_noisy: int = 24
    """Samples compared by noise and by precision, the first ones."""
    noise_levels: tuple[float, ...] = (1.25e-4, 0.01, 0.1)
    """Standard deviations of the draws' noise."""
    draws: int = 9
    """Copies of each sample that are averaged over, the first without noise."""
    batch_size: int = 4
    """Samples per forward pass."""
    seed: int = 0
    """Of the order of starting points and of all noise."""
    out_file: Path = Path("benchmarks/results/saliency_maps.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import tempfile
from dataclasses import replace

import numpy as np

from common.checkpoints import write_json
from common.precision import precision_set
from common.runs import file_id, manifest
from generative.simulator_file import load_simulator
from generative.starts import check_start_count, open_starts
from interpret.attribution.env_gradients import compare_paths, map_cosine
from interpret.attribution.functions import choose_functions, known_functions
from interpret.attribution.saliency import SaliencyConfig
from interpret.attribution.saliency_run import facts_of, write_saliency
from interpret.attribution.saliency_store import SaliencyStore
from interpret.attribution.sample_saliency import SampleSaliency

FUNCTIONS = ("value", "action")
STEP = 4


def make_source(args: Args) -> SampleSaliency:
    """Numbered samples, and plain gradients of FUNCTIONS at STEP."""
    simulator, meta = load_simulator(args.world_model_file, args.agent_file)
    known = known_functions(simulator.actions, {}, simulator.agent.core.state_size)
    config = SaliencyConfig(choose_functions(FUNCTIONS, known), STEP + 1, STEP, ("frames",), draws=1)
    starts, rollouts = open_starts(simulator, meta, args.data_dir, False, args.agent_file, args.seed)
    check_start_count(starts, max(args.num_samples, args.num_noisy))
    return SampleSaliency(simulator, starts, rollouts, config, args.seed)


def stored(
    source: SampleSaliency, count: int, batch_size: int, directory: Path, precision: str = "fp32", **changed
) -> SaliencyStore:
    """Maps of the first `count` samples, as saliency_exps.py stores them.

    changed: replaces fields of the source's config.
    """
    simulator = source.simulator
    source = replace(source, config=replace(source.config, **changed))
    with precision_set(precision, simulator.model, simulator.agent):
        facts = facts_of(source.config, simulator.actions, {})
        write_saliency(directory, facts, source, range(count), batch_size, "simulated")
    return SaliencyStore.open(directory)


def cosines(store: SaliencyStore, other: SaliencyStore) -> dict[str, dict[str, float]]:
    """By function: median and 10th percentile of the cosine between the maps of both stores' samples."""
    common = [one for one in other.samples if one in store.samples]
    found = {
        name: [map_cosine(store.map(one, name), other.map(one, name)) for one in common] for name in FUNCTIONS
    }
    return {
        name: dict(zip(("median", "low"), np.nanquantile(values, [0.5, 0.1]).tolist()))
        for name, values in found.items()
    }


def other_actions(store: SaliencyStore, other: SaliencyStore) -> int:
    """Samples that take another action at some step."""
    pairs = [(store.clip(one)["action"], other.clip(one)["action"]) for one in other.samples]
    return sum(not np.array_equal(*pair) for pair in pairs)


def largest_mixed(store: SaliencyStore, name: str) -> int:
    """The sample whose mixed path has the largest share of the sum of both paths' norms."""

    def share(sample: int) -> float:
        mixed, agent = (np.linalg.norm(store.map(sample, f"{name}@{path}")) for path in ("mixed", "agent"))
        return mixed / (mixed + agent)

    return max(store.samples, key=share)


def compare(args: Args, source: SampleSaliency, directory: Path) -> dict:
    """All three comparisons; stores go to sub-directories."""

    def noisy(name: str, **changed) -> SaliencyStore:
        return stored(source, args.num_noisy, args.batch_size, directory / name, **changed)

    split = stored(source, args.num_samples, args.batch_size, directory / "paths", paths=True)
    plain = noisy("plain")
    coarse = noisy("bf16", precision="bf16")
    draws = {noise: noisy(f"noise_{noise:g}", draws=args.draws, noise=noise) for noise in args.noise_levels}
    levels = split.facts["source"]["level"]
    return {
        "samples": args.num_samples,
        "levels": len(set(levels)),
        "level_range": [min(levels), max(levels)],
        "step": STEP,
        "paths": compare_paths(split),
        "largest_mixed": {name: largest_mixed(split, name) for name in FUNCTIONS},
        "noisy_samples": args.num_noisy,
        "draws": args.draws,
        "noise": [{"std": noise, **cosines(plain, one)} for noise, one in draws.items()],
        "bf16": cosines(plain, coarse) | {"other_actions": other_actions(plain, coarse)},
    }


def main(args: Args) -> None:
    source = make_source(args)
    with tempfile.TemporaryDirectory() as directory:
        report = compare(args, source, Path(directory))
    for name, numbers in report["paths"].items():
        logging.info("%s: cosine %.3f with and without changed actions", name, numbers["cosine"]["mean"])
    for row in report["noise"]:
        logging.info("noise %g: median cosine of the value %.4f", row["std"], row["value"]["median"])
    logging.info("bf16: median cosine of the value %.3f", report["bf16"]["value"]["median"])
    inputs = {name: file_id(getattr(args, name)) for name in ("agent_file", "world_model_file")}
    inputs["data_dir"] = source.rollouts.id
    write_json(args.out_file, report | {"inputs": inputs, "manifest": manifest(inputs, "fp32")})
    logging.info("written to %s", args.out_file)


if __name__ == "__main__":
    run_main(main, ARGS)
