"""Who played a recording: the returns and actions of each policy and behaviour in it."""

from collections.abc import Mapping

import numpy as np

from common.stats import cluster_bootstrap, json_number
from rollouts.store import Rollouts

QUANTILES = (0.05, 0.25, 0.5, 0.75, 0.95)


def players(rollouts: Rollouts, names: Mapping[str, str] | None = None) -> dict[str, np.ndarray]:
    """Episodes [n] of each pair of policy and behaviour, by name, from the lowest to the highest mean return.

    Args:
        rollouts: the store.
        names: of policies, by their id; default: the first six digits of the id, which tell policies of one
            name apart too.
    """
    episodes = rollouts.episodes
    pairs = np.stack([episodes["policy_id"], episodes["behaviour"]], 1)
    found = {}
    for policy, behaviour in np.unique(pairs, axis=0):
        who = (names or {}).get(policy, policy[:6])
        name = who if behaviour == "agent" else f"{who}, {behaviour}"
        name = f"{name} ({policy[:6]})" if name in found else name
        found[name] = np.flatnonzero((pairs == (policy, behaviour)).all(1))
    return dict(sorted(found.items(), key=lambda item: episodes["return"][item[1]].mean()))


def summarize_players(rollouts: Rollouts, found: Mapping[str, np.ndarray]) -> dict[str, dict]:
    """JSON-able numbers of each player: episodes, steps, mean return with its interval by level (None
    over too few levels), quantiles of the return, mean length, and the share of each action.
    """
    episodes, action = rollouts.episodes, rollouts.steps("action")
    episode_of_step = rollouts.step_table()[:, 0]
    summary = {}
    for name, mine in found.items():
        returns = episodes["return"][mine]
        interval = cluster_bootstrap(returns, episodes["level_seed"][mine])
        taken = action[np.isin(episode_of_step, mine)]
        counts = np.bincount(taken, minlength=rollouts.manifest["num_actions"])
        summary[name] = {
            "episodes": len(mine),
            "levels": interval.clusters,
            "steps": len(taken),
            "return": [json_number(x) for x in interval[:3]],
            "return_quantiles": np.quantile(returns, QUANTILES).tolist(),
            "length": float(episodes["length"][mine].mean()),
            "actions": (counts / len(taken)).tolist(),
        }
    return summary
