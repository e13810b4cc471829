"""A linear loop of agent and environment, whose Jacobians are products of matrices.

After frame t: h[t] = A h[t-1] + B f[t], frame f[t] = C e[t], action a[t] = G h[t], e[t+1] = D e[t] + F a[t].
"""

from types import SimpleNamespace

import numpy as np
import torch

from generative.model.state import EnvState
from interpret.attribution.trace import Edge, Trace
from interpret.directions.directions import Directions

HIDDEN = 4
ENV = 3
FRAME = 5
ACTIONS = 2
MODEL = SimpleNamespace(
    config=SimpleNamespace(tile_pixels=1.0), codes_in_view=lambda canvas, position: canvas
)
"""Reads the flat state of a linear environment: its vector and nothing else."""


def matrices(seed: int = 0) -> dict[str, torch.Tensor]:
    """A, B, C, D, F and G, in float64."""
    rng = torch.Generator().manual_seed(seed)
    shapes = {
        "A": (HIDDEN, HIDDEN),
        "B": (HIDDEN, FRAME),
        "C": (FRAME, ENV),
        "D": (ENV, ENV),
        "F": (ENV, ACTIONS),
        "G": (ACTIONS, HIDDEN),
    }
    return {
        name: 0.5 * torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()
    }


@torch.enable_grad()
def linear_trace(m: dict[str, torch.Tensor], steps: int, batch: int = 3, seed: int = 1) -> Trace:
    """A trace of the loop from random states; no two samples are alike."""
    rng = torch.Generator().manual_seed(seed)
    empty = torch.zeros(batch, 0, dtype=torch.float64)
    hidden = [torch.randn(batch, HIDDEN, generator=rng, dtype=torch.float64).requires_grad_()]
    vector = torch.randn(batch, ENV, generator=rng, dtype=torch.float64).requires_grad_()
    frame_edge, action_edge = Edge(), Edge()
    frames, actions, env = [], [], []
    for _ in range(steps):
        env.append(EnvState(vector, empty, empty, empty, empty, *[empty] * 4))
        frames.append(frame_edge(vector @ m["C"].T))
        hidden.append(hidden[-1] @ m["A"].T + frames[-1] @ m["B"].T)
        actions.append(action_edge(hidden[-1] @ m["G"].T))
        vector = vector @ m["D"].T + actions[-1] @ m["F"].T
    none = [torch.zeros(batch, dtype=torch.float64)] * steps
    taken = torch.zeros(steps, batch, dtype=torch.int64)
    return Trace(
        frames, hidden, actions, none, actions, taken, env, none, none, vector, frame_edge, action_edge
    )


def true_jacobians(m: dict[str, torch.Tensor], lag: int) -> dict[str, torch.Tensor]:
    """Derivatives of h after a frame: {"<input>/<path>": [HIDDEN, width]}."""
    closed_loop, held = (transition(m, acts) for acts in (True, False))
    seen = torch.cat([m["B"] @ m["C"], torch.eye(ENV, dtype=torch.float64)])  # of h and e by e, at once
    return {
        "hidden/total": torch.linalg.matrix_power(closed_loop, lag)[:HIDDEN, :HIDDEN],
        "hidden/agent": torch.linalg.matrix_power(m["A"], lag),
        "env_state/total": (torch.linalg.matrix_power(closed_loop, lag) @ seen)[:HIDDEN],
        "env_state/environment": (torch.linalg.matrix_power(held, lag) @ seen)[:HIDDEN],
    }


def transition(m: dict[str, torch.Tensor], acts: bool) -> torch.Tensor:
    """Matrix from (h, e) after one frame to those after the next."""
    act = m["F"] @ m["G"] * acts
    env = torch.cat([act, m["D"]], 1)
    agent = torch.cat([m["A"], torch.zeros(HIDDEN, ENV, dtype=torch.float64)], 1) + m["B"] @ m["C"] @ env
    return torch.cat([agent, env])


def skewed_directions(width: int, count: int, seed: int = 5) -> Directions:
    """Directions that are neither orthogonal nor of unit length: R E = I, and E is not the transpose of R."""
    write = torch.from_numpy(np.random.default_rng(seed).normal(size=(width, count)))
    read = torch.linalg.pinv(write)
    return Directions(read, torch.ones(count), write, torch.zeros(width), [f"d{i}" for i in range(count)])
