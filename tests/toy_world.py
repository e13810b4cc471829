"""A world small enough to learn in seconds: a bright square on a 4 x 4 torus that the action moves; one cell ends the episode."""

import numpy as np
import torch

from agents.actor_critic import ActorCritic, NetworkConfig
from generative.config import WorldModelConfig
from rollouts.segment import Segment

SIZE, CELLS, ACTIONS, NOOP = 16, 4, 5, 4
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
GOAL = np.array([0, 0])


def toy_config(**values) -> WorldModelConfig:
    shape = dict(num_actions=ACTIONS, obs_shape=(SIZE, SIZE, 3), hidden_size=8, latent_size=16, deter_size=64, blocks=4, groups=8, classes=4)
    return WorldModelConfig(**(shape | dict(units=64, embed_size=64, depth=8, precision="fp32") | values))


def toy_agent(hidden_size: int = 8) -> ActorCritic:
    torch.manual_seed(7)
    agent = ActorCritic(NetworkConfig(ACTIONS, (SIZE, SIZE, 3), feature_size=16, hidden_size=hidden_size, precision="fp32")).eval()
    torch.nn.init.normal_(agent.policy_head.weight)
    return agent


def draw_square(cell: np.ndarray) -> np.ndarray:
    """The frame [16, 16, 3] uint8 of a square at cell (row, column), on a grey ground."""
    frame = np.full((SIZE, SIZE, 3), 40, np.uint8)
    row, column = cell * (SIZE // CELLS)
    frame[row : row + SIZE // CELLS, column : column + SIZE // CELLS] = 230
    return frame


def square_at(frames: torch.Tensor) -> np.ndarray:
    """The brightest cell of frames [..., 16, 16, 3], as one number: [...]."""
    cells = frames.detach().float().mean(-1).unflatten(-1, (CELLS, -1)).unflatten(-3, (CELLS, -1)).mean((-3, -1))
    return cells.flatten(-2).argmax(-1).numpy()


def toy_episode(rng: np.random.Generator, longest: int) -> dict[str, np.ndarray]:
    """Random play from a random cell to the goal or for `longest` steps; reward 10 and termination on reaching the goal."""
    cell, steps = rng.integers(CELLS, size=2), []
    while np.array_equal(cell, GOAL):
        cell = rng.integers(CELLS, size=2)
    for _ in range(longest):
        action = rng.integers(ACTIONS)
        after = (cell + MOVES[action]) % CELLS
        won = np.array_equal(after, GOAL)
        steps.append((draw_square(cell), action, 10.0 * won, won))
        cell = after
        if won:
            break
    obs, action, reward, terminated = (np.array(x) for x in zip(*steps))
    return {"obs": obs, "action": action, "reward": reward.astype(np.float32), "terminated": terminated}


def with_agent(episode: dict[str, np.ndarray], agent: ActorCritic) -> dict[str, np.ndarray]:
    """The episode with what the agent made of it: hidden [T + 1, D], logits, value, log_prob."""
    with torch.no_grad():
        first = torch.zeros(len(episode["obs"]), 1, dtype=torch.bool)
        after = agent.unroll(torch.from_numpy(episode["obs"])[:, None], agent.initial_state(1), first)[:, 0]
        logits, value = agent.heads(after)
        log_prob = agent.log_prob(logits, torch.from_numpy(episode["action"]))
    hidden = torch.cat([agent.initial_state(1), after])
    return episode | {"hidden": hidden.numpy(), "logits": logits.numpy(), "value": value.numpy(), "log_prob": log_prob.numpy()}


def cut(episodes: list[dict], index: np.ndarray, start: np.ndarray, length: int) -> Segment:
    """Windows [length, B] of episodes, padded on the right."""

    def padded(name, fill=0):
        parts = [episodes[e][name][s : s + length] for e, s in zip(index, start)]
        return torch.stack([torch.from_numpy(np.concatenate([p, np.full((length - len(p), *p.shape[1:]), fill, p.dtype)])) for p in parts], 1)

    hidden = torch.zeros(length + 1, len(index), episodes[0]["hidden"].shape[1])
    for b, (e, s) in enumerate(zip(index, start)):
        part = torch.from_numpy(episodes[e]["hidden"][s : s + length + 1])
        hidden[: len(part), b] = part
    lengths = np.array([len(episodes[e]["obs"]) for e in index])
    t = np.arange(length)[:, None]
    action = padded("action", NOOP)
    return Segment(
        padded("obs"), action, padded("reward"), padded("terminated"), torch.zeros(action.shape, dtype=torch.bool), torch.from_numpy(t + start == 0),
        torch.from_numpy(t + start < lengths), padded("value"), padded("logits"), padded("log_prob"), hidden, torch.from_numpy(index), torch.from_numpy(start),
    )  # fmt: skip


class ToyWindows:
    """The part of `Rollouts.windows` that training uses, over episodes in memory."""

    def __init__(self, episodes: list[dict], length: int, min_steps: int):
        self.episodes, self.length = episodes, length
        pairs = [(e, s) for e, episode in enumerate(episodes) for s in range(len(episode["obs"]) - min_steps + 1)]
        self.table = {name: np.array(column, np.int64) for name, column in zip(("episode", "start"), zip(*pairs))}

    def __len__(self):
        return len(self.table["episode"])

    def batch(self, indices) -> Segment:
        return cut(self.episodes, self.table["episode"][indices], self.table["start"][indices], self.length)
