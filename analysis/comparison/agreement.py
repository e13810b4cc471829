"""How often a network would act as the agent does on the same recorded steps, by situation."""

from collections.abc import Mapping

import numpy as np

from analysis.model_eval.agent_view import HAZARD_RADIUS, decision_steps, total_variation
from common.stats import json_estimate, level_counts, ratio

HAZARDS = ("saw", "enemy", "lava")
TIMES = (10, 30, 100)
"""First steps of the parts of an episode, after its beginning."""


def situations(
    concepts: Mapping[str, np.ndarray], taken: np.ndarray, time: np.ndarray
) -> dict[str, np.ndarray]:
    """Which steps [n] belong to each situation.

    Args:
        concepts: columns [n] of envs/concepts.py.
        taken: [n], effect class of the recorded action.
        time: [n], step of the episode.
    """
    near = np.zeros(len(taken), bool)
    for kind in HAZARDS:
        tiles, rise = concepts[f"tiles_to_{kind}"], concepts[f"{kind}_rise"]
        near |= (tiles <= HAZARD_RADIUS) & (np.abs(rise) <= HAZARD_RADIUS)  # NaN: none ahead
    every = np.ones(len(taken), bool)
    deciding = decision_steps(taken[None], every[None], near[None])[0]
    found = {
        "all steps": every,
        "on the ground": concepts["support"].astype(bool),
        "in the air": ~concepts["support"].astype(bool),
        "hazard within 4 tiles": near,
        "no hazard within 4 tiles": ~near,
        "decision steps": deciding,
        "other steps": ~deciding,
    }
    edges = (0, *TIMES)
    for first, end in zip(edges, (*TIMES, None)):
        name = f"steps {first}-{end - 1}" if end else f"steps {first} on"
        found[name] = (time >= first) & (time < (end or np.inf))
    return found


def agreement(
    own: np.ndarray,
    other: np.ndarray,
    layouts: np.ndarray,
    where: Mapping[str, np.ndarray],
    seed: int = 0,
) -> dict[str, dict]:
    """Scores of another network's action distribution against the agent's own, for each situation.

    Args:
        own: [n, J], the agent's probabilities of effect classes.
        other: [n, J], the other network's.
        layouts: [n], numbered from 0; intervals resample them.
        where: {situation: [n] bool}.
        seed: of the resamples.

    Returns:
        {situation: {"same", "kappa", "total_variation": value with interval, "steps", "layouts"}}. same:
        share of steps with the same likeliest class; kappa: agreement beyond that of naming the situation's
        commonest class, (same - share of the commonest) / (1 - share of the commonest).
    """
    weights = level_counts(layouts.max() + 1, seed=seed)
    likeliest = own.argmax(1)
    same = likeliest == other.argmax(1)
    distance = total_variation(own, other)
    scored = {}
    for name, rows in where.items():
        n = int(rows.sum())
        per_layout = lambda x: np.bincount(layouts[rows], x[rows], weights.shape[1])  # noqa: E731
        count = np.bincount(layouts[rows], minlength=weights.shape[1])
        agree = ratio(weights, per_layout(same), count)
        by_class = np.stack([per_layout(likeliest == j) for j in range(own.shape[1])], 1)
        guessed = ratio(weights, by_class, count[:, None]).max(1)
        with np.errstate(divide="ignore", invalid="ignore"):
            kappa = (agree - guessed) / (1 - guessed)
        measures = {
            "same": agree,
            "kappa": kappa,
            "total_variation": ratio(weights, per_layout(distance), count),
        }
        scored[name] = {measure: json_estimate(values, n) for measure, values in measures.items()}
        scored[name] |= {"steps": n, "layouts": int((count > 0).sum())}
    return scored
