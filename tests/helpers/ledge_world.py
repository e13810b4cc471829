"""A game with a pit, an agent of which one direction is known to make it jump, and a simulator of the game.

The player walks up to a pit, which shows in the frame one step ahead of it only. On the brink a jump earns
the coin and anything else is death. The agent's state leaks: h' = LEAK h + mixing @ (pit, noise), and its
jump logit reads the pit's score, so that it must remember. A second concept chooses between two buttons that
do the same: it moves the policy and changes nothing else.
"""

from types import SimpleNamespace

import numpy as np
import torch

from common.policy import CategoricalPolicy
from interpret.directions.directions import Directions
from interpret.forks.fork_points import REPEAT_STRIDE, ForkPoints
from rollouts.segment import Segment

WIDTH = 10
CONCEPTS = 6
LEAK = 0.6
WALK, JUMP, WALK_B, JUMP_B = range(4)
PIT, BUTTON = 0, 1
HORIZON = 8


def frames_of(level: np.ndarray, distance: np.ndarray) -> np.ndarray:
    """Frames [N, 4, 4, 3]: whether the pit is one step away, then noise of the level and place."""
    frames = np.zeros((len(level), 48), np.uint8)
    place = (np.asarray(level, np.uint64)[:, None] * 16 + np.asarray(distance, np.uint64)[:, None]) * 64
    mixed = (place + np.arange(CONCEPTS, dtype=np.uint64) + 1) * np.uint64(0x9E3779B97F4A7C15)
    frames[:, 1:CONCEPTS] = ((mixed ^ (mixed >> np.uint64(29))) >> np.uint64(40))[:, 1:] & np.uint64(255)
    frames[:, 0] = 255 * (np.asarray(distance) == 1)
    return frames.reshape(-1, 4, 4, 3)


class LedgeEnv:
    """N players; a snapshot is (level, distance to the pit)."""

    obs_shape = (4, 4, 3)
    num_actions = 4
    noop = WALK
    effect_classes = (WALK, JUMP, WALK, JUMP)

    def __init__(self, num: int):
        self.num = num
        self.level, self.distance = np.zeros(num, np.int64), np.ones(num, np.int64)
        self.ended, self.won = np.zeros(num, bool), np.zeros(num, bool)

    def restore(self, snapshots, slots):
        slots = np.asarray(slots)
        self.level[slots], self.distance[slots] = np.array(snapshots).T

    def observe(self):
        return 10.0 * self.won.astype(np.float32), frames_of(self.level, self.distance), self.ended

    def act(self, action):
        self.ended = self.distance == 0
        self.won = self.ended & np.isin(action, (JUMP, JUMP_B))
        self.distance = np.where(self.ended, 5, self.distance - 1)

    def info(self):
        never = np.zeros(self.num, bool)
        return {"terminated": self.ended, "truncated": never, "level_complete": self.won}


class LedgeAgent(CategoricalPolicy):
    """The planted agent. `mixing` [D, K]: what each concept writes to its state."""

    num_actions = 4

    def __init__(self, seed: int = 0):
        rng = np.random.default_rng(seed)
        self.mixing = torch.from_numpy(rng.normal(size=(WIDTH, CONCEPTS)) / 2).float()
        self.reading = torch.linalg.pinv(self.mixing)

    def initial_state(self, n, target_return=None):
        return torch.zeros(n, WIDTH)

    def advance(self, obs, state, first, reward):
        seen = obs.flatten(1)[:, :CONCEPTS].float() / 255
        centred = torch.cat([seen[:, :1], seen[:, 1:] - 0.5], 1)
        return LEAK * state.masked_fill(first[:, None], 0.0) + centred @ self.mixing.T

    def heads(self, state):
        concepts = state @ self.reading.T
        jump, button = 6 * concepts[:, PIT] - 2, 3 * concepts[:, BUTTON]
        return torch.stack([0 * jump, jump, button, jump + button], 1), concepts[:, PIT]


def planted(agent: LedgeAgent) -> Directions:
    """The agent's concepts as directions: 0 is the pit."""
    names = [f"concept_{i}" for i in range(CONCEPTS)]
    zero = torch.zeros(CONCEPTS)
    return Directions(agent.reading, zero, agent.mixing, torch.zeros(WIDTH), names, {"method": "planted"})


class LedgeSimulator:
    """An imperfect copy of the game: an end on the brink has probability 0.9, and elsewhere 0.02."""

    def __init__(self, agent: LedgeAgent):
        self.agent = agent
        self.model = SimpleNamespace(parameters=lambda: iter([agent.mixing]))

    def encode(self, frames):
        mean = frames[-1].flatten(1).float()
        return SimpleNamespace(mean=mean, sample=lambda noise: mean)

    def simulate(self, z, steps, keys, policy=None, actions=None, ends=False):
        policy = policy or self.agent
        env = LedgeEnv(len(z))
        env.restore(np.stack([keys.stream, np.asarray(keys.repeat) % REPEAT_STRIDE], 1), range(len(z)))
        state = policy.initial_state(len(z))
        parts = {name: [] for name in ("obs", "action", "logits", "value", "hidden", "done", "coin")}
        for t in range(steps):
            obs, brink = env.observe()[1], env.distance == 0
            state = policy.advance(torch.from_numpy(obs), state, torch.zeros(len(z), dtype=torch.bool), None)
            logits, value = policy.heads(state)
            action = policy.choose(logits, keys.gumbel(0, t, (4,), logits))
            env.act(action.numpy())
            kept = (torch.from_numpy(obs), action, logits, value, policy.hidden(state))
            done = (
                torch.from_numpy(np.where(brink, 0.9, 0.02)),
                torch.from_numpy(np.where(env.won, 0.9, 0.05)),
            )
            for out, part in zip(parts.values(), (*kept, *done)):
                out.append(part)
        stacked = {name: torch.stack(x) for name, x in parts.items()}
        none = torch.zeros(steps, len(z), dtype=torch.bool)
        hidden = torch.cat([torch.zeros(1, len(z), WIDTH), stacked["hidden"]])
        zeros, index = torch.zeros(steps, len(z)), torch.arange(len(z))
        return Segment(
            stacked["obs"], stacked["action"], zeros, none, none, none, ~none, stacked["value"],
            stacked["logits"], zeros, hidden, index, index,
            {"done_prob": stacked["done"], "reward_prob": stacked["coin"]},
        )  # fmt: skip


def points_of(count: int, seed: int = 0) -> ForkPoints:
    """Fork points 2 to 5 steps before the pit, each on its own level; `repeat` is the distance."""
    level = np.arange(count) + 1000 * seed
    distance = np.random.default_rng(seed).integers(2, 6, count)
    zeros = np.zeros(count, np.int64)
    return ForkPoints(
        list(zip(level.tolist(), distance.tolist())),
        frames_of(level, distance)[None],
        torch.zeros(count, WIDTH),
        level,
        distance,
        zeros,
        zeros,
        level.astype(str),
    )
