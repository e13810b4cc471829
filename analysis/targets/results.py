"""numbers.json of a run, and its summary in the log."""

import logging
from pathlib import Path

import numpy as np

from analysis.targets.experiment import ARMS, Experiment
from analysis.targets.figures import few_levels
from analysis.targets.numbers import NEAR, target_numbers
from common.stats import NO_INTERVALS
from common.words import with_interval
from interpret.targets.latent_prior import GaussianPrior
from interpret.targets.target_rollouts import Reading
from interpret.targets.targets import Target


def run_numbers(experiment: Experiment) -> dict:
    """What the targets of a run share."""
    return {
        "ids": experiment.ids | {"data_dir": experiment.recorded.windows.rollouts.id},
        "starts": experiment.num_starts,
        "start_pool": experiment.begin.pool,
        "iterations": experiment.config.num_iterations,
        "eval_every": experiment.config.eval_every,
        "report_rollouts": experiment.sizes.report_rollouts,
        "moments": len(experiment.moments),
        "moment_levels": len(np.unique(experiment.moments.level)),
        "moment_level_range": [int(experiment.moments.level.min()), int(experiment.moments.level.max())],
        "near_percentile": NEAR,
        "prior": _prior_numbers(experiment),
        "targets": {},
    }


def _prior_numbers(experiment: Experiment) -> dict:
    """The shell of the prior, and the root mean squared length of the global part of recorded latents, which
    is the root of its width under N(0, I).
    """
    prior = experiment.prior
    if not isinstance(prior, GaussianPrior):
        return {"kind": "sphere"}
    mean, log_variance = (part[:, : prior.split] for part in experiment.moments.latent)
    square = (mean.square() + log_variance.exp()).sum(1).mean()
    return {
        "kind": "Gaussian",
        "shell": prior.centre.tolist(),
        "spread": prior.spread.tolist(),
        "recorded_global_length": float(square.sqrt()),
    }


def target_results(experiment: Experiment, target: Target, reading: Reading, parts: dict) -> dict:
    """Numbers of one target, with where it is read and what it cost."""
    real = experiment.moments.values(target, reading)
    facts = {
        "function": target.function.name,
        "goal": target.goal,
        "step": reading.step,
        "steps": reading.steps,
        "simulated_steps_per_start": experiment.start_cost(reading),
    }
    return facts | target_numbers(parts, real)


def log_results(numbers: dict, directory: Path) -> None:
    """Logs a table: each arm's score by target, and how many optima have a recorded moment near them."""
    logging.info("%-32s %s  near", "mean score, higher is better", " ".join(f"{arm:>24}" for arm in ARMS))
    for name, target in numbers["targets"].items():
        values = (target["arms"][arm]["score"] for arm in ARMS)
        cells = " ".join(f"{_words(value):>24}" for value in values)
        near = target["arms"]["optimised"]["matches"]["hidden"]
        logging.info("%-32s %s  %d of %d", name, cells, near["near"], near["n"])
    if any(few_levels(target) for target in numbers["targets"].values()):
        logging.info("%s of starts: raise --num_starts", NO_INTERVALS)
    logging.info("numbers, latents, pictures and videos: %s", directory)


def _words(interval: dict | None) -> str:
    return with_interval(*(interval[name] for name in ("mean", "low", "high"))) if interval else "undefined"
