"""What can be read of every concept from the agent's hidden states, its encoder, and a world model's latents and environment states, over
the best of simpler readers.

Linear probes are tested on layouts that they were not fit on (baselines: majority, encoder before the recurrence, a network on the single
frame, an untrained recurrence, nuisances; and a control task for what a probe can learn by heart). The probes of the hidden state are kept
as directions, with their stability. Numbers go to results/probes_precomp; python -m analysis.probes_plotting draws them; the same command
again goes on where it was.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The agent, which recorded the store."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts, whose concepts are there (python -m analysis.concepts_precompute)."""
    sim_model_file: Path | None = None
    """A world model of this agent: its latents and environment states are probed too."""
    sites: tuple[str, ...] = ()
    """Further places of the agent's encoder that are probed, by the names of interpret.hooks (encoder.stages.1, ...)."""
    num_episodes: int = 1500
    """The most episodes that are used, drawn at random and each whole."""
    epochs: int = 2
    """Of the network that learns concepts from single frames, one of the baselines."""
    seed: int = 0
    """Seed of the choice of episodes, of folds, control tasks and baselines."""
    out_dir: Path = Path("results")
    """Where concepts_precomp is, and probes_precomp is written."""
    new: bool = False
    """Make it again where it is done."""
    device: str = "auto"
    """auto, gpu or cpu, for the agent."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from collections.abc import Callable

import numpy as np

from agents.actor_critic import ActorCritic, load_agent
from analysis.artefacts import part
from analysis.by_level import interval
from analysis.concepts import VERSION as CONCEPTS_VERSION, check_store as check_concepts
from analysis.frame_baseline import frame_baseline
from analysis.limits import check_least, fit_sizes
from analysis.probe_bench import BASELINES, Bench, compare, marks, simple_readers, summary
from analysis.probe_data import Study, check_finite, encoded, episodes_limit, narrowed, open_study
from analysis.steps import finish_step, fitted, open_step, point_latest
from analysis.world_model_readings import choose_windows, world_model_states
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id
from generative.compatibility import check_store, recorded_by
from generative.simulator import load_simulator
from interpret.directions import Directions
from interpret.hooks import sites as all_sites
from interpret.probe_directions import probe_directions, probe_stability
from interpret.recurrence import before
from interpret.stability import FEWEST_DRAWS, judged
from rollouts.growth import RECORD_MORE
from rollouts.store import Rollouts

NAME, VERSION = "probes", 2
COMMAND = "python -m analysis.probes_precompute --model_file AGENT --data_dir STORE"
FRAME_AND_MEMORY = "frame and memory"
"""Encoder output and the state before the observation, side by side: over the encoder alone, it says what the agent's memory adds to the
frame."""


def check_asked(args: Args) -> None:
    """Raises UsageError for sizes that make no sense."""
    check_least(args, num_episodes=1, epochs=1)


def check_sites(agent: ActorCritic, asked: tuple[str, ...]) -> None:
    """Raises UsageError for a site that is no part of the agent's encoder."""
    known = [name for name in all_sites(agent) if name.split(".")[0] == "encoder"]
    unknown = [name for name in asked if name not in known]
    if unknown:
        raise UsageError(f"--sites names {', '.join(unknown)}, and the encoder has: {', '.join(known)}")


def settings(args: Args) -> dict:
    """What the numbers depend on, besides the inputs."""
    return {name: getattr(args, name) for name in ("sites", "num_episodes", "epochs", "seed")} | {"concepts": CONCEPTS_VERSION}


def fit_directions(bench: Bench, hidden: np.ndarray, arrays: dict[str, np.ndarray], about: dict) -> Directions:
    """The hidden state's probes of decodable concepts as directions, with the stability of what they read; of more than half its width, the best read."""
    targets, found = bench.study.targets, marks(arrays, bench.study.targets.classes)["decodable"]
    above = np.where(targets.classes, 2 * arrays["value"][0] - 1, arrays["value"][0])
    chosen = np.sort([k for k in np.argsort(-above, kind="stable") if found[k]][: hidden.shape[1] // 2]).astype(int)
    if not len(chosen):
        raise UsageError(f"no concept can be read from the hidden states on other layouts: take a trained agent, or {RECORD_MORE}")
    varied = np.flatnonzero(hidden.std(0) > 1e-6)
    asked = hidden[:, varied], targets.truth[:, chosen], bench.study.groups, [targets.names[k] for k in chosen], arrays["penalty"][chosen]
    with progress_bar(total=FEWEST_DRAWS, unit="fit", desc="stability") as bar:
        read, written = probe_stability(*asked, bench.seed, lambda: bar.update())
    directions = judged(probe_directions(*asked), read).with_provenance(written={"median": written.median.tolist()}, **about)
    return directions.within(varied, hidden.shape[1])


def compute(args: Args, study: Study, agent: ActorCritic, device, run: Run) -> dict:
    """Every reader as a part of the run, the directions, and the summary."""
    bench = Bench(study, args.seed)
    hidden = study.column("hidden_after")
    check_finite(hidden, f"the hidden states of {study.rollouts.path}")
    frames = frame_baseline(study, args.num_episodes, args.epochs, args.seed, args.out_dir, args.new, choose_precision(args.precision, "cpu"))
    with progress_bar(total=len(study.rows), unit="frame", unit_scale=True, desc="encoder") as bar:
        sites = encoded(agent, study, ("encoder", *args.sites), device, bar.update)
    x = study.targets.truth[:, study.targets.names.index("x")]
    simple = simple_readers(bench, agent, sites["encoder"], x, frames)
    both = np.concatenate([sites["encoder"], before(hidden, study.first_step)], 1)
    readers = {name: (states, slice(None)) for name, states in ({"hidden": hidden, FRAME_AND_MEMORY: both} | sites).items()}
    if args.sim_model_file:
        readers |= world_model_states(args.sim_model_file, args.model_file, study, args.seed, device, run.precision)
    told, found = {}, {}
    for name, (wide, rows) in progress_bar(readers.items(), desc="readers", unit="reader"):
        states = narrowed(wide, args.seed)
        found[name] = part(run, name.replace(" ", "_"), lambda: compare(bench, name, states, simple, rows))
        told[name] = summary(bench, found[name])
    about = {"site": "hidden after the observation", "store": study.rollouts.id, "agent": file_id(args.model_file)}
    refused = why_no_directions(run, lambda: fit_directions(bench, hidden, found["hidden"], about))
    added = memory(bench, found[FRAME_AND_MEMORY], found["encoder"])
    return described(study) | about | {"baselines": list(BASELINES), "readers": told, "memory": added, "no_directions": refused}


def why_no_directions(run: Run, fit: Callable[[], Directions]) -> str | None:
    """Fits directions as a part of the run; where none can be fit, the probes stand without them, and this says why."""
    try:
        fitted(run, "directions", fit)
    except UsageError as error:
        logging.warning("directions are left out: %s", error)
        return str(error)
    return None


def memory(bench: Bench, both: dict[str, np.ndarray], encoder: dict[str, np.ndarray]) -> dict[str, dict]:
    """What the state before the observation adds to the encoder's output: {concept: interval}."""
    added = both["value"] - encoder["value"]
    return {name: interval(added[:, k], both["n"][k]) for k, name in enumerate(bench.study.targets.names)}


def described(study: Study) -> dict:
    """For captions: how much of what."""
    layouts = int(study.groups.max()) + 1
    counted = {"steps": len(study.rows), "episodes": len(study.episodes), "layouts": layouts, "levels": study.levels}
    return counted | {"concepts": study.targets.names, "classes": study.targets.classes.tolist(), "too_rare": study.rare}


def main(args: Args) -> None:
    check_asked(args)
    device, rollouts = choose_device(args.device, args.gpu_device), Rollouts.open(args.data_dir)
    check_concepts(rollouts)
    agent, meta = load_agent(args.model_file, device)
    check_store(rollouts, agent, meta, args.model_file)
    if not recorded_by(rollouts, file_id(args.model_file)):
        raise UsageError(f"{args.data_dir} was recorded by another agent than {args.model_file}; record with this one")
    check_sites(agent, args.sites)
    args = fit_sizes(args, {"num_episodes": episodes_limit(rollouts)})
    study = open_study(rollouts, args.num_episodes, args.seed, args.out_dir)
    if args.sim_model_file:
        choose_windows(load_simulator(args.sim_model_file, args.model_file)[0], study, args.seed)
    inputs = {"model_file": file_id(args.model_file), "data_dir": rollouts.id}
    inputs |= {"sim_model_file": file_id(args.sim_model_file)} if args.sim_model_file else {}
    run = open_step(args.out_dir, NAME, VERSION, settings(args), inputs, args.new, choose_precision(args.precision, device))
    set_precision(run.precision, agent)
    if not run.done:
        finish_step(run, compute(args, study, agent, device, run))
    point_latest(run)
    logging.info("probes and directions: %s; draw them with: python -m analysis.probes_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
