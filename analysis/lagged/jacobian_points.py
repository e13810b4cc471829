"""Samples with Jacobians as points of a map: their columns, features and numbers."""

import logging

import numpy as np
import torch

from analysis.maps.hidden_states import HiddenStates
from analysis.maps.step_fields import episode_groups
from common.runs import UsageError
from common.words import counted
from interpret.attribution.stored_jacobians import StoredJacobians
from interpret.directions.directions import Directions
from rollouts.store import Rollouts


def check_replayed(replayed: np.ndarray, rollouts: Rollouts) -> None:
    """Warns of samples [n] that do not repeat their stored episode and are left out.

    Raises:
        UsageError: none does.
    """
    if not replayed.any():
        raise UsageError(
            f"no episode of {rollouts.path} repeats its stored actions on this machine: record the store "
            "again with record_gen_samples.py"
        )
    if not replayed.all():
        logging.warning(
            "%d of %d episodes do not repeat their stored actions and are left out",
            (~replayed).sum(),
            len(replayed),
        )


def sample_columns(
    rollouts: Rollouts, directions: Directions, states: HiddenStates, episodes: np.ndarray
) -> dict[str, np.ndarray]:
    """Columns of the sampled episodes [n]: see `StoredJacobians`; hidden_std [D] is of the hidden state."""
    x = states.x[np.isin(states.episode, episodes)]
    scores = directions.scores(torch.from_numpy(x)).numpy()
    std = scores.std(0)
    return {
        "episode": episodes,
        "group": episode_groups(rollouts)[episodes],
        "length": rollouts.episodes["length"][episodes],
        "scores": scores.astype(np.float32),
        "score_std": np.where(std > 0, std, 1).astype(np.float32),
        "hidden_std": x.std(0).astype(np.float32),
    }


def jacobian_numbers(
    step: int,
    directions: Directions,
    samples: dict[str, np.ndarray],
    replayed: np.ndarray,
    difference: np.ndarray,
) -> dict:
    """What was differentiated, and how many samples repeat their stored episodes."""
    groups = len(np.unique(samples["group"]))
    samples_in_words = counted(int(replayed.sum()), "simulated episode")
    return {
        "step": step,
        "lags": step + 1,
        "names": list(directions.names),
        "directions": directions.id,
        "method": directions.provenance.get("method", "unnamed method"),
        "samples": int(replayed.sum()),
        "groups": groups,
        "n": f"{samples_in_words} from {counted(groups, 'start episode')}",
        "not_replayed": int((~replayed).sum()),
        "largest_difference": float(difference[replayed].max()),
    }


def norms_by_lag(stored: StoredJacobians) -> dict[str, dict[str, list[float]]]:
    """Median and 99th percentile of the samples' norms at each lag, by path, in standard deviations."""
    total, agent = stored.in_scores("total"), stored.in_scores("agent")
    norms = {}
    for path, x in {"total": total, "agent": agent, "mixed": total - agent}.items():
        size = np.linalg.norm(x, axis=(2, 3))
        norms[path] = {"median": np.median(size, 0).tolist(), "largest": np.quantile(size, 0.99, 0).tolist()}
    return norms


def map_blocks(
    stored: StoredJacobians, env_std: np.ndarray, lag: int, normalise: bool
) -> dict[str, np.ndarray]:
    """Jacobians at one lag as features of a map: {input: [n, K * width]}.

    Args:
        stored: the Jacobians.
        env_std: standard deviations of the environment's scores.
        lag: of those that are used.
        normalise: to norm 1.
    """
    units = {"hidden": stored.samples["hidden_std"], "env_state": env_std}
    later = stored.samples["score_std"][:, None]
    blocks = {}
    for name, unit in units.items():
        block = stored.arrays[f"{name}/total"][:, lag].astype(np.float32) * unit / later
        block = block.reshape(len(block), -1)
        norm = np.linalg.norm(block, axis=1, keepdims=True) if normalise else 1
        blocks[name] = block / np.where(norm > 0, norm, 1)
    return blocks


def averaged_blocks(stored: StoredJacobians, env_std: np.ndarray, lag: int) -> dict[str, np.ndarray]:
    """What is averaged over clusters, rows earlier and columns later, in standard deviations: `agent`
    [n, K, K] in scores, and `environment` [n, width, K] in scores of the environment.
    """
    environment = stored.arrays["env_state/total"][:, lag].astype(np.float32)
    environment = environment * env_std / stored.samples["score_std"][:, None]
    return {"agent": stored.in_scores("total")[:, lag], "environment": environment.transpose(0, 2, 1)}
