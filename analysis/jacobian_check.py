"""Do Jacobians predict what happens when a score is written? Predicted against measured changes of all later
scores, along memory, in the simulator, and for what goes through changed actions.

In each stored episode one score is written higher and lower, at random, and half the difference of the later
scores is compared with the Jacobian of that episode. Noise is that of the episode.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from common.cli import parse, run_main
from common.shared_flags import SEED_MODEL_FILE, LogLevel


@dataclass(kw_only=True)
class Args:
    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model that the store was recorded with."""
    agent_file: Path
    """The agent that acts in the store."""
    data_dir: Path = Path("results/simulated/informed_init")
    """Store of simulated rollouts that the Jacobians are of."""
    jacobians_dir: Path | None = None
    """A finished directory of results/jacobians_precomp; default: the latest."""
    written_lags: tuple[int, ...] = (1, 2, 4, 8)
    """Lags, in steps, at which a score is written."""
    size: float = 0.5
    """Change of the score, in its standard deviations, in either direction."""
    num_episodes: int = 200
    """Episodes, sampled at random; all if there are fewer."""
    batch_size: int = 64
    """Episodes simulated together."""
    results: Path | None = None
    """Also write the numbers to this JSON file, for documentation pages to quote."""
    out_dir: Path = Path("results")
    """Directory that receives jacobian_check_precomp."""
    seed: int = 0
    """Seed of the choice of episodes and scores."""
    new: bool = False
    """Recompute a finished step."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from analysis.io.artefacts import cached_part
from analysis.io.publish import round_numbers
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest, read_numbers
from analysis.lagged.stored_jacobians import find_jacobians
from common.checkpoints import write_json
from common.precision import set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, file_id
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from interpret.attribution.gradient_estimator import gradient_agreement
from interpret.attribution.replay import check_recorded_with
from interpret.attribution.stored_jacobians import StoredJacobians
from interpret.attribution.written_scores import effect_in_simulator, effect_on_memory
from rollouts.store import Rollouts, recorded_precision

NAME = "jacobian_check"
VERSION = 1
PATHS = ("agent", "total", "mixed")
"""Memory alone; everything; and what goes through changed actions, the difference."""


def main(args: Args) -> None:
    check_least(args, num_episodes=2, batch_size=1)
    stored = find_jacobians(args.out_dir, args.jacobians_dir)
    rollouts = Rollouts.open(args.data_dir)
    check_flags(args, stored, rollouts)
    names = ("written_lags", "size", "num_episodes", "seed")
    settings = {name: getattr(args, name) for name in names}
    inputs = {"jacobians_dir": stored.directory.name}
    run = open_step(args.out_dir, NAME, VERSION, settings, inputs, args.new)
    if run.done:
        point_latest(run)
    else:
        compute(args, run, stored, rollouts)
    numbers = read_numbers(run.dir)
    if args.results:
        write_json(args.results, round_numbers(numbers))
    for row in numbers["rows"]:
        logging.info(
            "lag %s, %s: correlation %s, slope %s", *(row[x] for x in ("lag", "path", "correlation", "slope"))
        )


def check_flags(args: Args, stored: StoredJacobians, rollouts: Rollouts) -> None:
    """Raises UsageError for lags that there are not, and for files that the Jacobians are not of."""
    step = stored.numbers["step"]
    if not args.written_lags or not all(1 <= lag <= step for lag in args.written_lags):
        raise UsageError(
            f"--written_lags are {args.written_lags}: these Jacobians have lags from 1 to {step}"
        )
    if args.size <= 0:
        raise UsageError(f"--size is {args.size}: give a number above 0, such as 0.5")
    if rollouts.id != stored.numbers["store"]:
        raise UsageError(f"{args.data_dir} is not the store of {stored.directory}: give that one")
    check_recorded_with(rollouts, file_id(args.world_model_file), file_id(args.agent_file))


def compute(args: Args, run: Run, stored: StoredJacobians, rollouts: Rollouts) -> None:
    """Writes scores and measures their effects, then finishes the run with its numbers."""
    other = rollouts.manifest.get("allow_other_agent", False)
    simulator, _ = load_simulator(args.world_model_file, args.agent_file, other)
    set_precision(recorded_precision(args.data_dir), simulator.model, simulator.agent)
    rng = np.random.default_rng([args.seed, 19])
    chosen = np.sort(rng.permutation(len(stored.samples["episode"]))[: args.num_episodes])
    jacobians = {path: stored.in_scores(path)[chosen] for path in ("total", "agent")}
    jacobians["mixed"] = jacobians["total"] - jacobians["agent"]
    rows = []
    for lag in progress_bar(args.written_lags, unit="lag", desc="write scores"):
        source = np.random.default_rng([args.seed, 20, lag]).integers(len(stored.names), size=len(chosen))

        def measure(lag: int = lag, source: np.ndarray = source) -> dict[str, np.ndarray]:
            return measured_effects(args, simulator, stored, rollouts, chosen, lag, source)

        measured = cached_part(run, f"lag_{lag}", measure)
        group = np.repeat(stored.samples["group"][chosen], len(stored.names))
        for path in PATHS:
            predicted = jacobians[path][np.arange(len(chosen)), lag, source]
            found = gradient_agreement(
                predicted.reshape(-1), measured[path].reshape(-1), group, seed=args.seed
            )
            rows.append({"lag": lag, "path": path, **found})
    facts = {
        "samples": len(chosen),
        "groups": len(np.unique(stored.samples["group"][chosen])),
        "size": args.size,
    }
    finish_step(
        run, {"rows": rows, "jacobians": stored.directory.name, "step": stored.numbers["step"], **facts}
    )


def measured_effects(
    args: Args,
    simulator: Simulator,
    stored: StoredJacobians,
    rollouts: Rollouts,
    chosen: np.ndarray,
    lag: int,
    source: np.ndarray,
) -> dict[str, np.ndarray]:
    """{path: [n, K]}: changes of all scores per standard deviation of the score that is written, in theirs.

    Args:
        args: size and batch_size.
        simulator: with its agent.
        stored: the Jacobians.
        rollouts: their store.
        chosen: samples [n].
        lag: at which the score is written.
        source: which score, of each sample [n].
    """
    read = stored.numbers["step"]
    std = torch.from_numpy(stored.samples["score_std"])
    write = stored.directions.write.T.float() * std[:, None] * args.size
    found = {"agent": [], "total": []}
    for at in range(0, len(chosen), args.batch_size):
        episodes = stored.samples["episode"][chosen[at : at + args.batch_size]]
        change = write[source[at : at + args.batch_size]]
        given = rollouts, episodes, stored.directions, (read - lag, read), change
        found["agent"].append(effect_on_memory(simulator.agent, *given))
        found["total"].append(effect_in_simulator(simulator, *given))
    effects = {path: (torch.cat(parts) / std / args.size).numpy() for path, parts in found.items()}
    return effects | {"mixed": effects["total"] - effects["agent"]}


if __name__ == "__main__":
    run_main(main, ARGS)
