"""An agent whose memory is truncated to its last frames.

The state after the last k frames is that after the last k - 1 frames one step ago, updated by the current
frame: so k states are carried side by side, each begun one frame later.
"""

import torch

from agents.actor_critic import ActorCritic
from common.policy import PolicyWrapper


class TruncatedHistoryPolicy(PolicyWrapper):
    """The agent with the memory of its last `frames` frames, the current one included; with 0 it sees
    nothing.

    Args:
        agent: the agent.
        frames: number of remembered frames.
        others: states [R, T, S] of R real episodes before each step. If given, the frames are processed from
            the state that another episode had at that time (or at its end) in place of the initial state:
            memory of the right kind with the wrong content. The first frame selects the episode.

    The state is one tensor [N, (1 + frames) * S + 2]: the states after the last `frames`, ..., 1, 0 frames,
    the number of frames seen, and the other episode.
    """

    def __init__(self, agent: ActorCritic, frames: int, others: torch.Tensor | None = None):
        super().__init__(agent)
        self.frames = frames
        self.others = others
        self._size = agent.core.state_size

    def initial_state(self, n: int, target_return: float | None = None) -> torch.Tensor:
        nothing = self.policy.initial_state(n)
        return torch.cat([nothing.repeat(1, 1 + self.frames), nothing.new_zeros(n, 2)], 1)

    def advance(self, obs, state, first, reward):
        state = torch.where(first[:, None], self.initial_state(len(first)), state)
        passed = state[:, -2] + 1
        other = state[:, -1]
        if self.others is not None:
            other = torch.where(first, obs.flatten(1).sum(1) % len(self.others), other)
        return torch.cat(
            [self._seen(obs, state), self._begin(passed, other), passed[:, None], other[:, None]], 1
        )

    def heads(self, state):
        return self.policy.heads(self.hidden(state))

    def hidden(self, state):
        return state[:, : self._size]

    def _seen(self, obs: torch.Tensor, state: torch.Tensor) -> torch.Tensor:
        """Updates by the current frame all states but the first, whose oldest frame drops out: [N, frames *
        S].
        """
        if not self.frames:
            return state[:, :0]
        shorter = state[:, self._size : -2].reshape(-1, self._size)
        features = self.policy.encoder(obs).repeat_interleave(self.frames, 0)
        return self.policy.core.step(
            features, shorter, torch.zeros(len(shorter), dtype=torch.bool, device=obs.device)
        ).reshape(len(obs), -1)

    def _begin(self, passed: torch.Tensor, other: torch.Tensor) -> torch.Tensor:
        """State [N, S] after no frames, `passed` [N] steps into the episode."""
        if self.others is None:
            return self.policy.initial_state(len(passed))
        return self.others[other.long(), passed.long().clamp(max=self.others.shape[1] - 1)]
