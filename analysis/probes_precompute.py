"""Linear probes of every concept in the agent's hidden states, its encoder, and a world model's latents and
environment states.

Probes are tested on held-out layouts and compared with baselines (majority, encoder before the recurrence, a
CNN on the single frame, an untrained recurrence, nuisance features) and with a control task (Hewitt & Liang
2019), which measures what a probe can memorize. Probes of the hidden state are kept as directions, with their
stability. Writes numbers to results/probes_precomp and resumes an unfinished run; draw them with
python -m analysis.probes_plotting.
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
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts with concepts (python -m analysis.concepts_precompute)."""
    world_model_file: Path | None = None
    """World model of this agent, whose latents and environment states are probed too."""
    sites: tuple[str, ...] = ()
    """Further sites of the agent's encoder to probe, by hook name (encoder.stages.1, ...)."""
    num_episodes: int = 1500
    """Whole episodes, at most, drawn at random."""
    epochs: int = 2
    """Training epochs of the CNN on single frames, one of the baselines."""
    seed: int = 0
    """Seed of the sample of episodes, of folds, control tasks and baselines."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp and receives probes_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from collections.abc import Callable

import numpy as np

from agents.actor_critic import ActorCritic
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import check_least, fit_sizes
from analysis.io.steps import cached_directions, finish_step, open_step, point_latest
from analysis.probing.baselines import baseline_predictions
from analysis.probing.dataset import (
    ProbeDataset,
    check_finite,
    encoder_features,
    episodes_limit,
    open_probe_dataset,
    reduce_dimension,
)
from analysis.probing.frame_baseline import frame_baseline
from analysis.probing.store_concepts import VERSION as CONCEPTS_VERSION
from analysis.probing.store_concepts import check_store as check_concepts
from analysis.probing.world_model_features import choose_windows, world_model_states
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from common.stats import json_estimate
from generative.compatibility import load_recorder
from generative.simulator_file import load_simulator
from interpret.directions.directions import Directions
from interpret.directions.probe_directions import probe_directions, probe_stability
from interpret.directions.stability import MIN_RESAMPLES, with_stability
from interpret.hooks import sites as all_sites
from interpret.probing.bench import BASELINES, ProbeBench, decodability, reader_summary, score_reader
from interpret.probing.recurrence import states_before
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

NAME = "probes"
VERSION = 3
COMMAND = "python -m analysis.probes_precompute --agent_file AGENT --data_dir STORE"
FRAME_AND_MEMORY = "frame and memory"
"""Reader of the encoder's output and the state before the observation, concatenated.

Its gain over the encoder alone is what the agent's memory adds to the frame.
"""


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_episodes=1, epochs=1)


def check_sites(agent: ActorCritic, asked: tuple[str, ...]) -> None:
    """Raises UsageError for a site outside the agent's encoder."""
    known = [name for name in all_sites(agent) if name.split(".")[0] == "encoder"]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise UsageError(f"--sites names {', '.join(unknown)}, and the encoder has: {', '.join(known)}")


def settings(args: Args) -> dict:
    """Flags that the numbers depend on, besides the inputs."""
    return {name: getattr(args, name) for name in ("sites", "num_episodes", "epochs", "seed")} | {
        "concepts": CONCEPTS_VERSION
    }


def fit_directions(
    bench: ProbeBench, hidden: np.ndarray, arrays: dict[str, np.ndarray], about: dict
) -> Directions:
    """Probes of the decodable concepts as directions, with their stability.

    At most half as many as the hidden state is wide, the best decoded first.

    Args:
        bench: targets, groups and seed.
        hidden: hidden states [n, D].
        arrays: of the reader `hidden`, by `score_reader`.
        about: provenance.

    Raises:
        UsageError: if no concept is decodable.
    """
    targets = bench.targets
    found = decodability(arrays, bench.targets.classes)["decodable"]
    above = np.where(targets.classes, 2 * arrays["value"][0] - 1, arrays["value"][0])
    chosen = np.sort(
        [k for k in np.argsort(-above, kind="stable") if found[k]][: hidden.shape[1] // 2]
    ).astype(int)
    if not len(chosen):
        raise UsageError(
            "no concept is decodable from the hidden states on held-out layouts: take a trained agent, or "
            f"{RECORD_MORE}"
        )
    varied = np.flatnonzero(hidden.std(0) > 1e-6)
    asked = (
        hidden[:, varied],
        targets.truth[:, chosen],
        bench.groups,
        [targets.names[k] for k in chosen],
        arrays["penalty"][chosen],
    )
    with progress_bar(total=MIN_RESAMPLES, unit="fit", desc="stability") as bar:
        read, written = probe_stability(*asked, bench.seed, lambda: bar.update())
    directions = with_stability(probe_directions(*asked), read).with_provenance(
        written={"median": written.median.tolist()}, **about
    )
    return directions.within(varied, hidden.shape[1])


def compute(args: Args, dataset: ProbeDataset, agent: ActorCritic, device, run: Run) -> dict:
    """Scores every reader and fits directions, as parts of the run; returns the numbers."""
    bench = ProbeBench(dataset.targets, dataset.groups, dataset.folds, dataset.time, args.seed)
    hidden = dataset.column("hidden_after")
    check_finite(hidden, f"the hidden states of {dataset.rollouts.path}")
    frames = frame_baseline(
        dataset,
        args.num_episodes,
        args.epochs,
        args.seed,
        args.out_dir,
        args.new,
        choose_precision(args.precision, "cpu"),
    )
    with progress_bar(total=len(dataset.rows), unit="frame", unit_scale=True, desc="encoder") as bar:
        sites = encoder_features(agent, dataset, ("encoder", *args.sites), device, bar.update)
    x = dataset.targets.truth[:, dataset.targets.names.index("x")]
    baselines = baseline_predictions(bench, dataset, agent, sites["encoder"], x, frames)
    both = np.concatenate([sites["encoder"], states_before(hidden, dataset.first_step)], 1)
    readers = {
        name: (states, slice(None))
        for name, states in ({"hidden": hidden, FRAME_AND_MEMORY: both} | sites).items()
    }
    if args.world_model_file:
        readers |= world_model_states(
            args.world_model_file, args.agent_file, dataset, args.seed, device, run.precision
        )
    summaries = {}
    arrays = {}
    for name, (wide, rows) in progress_bar(readers.items(), desc="readers", unit="reader"):
        states = reduce_dimension(wide, args.seed)
        arrays[name] = cached_part(
            run, name.replace(" ", "_"), lambda: score_reader(bench, name, states, baselines, rows)
        )
        summaries[name] = reader_summary(bench, arrays[name])
    about = {
        "site": "hidden after the observation",
        "store": dataset.rollouts.id,
        "agent": file_id(args.agent_file),
    }
    reason = try_directions(run, lambda: fit_directions(bench, hidden, arrays["hidden"], about))
    added = memory_gain(bench, arrays[FRAME_AND_MEMORY], arrays["encoder"])
    return (
        described(dataset)
        | about
        | {"baselines": list(BASELINES), "readers": summaries, "memory": added, "no_directions": reason}
    )


def try_directions(run: Run, fit: Callable[[], Directions]) -> str | None:
    """Fits directions as a part of the run; returns why they cannot be fit, if so."""
    try:
        cached_directions(run, "directions", fit)
    except UsageError as error:
        logging.warning("directions are left out: %s", error)
        return str(error)
    return None


def memory_gain(
    bench: ProbeBench, both: dict[str, np.ndarray], encoder: dict[str, np.ndarray]
) -> dict[str, dict]:
    """Gain of the state before the observation over the encoder's output, with its interval, by concept."""
    added = both["value"] - encoder["value"]
    return {name: json_estimate(added[:, k], both["n"][k]) for k, name in enumerate(bench.targets.names)}


def described(dataset: ProbeDataset) -> dict:
    """Sample sizes and targets, for captions."""
    layouts = int(dataset.groups.max()) + 1
    counted = {
        "steps": len(dataset.rows),
        "episodes": len(dataset.episodes),
        "layouts": layouts,
        "levels": dataset.levels,
    }
    return counted | {
        "concepts": dataset.targets.names,
        "classes": dataset.targets.classes.tolist(),
        "too_rare": dataset.rare,
    }


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    check_concepts(rollouts)
    agent, _ = load_recorder(rollouts, args.agent_file, device)
    check_sites(agent, args.sites)
    args = fit_sizes(args, {"num_episodes": episodes_limit(rollouts)})
    dataset = open_probe_dataset(rollouts, args.num_episodes, args.seed, args.out_dir)
    if args.world_model_file:
        choose_windows(load_simulator(args.world_model_file, args.agent_file)[0], dataset, args.seed)
    inputs = {"agent_file": file_id(args.agent_file), "data_dir": rollouts.id}
    inputs |= {"world_model_file": file_id(args.world_model_file)} if args.world_model_file else {}
    run = open_step(
        args.out_dir,
        NAME,
        VERSION,
        settings(args),
        inputs,
        args.new,
        choose_precision(args.precision, device),
    )
    set_precision(run.precision, agent)
    if not run.done:
        finish_step(run, compute(args, dataset, agent, device, run))
    point_latest(run)
    logging.info("probes and directions: %s; draw them with: python -m analysis.probes_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
