"""A simulator and an agent that are linear, so that every gradient is a product of matrices.

Frame f[t] = C e[t]; hidden state h[t] = A h[t-1] + B f[t], with h[-1] = Y z before the first frame; action
a[t] = G h[t]; e[0] = Z z and e[t+1] = D e[t] + F a[t]; value v h[t]; reward r e[t+1] and log-odds of an end
d e[t+1] of action t.
"""

from types import SimpleNamespace

import torch

from common.policy import CategoricalPolicy
from generative.model.state import EnvState, as_coordinates
from generative.model.world_model import Start
from generative.simulator import Simulator
from tests.helpers.linear_loop import ACTIONS, ENV, FRAME, HIDDEN, matrices, transition

LATENT = 6
SHAPE = (1, FRAME, 1)
"""Of a frame."""


def linear_parts(seed: int = 0) -> dict[str, torch.Tensor]:
    """All matrices: those of the loop, and Y, Z, v, r, d."""
    rng = torch.Generator().manual_seed(seed + 100)
    shapes = {"Y": (HIDDEN, LATENT), "Z": (ENV, LATENT), "v": (HIDDEN,), "r": (ENV,), "d": (ENV,)}
    more = {name: torch.randn(shape, generator=rng, dtype=torch.float64) for name, shape in shapes.items()}
    return matrices(seed) | more


class LinearAgent(CategoricalPolicy):
    num_actions = ACTIONS

    def __init__(self, m: dict[str, torch.Tensor]):
        self.m = m

    def initial_state(self, n, target_return=None):
        return torch.zeros(n, HIDDEN, dtype=torch.float64)

    def advance(self, obs, state, first, reward):
        return state @ self.m["A"].T + obs.flatten(1) @ self.m["B"].T

    def heads(self, state):
        return state @ self.m["G"].T, state @ self.m["v"]


class LinearModel(torch.nn.Module):
    """What a Simulator asks of a world model; the outcome is the environment's vector itself."""

    spherical = False

    def __init__(self, m: dict[str, torch.Tensor]):
        super().__init__()
        self.m = m
        self.config = SimpleNamespace(
            tile_pixels=1.0, noise_shape=(1, 1), obs_shape=SHAPE, num_actions=ACTIONS
        )

    def start(self, z, mode="hard", detach_agent=True, textures=None):
        vector = z @ self.m["Z"].T
        hidden = (z.detach() if detach_agent else z) @ self.m["Y"].T
        return Start(self.painted(vector), hidden, torch.zeros(len(z), ACTIONS, dtype=torch.float64))

    def step(self, state, action, noise=None, mode="hard", textures=None):
        return self.painted(state.vector @ self.m["D"].T + action @ self.m["F"].T)

    def painted(self, vector):
        none = vector.new_zeros(len(vector), 0)
        state = EnvState(vector, none, none, vector.new_zeros(len(vector), 2), *[none] * 3, vector, none)
        state = as_coordinates(state)
        return state._replace(frame=(state.vector @ self.m["C"].T).view(-1, *SHAPE), outcome=state.vector)

    def decode(self, state, mode="hard"):
        return state.frame

    def outcome(self, vector):
        return SimpleNamespace(vector=vector, done_logit=vector @ self.m["d"])

    def reward(self, outcome):
        return outcome.vector @ self.m["r"]

    def reward_probability(self, outcome):
        return torch.zeros_like(outcome.done_logit)

    def codes_in_view(self, canvas, position):
        return canvas


class LinearSimulator(Simulator):
    """The agent's logits are the weights of its actions."""

    def _act(self, policy, logits, noise, mode, detach):
        return logits.argmax(-1), logits


def linear_simulator(seed: int = 0) -> LinearSimulator:
    m = linear_parts(seed)
    return LinearSimulator(LinearModel(m), LinearAgent(m))


def true_gradients(m: dict[str, torch.Tensor], step: int, at: int, path: str) -> dict[str, torch.Tensor]:
    """Gradients of the value at `step` with respect to what there is at step `at`, by input.

    path: total; held, without what goes through changed actions; or agent, its memory alone.
    """
    if path == "agent":
        memory = torch.linalg.matrix_power(m["A"], step - at)
        zero = {"env_state": torch.zeros(ENV), "actions": torch.zeros(ACTIONS)}
        return {name: x.double() for name, x in zero.items()} | {
            "frames": m["v"] @ memory @ m["B"],
            "hidden": m["v"] @ memory @ m["A"],
            "latent": m["v"] @ torch.linalg.matrix_power(m["A"], step + 1) @ m["Y"],
        }
    acts = path == "total"
    seen = torch.cat([m["B"] @ m["C"], torch.eye(ENV, dtype=torch.float64)])  # of h and e by e
    shown = torch.cat([m["B"], torch.zeros(ENV, FRAME, dtype=torch.float64)])
    kept = torch.cat([m["A"], torch.zeros(ENV, HIDDEN, dtype=torch.float64)])
    # the hidden state after the frame before has chosen an action, if there was such a frame
    before = transition(m, acts)[:, :HIDDEN] if at else kept

    def read(steps: int) -> torch.Tensor:
        return m["v"] @ torch.linalg.matrix_power(transition(m, acts), steps)[:HIDDEN]

    acted = read(step - at - 1) @ seen @ m["F"] if at < step else torch.zeros(ACTIONS).double()
    return {
        "frames": read(step - at) @ shown,
        "hidden": read(step - at) @ before,
        "env_state": read(step - at) @ seen,
        "actions": acted,
        "latent": read(step) @ (seen @ m["Z"] + kept @ m["Y"]),
    }
