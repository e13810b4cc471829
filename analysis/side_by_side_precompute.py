"""A Decision Transformer next to the agent whose recordings it was trained on, on the same recorded steps.

How often it would act the same, by situation; what linear probes read from each layer and token; how well the
agent's own directions can be read from it; and how similar the representations are.

A behavioural clone, an agent of another training seed and untrained networks are compared in the same way.
Probes are tested on held-out layouts, with the baselines and the control task of analysis.probes_precompute.
While it watches an episode the Decision Transformer is asked for one return, as it is while acting. Writes
numbers to results/side_by_side_precomp and resumes an unfinished run; draw them with
python -m analysis.side_by_side_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store."""
    dt_file: Path
    """A Decision Transformer (train_dt.py), or a clone."""
    clone_file: Path | None = None
    """A behavioural clone to compare with."""
    other_agent_file: Path | None = None
    """An agent of another training seed to compare with."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts with concepts (python -m analysis.concepts_precompute)."""
    target_return: float | None = None
    """Return that the Decision Transformer is asked for; default: the highest of its training episodes."""
    num_episodes: int = 800
    """Whole episodes, at most, drawn at random."""
    components: int = 8
    """Principal directions of the agent's hidden state that are decoded."""
    epochs: int = 2
    """Training epochs of the CNN on single frames, one of the probes' baselines."""
    draws: int = 20
    """Random choices of one step per layout, over which CKA is averaged."""
    seed: int = 0
    """Seed of the sample of episodes, folds, control tasks, untrained networks and draws."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp and receives side_by_side_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from collections.abc import Iterable
from functools import partial

import numpy as np

from analysis.comparison.comparisons import compare_actions, compare_representations
from analysis.comparison.concept_scores import direction_bench, principal_targets, score_readers
from analysis.comparison.watched import AGENT, DT, Compared, Files, load_networks, readers_of, watch
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.io.steps import cached_json, finish_step, open_step, point_latest
from analysis.probing.baselines import baseline_predictions
from analysis.probing.dataset import ProbeDataset, episodes_limit, open_probe_dataset
from analysis.probing.frame_baseline import frame_baseline
from analysis.probing.store_concepts import VERSION as CONCEPTS_VERSION
from analysis.probing.store_concepts import check_store as check_concepts
from analysis.probing.store_concepts import load_concepts
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from interpret.cka import FEWEST_LAYOUTS
from interpret.probing.bench import ProbeBench
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

NAME = "side_by_side"
VERSION = 2
COMMAND = "python -m analysis.side_by_side_precompute --agent_file AGENT --dt_file DT --data_dir STORE"
SETTINGS = ("target_return", "num_episodes", "components", "epochs", "draws", "seed")
"""Flags that the numbers depend on, besides the inputs."""


def files_of(args: Args) -> Files:
    return Files(args.agent_file, args.dt_file, args.clone_file, args.other_agent_file)


def target_of(args: Args, meta: dict) -> float:
    """The return to ask for: the flag's, or the highest of the training episodes."""
    return meta["returns"]["max"] if args.target_return is None else args.target_return


def part_of(run: Run, what: str, reader: str, work) -> dict[str, np.ndarray]:
    """Scores of a reader as a part of the run."""
    return cached_part(run, f"{what} {reader}".replace(",", "").replace(" ", "_"), work)


def compute(
    args: Args, dataset: ProbeDataset, networks: dict[str, Compared], target: float, device, run: Run
) -> dict:
    """All comparisons; what is done is kept as parts of the run."""
    concepts = load_concepts(dataset.rollouts, args.out_dir)
    concepts = {name: column[dataset.rows] for name, column in concepts.items()}
    asked = args.num_episodes, args.epochs, args.seed, args.out_dir, args.new
    frames = frame_baseline(dataset, *asked, choose_precision(args.precision, "cpu"))
    encoder, watched = watch(networks, dataset, target, device)
    readers = readers_of(encoder, watched)
    bench = ProbeBench(dataset.targets, dataset.groups, dataset.folds, dataset.time, args.seed)
    targets, variance = principal_targets(readers[AGENT], dataset.groups, args.components)
    directions = direction_bench(targets, dataset, args.seed)
    x = dataset.targets.truth[:, dataset.targets.names.index("x")]
    baselines = partial(baseline_predictions, dataset=dataset, agent=networks[AGENT].network, encoder=encoder)
    of_concepts = baselines(bench, x=x, frames=frames)
    of_directions = baselines(directions, x=x, frames=frames)
    del of_directions["frame network"]  # it was trained to predict concepts
    others = {name: states for name, states in readers.items() if name != AGENT}
    act = partial(compare_actions, dataset, concepts, watched, args.seed)
    represent = partial(compare_representations, readers, dataset.groups, args.draws, args.seed)
    return {
        "agreement": cached_json(run, "agreement", act),
        "cka": cached_json(run, "cka", represent),
        "concepts": score_readers(bench, shown(readers), of_concepts, partial(part_of, run, "concepts")),
        "directions": score_readers(
            directions, shown(others), of_directions, partial(part_of, run, "directions")
        ),
        "variance": variance,
    }


def shown(readers: dict[str, np.ndarray]) -> Iterable[tuple[str, np.ndarray]]:
    """The readers and their states, with a progress bar over them."""
    return progress_bar(list(readers.items()), desc="readers", unit="reader")


def described(dataset: ProbeDataset, networks: dict[str, Compared], target: float) -> dict:
    """Sample sizes and networks, for captions and pages."""
    config = networks[DT].network.config
    return {
        "steps": len(dataset.rows),
        "episodes": len(dataset.episodes),
        "layouts": int(dataset.groups.max()) + 1,
        "levels": dataset.levels,
        "store": dataset.rollouts.id,
        "target_return": target if config.conditioned else None,
        "networks": list(networks),
        "too_rare": dataset.rare,
    }


def main(args: Args) -> None:
    check_least(args, num_episodes=1, epochs=1, components=1, draws=1)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    check_concepts(rollouts)
    networks, meta = load_networks(files_of(args), rollouts, args.seed, device)
    target = target_of(args, meta)
    width = networks[AGENT].network.core.state_size
    limits = {"num_episodes": episodes_limit(rollouts), "components": Limit(width, f"{width} hidden units")}
    args = fit_sizes(args, limits)
    dataset = open_probe_dataset(rollouts, args.num_episodes, args.seed, args.out_dir)
    check_layouts(dataset)
    inputs = {f"{name}_file": file_id(path) for name, path in files_of(args)._asdict().items() if path}
    settings = {name: getattr(args, name) for name in SETTINGS} | {"concepts": CONCEPTS_VERSION}
    run = open_step(
        args.out_dir,
        NAME,
        VERSION,
        settings,
        inputs | {"data_dir": rollouts.id},
        args.new,
        choose_precision(args.precision, device),
    )
    set_precision(run.precision, *(network for network, _ in networks.values()))
    if not run.done:
        numbers = compute(args, dataset, networks, target, device, run)
        finish_step(run, described(dataset, networks, target) | numbers)
    point_latest(run)
    logging.info("side by side: %s; draw it with: python -m analysis.side_by_side_plotting", run.dir)


def check_layouts(dataset: ProbeDataset) -> None:
    """Raises UsageError for fewer layouts than CKA needs."""
    layouts = int(dataset.groups.max()) + 1
    if layouts < FEWEST_LAYOUTS:
        raise UsageError(
            f"--num_episodes shows {layouts} layouts of {dataset.rollouts.path}, and CKA needs"
            f" {FEWEST_LAYOUTS}: give a larger number, or {RECORD_MORE}"
        )


if __name__ == "__main__":
    run_main(main, ARGS)
