"""Stores of made-up episodes whose hidden states mix independent sources, for the tests of maps; frames spell
out episode and step.
"""

import numpy as np

from rollouts.store import Rollouts, create_store, write_shard

WIDTH = 6
SOURCES = 3
SIZE = 8
ACTIONS = 5
MIXING = np.linalg.qr(np.random.default_rng(0).normal(size=(WIDTH - 1, SOURCES)))[0].T
NAMES = ["left", "right", "up", "down", "none"]
MANIFEST = {
    "num_actions": ACTIONS,
    "action_names": NAMES,
    "noop": 4,
    "hidden_size": WIDTH,
    "obs_shape": [SIZE, SIZE, 3],
}
BEGAN = {name: {"dtype": "int64", "shape": []} for name in ("source_episode", "source_step")}


def write_map_store(
    path,
    episodes: int = 80,
    seed: int = 0,
    shift: float = 0.0,
    source: Rollouts | None = None,
    policy: str = "agent",
) -> Rollouts:
    """Episodes of 8 to 14 steps on levels 100, 101, ...; the last feature never changes. shift: of every
    source.

    source: the store that simulated episodes began from: episode i at step 2 of its episode i.
    """
    rng = np.random.default_rng(seed)
    length = rng.integers(8, 15, episodes)
    n = int(length.sum())
    last = np.cumsum(length) - 1
    after = np.zeros((n, WIDTH), np.float32)
    sources = rng.choice([-1, 1], (n, SOURCES)) + 0.15 * rng.normal(size=(n, SOURCES))  # far from Gaussian
    after[:, :-1] = (sources + shift) @ MIXING + 0.05 * rng.normal(size=(n, WIDTH - 1))
    opens = np.append(0, last[:-1] + 1)
    hidden = np.concatenate([np.zeros((1, WIDTH), np.float32), after[:-1]])
    hidden[opens] = 0
    step = np.arange(n) - np.repeat(opens, length)
    obs = np.zeros((n, SIZE, SIZE, 3), np.uint8)
    obs[..., 0], obs[..., 1] = (
        (np.repeat(np.arange(episodes), length) * 3)[:, None, None],
        (step * 16)[:, None, None],
    )
    ended = np.isin(np.arange(n), last)
    won = ended & (np.repeat(np.arange(episodes), length) % 2 == 0)
    steps = {
        "obs": obs,
        "action": rng.integers(0, ACTIONS, n),
        "reward": won * 10.0,
        "terminated": ended if source is None else ended & False,
        "truncated": ended & False,
        "value": after[:, 0],
        "logits": rng.normal(size=(n, ACTIONS)).astype(np.float32),
        "log_prob": -rng.random(n, dtype=np.float32),
        "hidden": hidden,
    }
    table = {
        "id": np.arange(episodes),
        "level_seed": 100 + np.arange(episodes),
        "repeat": np.arange(episodes),
        "length": length,
        "complete": won[last],
        "behaviour": np.full(episodes, "agent"),
        "policy_id": np.full(episodes, policy),
        "final_hidden": after[last],
    }
    manifest = dict(MANIFEST)
    if source is not None:
        manifest |= {"simulated": True, "inputs": {"data_dir": source.id}, "extra_episode_fields": BEGAN}
        table |= {
            "level_seed": np.full(episodes, -1),
            "source_episode": np.arange(episodes) % len(source),
            "source_step": np.full(episodes, 2),
        }
    create_store(path, manifest)
    write_shard(path, 0, steps, table)
    return Rollouts.open(path)
