"""A world small enough to learn in seconds: a bright square on a 4 x 4 torus that the action moves; one cell
ends the episode.
"""

import numpy as np
import torch

from agents.actor_critic import ActorCritic, NetworkConfig
from generative.model.config import WorldModelConfig
from rollouts.store import Rollouts, create_store, write_shard

SIZE = 8
CELLS = 4
ACTIONS = 5
NOOP = 4
MOVES = np.array([[-1, 0], [1, 0], [0, -1], [0, 1], [0, 0]])
GOAL = np.array([0, 0])


def toy_config(**values) -> WorldModelConfig:
    world = dict(num_actions=ACTIONS, obs_shape=(SIZE, SIZE, 3), hidden_size=8, precision="fp32")
    sizes = dict(
        tile_pixels=SIZE / CELLS,
        latent_global=12,
        latent_tile=1,
        vector_size=32,
        code_size=6,
        pose_size=4,
        sprite_pixels=4,
        texels=4,
        canvas_tiles=12,
        classes=4,
        units=32,
        depth=16,
    )
    return WorldModelConfig(**(world | sizes | values))


def toy_agent(hidden_size: int = 8) -> ActorCritic:
    torch.manual_seed(7)
    agent = ActorCritic(
        NetworkConfig(ACTIONS, (SIZE, SIZE, 3), feature_size=16, hidden_size=hidden_size, precision="fp32")
    ).eval()
    torch.nn.init.normal_(agent.policy_head.weight)
    return agent


def draw_square(cell: np.ndarray) -> np.ndarray:
    """The frame [8, 8, 3] uint8 of a square at cell (row, column)."""
    frame = np.zeros((SIZE, SIZE, 3), np.uint8)
    row, column = cell * (SIZE // CELLS)
    frame[row : row + SIZE // CELLS, column : column + SIZE // CELLS] = 255
    return frame


def square_at(frames: torch.Tensor) -> np.ndarray:
    """The brightest cell of frames [..., 8, 8, 3], as one number: [...]."""
    cells = (
        frames.detach().float().mean(-1).unflatten(-1, (CELLS, -1)).unflatten(-3, (CELLS, -1)).mean((-3, -1))
    )
    return cells.flatten(-2).argmax(-1).numpy()


def toy_episode(rng: np.random.Generator, longest: int) -> dict[str, np.ndarray]:
    """Random play from a random cell to the goal or for `longest` steps; reward 10 and termination on
    reaching the goal.
    """
    cell = rng.integers(CELLS, size=2)
    steps = []
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
    """The episode with the agent's columns: hidden [T + 1, D], logits, value, log_prob."""
    with torch.no_grad():
        first = torch.zeros(len(episode["obs"]), 1, dtype=torch.bool)
        after = agent.unroll(torch.from_numpy(episode["obs"])[:, None], agent.initial_state(1), first)[:, 0]
        logits, value = agent.heads(after)
        log_prob = agent.log_prob(logits, torch.from_numpy(episode["action"]))
    hidden = torch.cat([agent.initial_state(1), after])
    return episode | {
        "hidden": hidden.numpy(),
        "logits": logits.numpy(),
        "value": value.numpy(),
        "log_prob": log_prob.numpy(),
    }


def write_toy_store(
    path, episodes: list[dict], agent: ActorCritic, per_level: int = 4, policy_id: str = "toy"
) -> Rollouts:
    """A store of the given episodes; every `per_level` of them share a level seed."""
    actions = {"num_actions": ACTIONS, "action_names": list("udlrn"), "noop": NOOP}
    create_store(
        path,
        actions
        | {"hidden_size": agent.config.hidden_size, "obs_shape": [SIZE, SIZE, 3], "env": {"env_name": "toy"}},
    )
    count = len(episodes)
    names = ("obs", "action", "reward", "terminated", "value", "logits", "log_prob")
    steps = {name: np.concatenate([e[name] for e in episodes]) for name in names}
    steps["truncated"] = np.zeros(len(steps["reward"]), bool)
    steps["hidden"] = np.concatenate([e["hidden"][:-1] for e in episodes])
    table = {
        "id": np.arange(count),
        "level_seed": np.arange(count) // per_level,
        "repeat": np.arange(count) % per_level,
        "length": np.array([len(e["reward"]) for e in episodes]),
        "complete": np.array([e["terminated"][-1] for e in episodes]),
        "behaviour": np.array(["random"] * count),
        "policy_id": np.array([policy_id] * count),
        "final_hidden": np.stack([e["hidden"][-1] for e in episodes]),
    }
    write_shard(path, 0, steps, table)
    return Rollouts.open(path)
