"""Jacobians of direction scores at one step with respect to the states of earlier steps, whole and by path.

At lag l they are taken with respect to the agent's hidden state after the frame l steps earlier, and to the
environment state that this frame shows.
"""

import torch

from generative.model.world_model import WorldModel
from interpret.attribution.trace import Trace
from interpret.attribution.trace_gradients import closed, gradients
from interpret.directions.directions import Directions

JACOBIANS = (
    ("hidden", "total"),
    ("hidden", "agent"),
    ("env_state", "total"),
    ("env_state", "environment"),
)
"""(input, path) of what `score_jacobians` returns. Other paths follow: a hidden state has no environment path
and an environment state no agent path, so that the mixed path, through changed actions, is the total less the
other one.
"""


def score_jacobians(
    trace: Trace,
    directions: Directions,
    step: int,
    model: WorldModel | None = None,
    env_directions: Directions | None = None,
    environment_path: bool = True,
) -> dict[str, torch.Tensor]:
    """Gradients of every direction's score at a step, each sample's by itself.

    Args:
        trace: T steps of B samples.
        directions: K directions of the hidden state, which is scored after the frame of the step.
        step: below T.
        model: of the simulator; None leaves the environment state out.
        env_directions: of the environment state; its gradients are then expressed in their scores.
        environment_path: whether to compute it, which doubles the time.

    Returns:
        {"<input>/<path>": [B, L, K, width]} for JACOBIANS, by lag: L = step + 1 lags from 0 on. Width is that
        of the hidden state, or of the environment state or its scores.
    """
    scores = directions.scores(trace.hidden[step + 1])
    rows = [
        _score_gradients(trace, score, step, model, env_directions, environment_path) for score in scores.T
    ]
    return {name: torch.stack([row[name] for row in rows], 2) for name in rows[0]}


def _score_gradients(
    trace, score: torch.Tensor, step: int, model, env_directions, environment_path: bool
) -> dict[str, torch.Tensor]:
    """Gradients [B, L, width] of one score [B]."""
    inputs = ("hidden",) if model is None else ("hidden", "env_state")
    total = gradients(trace, score[None], inputs, model)
    found = {f"{name}/total": total[name] for name in inputs}
    with closed(trace.action_edge, trace.frame_edge):
        found["hidden/agent"] = gradients(trace, score[None], ("hidden",))["hidden"]
    if model is not None and environment_path:
        with closed(trace.action_edge):
            held = gradients(trace, score[None], ("env_state",), model)
        found["env_state/environment"] = held["env_state"]
    return {
        name: by_lag(_expressed(gradient[0], name, env_directions), step, name)
        for name, gradient in found.items()
    }


def _expressed(gradient: torch.Tensor, name: str, env_directions: Directions | None) -> torch.Tensor:
    """A gradient to environment states in the scores of their directions, if there are any."""
    if env_directions is None or not name.startswith("env_state"):
        return gradient
    return env_directions.score_gradients(gradient)


def by_lag(gradient: torch.Tensor, step: int, name: str) -> torch.Tensor:
    """Gradients of all states in the order of time [., B, width] as [B, L, width], those at `step` first.

    hidden[t + 1] is the hidden state after frame t, and env_state[t] the environment state that it shows.
    """
    first = 1 if name.startswith("hidden") else 0
    return gradient[first : first + step + 1].flip(0).transpose(0, 1)


def in_scores(jacobian: torch.Tensor, directions: Directions) -> torch.Tensor:
    """Jacobians [..., K, D] in the scores of the earlier hidden state: [..., K', K].

    Rows are the K' earlier scores, columns the K later ones, as in lagged correlations: entry (i, j) says by
    how much score j changes when score i is written one unit higher.
    """
    return directions.score_gradients(jacobian).transpose(-1, -2)
