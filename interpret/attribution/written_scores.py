"""What happens when a score is written: the effects that Jacobians predict, measured.

A score is written into the agent's hidden state after a frame, before its heads read it. Along memory alone
the agent then sees the frames of the stored episode; along all paths it acts, in the simulator, with the
noise of the stored episode.
"""

import numpy as np
import torch

from common.policy import Policy, PolicyWrapper
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.attribution.replay import stored_sampling
from interpret.directions.directions import Directions
from rollouts.store import Rollouts


class ScoreWriter(PolicyWrapper):
    """An agent to whose state `change` [B, D] is added after its frame number `step`."""

    def __init__(self, policy: Policy, step: int, change: torch.Tensor):
        super().__init__(policy)
        self.step = step
        self.change = change
        self.seen = 0

    def advance(self, obs, state, first, reward):
        state = super().advance(obs, state, first, reward)
        self.seen += 1
        return state + self.change if self.seen == self.step + 1 else state


@torch.no_grad()
def effect_on_memory(
    agent: Policy,
    rollouts: Rollouts,
    episodes: np.ndarray,
    directions: Directions,
    steps: tuple[int, int],
    change: torch.Tensor,
) -> torch.Tensor:
    """Half the difference [B, K] of all scores at the later step when `change` is added and taken away.

    Args:
        agent: of the episodes.
        rollouts: their store.
        episodes: [B].
        directions: K directions of the hidden state.
        steps: after whose frames the score is written and scores are read.
        change: of the hidden state [B, D].
    """
    written, read = steps
    first_rows = rollouts.first_step[episodes]
    obs, reward, hidden = (rollouts.steps(name) for name in ("obs", "reward", "hidden_after"))
    before = torch.from_numpy(hidden[first_rows + written])
    no_first = torch.zeros(len(episodes), dtype=torch.bool)
    scores = []
    for sign in (1, -1):
        state = before + sign * change
        for step in range(written + 1, read + 1):
            rows = first_rows + step
            came_with = torch.from_numpy(reward[rows - 1])
            state = agent.advance(torch.from_numpy(obs[rows]), state, no_first, came_with)
        scores.append(directions.scores(agent.hidden(state)))
    return (scores[0] - scores[1]) / 2


@torch.no_grad()
def effect_in_simulator(
    simulator: Simulator,
    rollouts: Rollouts,
    episodes: np.ndarray,
    directions: Directions,
    steps: tuple[int, int],
    change: torch.Tensor,
) -> torch.Tensor:
    """As `effect_on_memory`, along all paths: actions and the frames that follow may change."""
    written, read = steps
    sampling = stored_sampling(rollouts)
    samples = rollouts.episodes["id"][episodes]
    z = torch.from_numpy(rollouts.episodes["latent"][episodes])
    keys = NoiseKeys(sampling.seed, samples // sampling.per_start)
    options = {"greedy": sampling.greedy, "use_mode": sampling.use_mode, "actions": sampling.actions(samples)}
    scores = []
    for sign in (1, -1):
        policy = ScoreWriter(simulator.agent, written, sign * change)
        run = simulator.simulate(z, read + 1, keys, policy=policy, ends=False, **options)
        scores.append(directions.scores(run.hidden_after()[read]))
    return (scores[0] - scores[1]) / 2
