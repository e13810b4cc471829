"""Stores of made-up episodes, with every field filled, for tests that need no environment."""

import numpy as np

from rollouts.store import Rollouts, create_store, write_shard

ACTIONS = 5
WIDTH = 3
SIZE = 8
NOOP = 4
MANIFEST = {
    "num_actions": ACTIONS,
    "action_names": list("abcde"),
    "noop": NOOP,
    "hidden_size": WIDTH,
    "obs_shape": [SIZE, SIZE, 3],
    "extra_step_fields": {
        "env_state": {"dtype": "float32", "shape": [2]},
        "done_prob": {"dtype": "float32", "shape": []},
    },
    "extra_episode_fields": {
        "latent": {"dtype": "float32", "shape": [4]},
        "source_step": {"dtype": "int64", "shape": []},
    },
}


def make_shard(
    lengths, seed: int = 0, first_id: int = 0, ends=("terminated", "truncated", "cut")
) -> tuple[dict, dict]:
    """Random steps and episodes of the given lengths, ending in turn as `ends` says. Hidden states count
    within an episode.
    """
    rng, lengths = np.random.default_rng(seed), np.asarray(lengths)
    n = int(lengths.sum())
    count = len(lengths)
    last = np.cumsum(lengths) - 1
    end = np.resize(ends, count)
    shapes = {"value": (), "logits": (ACTIONS,), "env_state": (2,), "done_prob": ()}
    steps = {name: rng.standard_normal((n, *shape)).astype(np.float32) for name, shape in shapes.items()}
    steps |= {
        "obs": rng.integers(1, 256, (n, SIZE, SIZE, 3), dtype=np.uint8),
        "action": rng.integers(0, ACTIONS, n, dtype=np.uint8),
    }
    steps |= {
        "reward": rng.integers(-3, 11, n).astype(np.float32),
        "log_prob": -rng.random(n, dtype=np.float32),
    }
    for name in ("terminated", "truncated"):
        steps[name] = np.zeros(n, bool)
        steps[name][last[end == name]] = True
    states = [
        np.concatenate([np.zeros((1, WIDTH)), rng.standard_normal((length, WIDTH))]).astype(np.float32)
        for length in lengths
    ]
    steps["hidden"] = np.concatenate([state[:-1] for state in states])
    episodes = {
        "id": first_id + np.arange(count),
        "level_seed": rng.integers(0, 2**31 - 1, count),
        "repeat": np.arange(count),
        "length": lengths,
        "complete": end == "terminated",
        "final_hidden": np.stack([state[-1] for state in states]),
        "behaviour": np.array(["agent", "greedy"] * count)[:count],
        "policy_id": np.full(count, "abc"),
        "latent": rng.standard_normal((count, 4)).astype(np.float32),
        "source_step": rng.integers(0, 99, count),
    }
    return steps, episodes


def make_store(path, *shard_lengths) -> Rollouts:
    """A store with one shard for each list of episode lengths."""
    create_store(path, MANIFEST)
    for index, lengths in enumerate(shard_lengths):
        write_shard(path, index, *make_shard(lengths, seed=index, first_id=1000 * index))
    return Rollouts.open(path)
