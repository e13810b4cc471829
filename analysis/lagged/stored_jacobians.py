"""Jacobians of stored simulated episodes, computed in batches that a run keeps, and found again."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch

from analysis.io.artefacts import cached_part
from analysis.io.steps import find_step
from common.progress import progress_bar
from common.runs import Run
from generative.simulator import Simulator
from interpret.attribution.jacobians import score_jacobians
from interpret.attribution.replay import replayed_trace, same_actions
from interpret.attribution.stored_jacobians import COMMAND, StoredJacobians
from interpret.attribution.trace import Trace
from interpret.directions.directions import Directions
from rollouts.store import Rollouts

NAME = "jacobians"
VERSION = 1
LARGEST = float(np.finfo(np.float16).max)


@dataclass(frozen=True)
class JacobianPlan:
    """What is differentiated.

    Args:
        step: after whose frame the scores are read.
        directions: of the agent's hidden state.
        env_directions: of the environment state.
        environment_path: whether that path is computed.
        keep_float: keep float32 and every feature of the environment state, instead of float16 and scores.
        batch_size: samples per batch.
    """

    step: int
    directions: Directions
    env_directions: Directions
    environment_path: bool
    keep_float: bool
    batch_size: int


def compute_jacobians(
    run: Run, simulator: Simulator, rollouts: Rollouts, episodes: np.ndarray, plan: JacobianPlan
) -> tuple[np.ndarray, np.ndarray]:
    """Jacobians of stored episodes [n], in parts of the run; an interrupted run goes on after the last part.

    Each part holds the arrays of `score_jacobians`, [B, L, K, width], and the two columns returned here.

    Returns:
        replayed [n] bool: the simulation repeats the stored actions; difference [n]: largest difference of a
        score at the step from the stored episode's.
    """
    parts = []
    for index, begin in enumerate(
        progress_bar(range(0, len(episodes), plan.batch_size), unit="batch", desc="Jacobians")
    ):
        chosen = episodes[begin : begin + plan.batch_size]

        def compute(chosen: np.ndarray = chosen) -> dict[str, np.ndarray]:
            return jacobian_batch(simulator, rollouts, chosen, plan)

        parts.append(cached_part(run, f"batch_{index:04d}", compute))
    return tuple(np.concatenate([part[name] for part in parts]) for name in ("replayed", "difference"))


def jacobian_batch(
    simulator: Simulator, rollouts: Rollouts, episodes: np.ndarray, plan: JacobianPlan
) -> dict[str, np.ndarray]:
    """Arrays of one part: see `compute_jacobians`."""
    trace = replayed_trace(simulator, rollouts, episodes, plan.step + 1)
    env_directions = None if plan.keep_float else plan.env_directions
    found = score_jacobians(
        trace, plan.directions, plan.step, simulator.model, env_directions, plan.environment_path
    )
    if plan.keep_float:
        env = {name: x for name, x in found.items() if name.startswith("env_state")}
        found |= {f"full_{name}": x for name, x in env.items()}
        found |= {name: plan.env_directions.score_gradients(x) for name, x in env.items()}
    arrays = {name: x.detach().cpu().numpy() for name, x in found.items()}
    if not plan.keep_float:
        arrays = {name: x.clip(-LARGEST, LARGEST).astype(np.float16) for name, x in arrays.items()}
    return arrays | {
        "replayed": same_actions(trace, rollouts, episodes),
        "difference": _score_difference(trace, rollouts, episodes, plan),
    }


def _score_difference(
    trace: Trace, rollouts: Rollouts, episodes: np.ndarray, plan: JacobianPlan
) -> np.ndarray:
    """Largest difference [B] of a score at the step from that of the stored episode."""
    hidden = rollouts.hidden_after()[rollouts.first_step[episodes] + plan.step]
    stored = plan.directions.scores(torch.from_numpy(hidden))
    found = plan.directions.scores(trace.hidden[plan.step + 1].detach().cpu())
    return (found - stored).abs().amax(-1).numpy()


def find_jacobians(out_dir: Path, chosen: Path | None = None) -> StoredJacobians:
    """The latest ones in out_dir, or those of a chosen directory. Raises UsageError if there are none."""
    return StoredJacobians.open(find_step(out_dir, NAME, VERSION, COMMAND, chosen))
