"""A made-up simulated store in which the environment follows the agent two steps later, and episodes are of a
few behaviours.
"""

import numpy as np

from rollouts.store import Rollouts, create_store, write_shard

WIDTH = 6
ENV = 40
ZED = 16
SIZE = 8
ACTIONS = 5
NOOP = 4
KINDS = 4
LAG = 2
DEAD = 7  # a feature of the environment's state that never changes
MANIFEST = {
    "num_actions": ACTIONS,
    "action_names": ["up", "down", "left", "right", "none"],
    "noop": NOOP,
    "hidden_size": WIDTH,
    "obs_shape": [SIZE, SIZE, 3],
    "env": {"env_name": "toy"},
    "simulated": True,
    "extra_step_fields": {
        "env_state": {"dtype": "float16", "shape": [ENV]},
        "done_prob": {"dtype": "float32", "shape": []},
    },
    "extra_episode_fields": {"latent": {"dtype": "float32", "shape": [ZED]}}
    | {name: {"dtype": "int64", "shape": []} for name in ("source_episode", "source_step")},
}


def kinds(episodes: int) -> np.ndarray:
    """The behaviour of each episode [E]."""
    return np.arange(episodes) % KINDS


def make_loop_store(
    path,
    episodes: int = 120,
    shards: int = 2,
    seed: int = 0,
    policy_id: str = "abc",
    env_state: bool = True,
    **changed,
) -> Rollouts:
    """Half the episodes run to the horizon of 16 steps. Unit 0 of the agent is white noise, which feature 0
    of the environment repeats LAG steps later; behaviours lie apart in the other units and features, and
    drift apart over their first steps. Source episodes hold two samples each.
    """
    rng = np.random.default_rng(seed)
    fields = {
        name: field
        for name, field in MANIFEST["extra_step_fields"].items()
        if env_state or name != "env_state"
    }
    create_store(path, MANIFEST | {"extra_step_fields": fields} | changed)
    mixing = np.random.default_rng(1).normal(size=(WIDTH, ENV))
    centres = 2 * np.random.default_rng(2).normal(size=(KINDS, WIDTH))
    slopes = np.random.default_rng(3).normal(size=(KINDS, WIDTH))
    for shard, chosen in enumerate(np.array_split(np.arange(episodes), shards)):
        length = np.where(rng.random(len(chosen)) < 0.5, 16, rng.integers(11, 16, len(chosen)))
        last = np.cumsum(length) - 1
        n = int(length.sum())
        t = np.arange(n) - np.repeat(np.cumsum(length) - length, length)
        kind = np.repeat(kinds(episodes)[chosen], length)
        after = (
            0.15 * rng.normal(size=(n, WIDTH))
            + centres[kind]
            + 0.15 * np.minimum(t, 8)[:, None] * slopes[kind]
        )
        after[:, 0] = 0.3 * rng.normal(size=n)
        env = 0.3 * rng.normal(size=(n, ENV)) + after @ (mixing * (np.arange(WIDTH) > 0)[:, None])
        env[:, 0] = np.where(
            t >= LAG, np.roll(after[:, 0], LAG), 0.3 * rng.normal(size=n)
        ) + 0.06 * rng.normal(size=n)
        env[:, DEAD] = 0.5
        before = np.roll(after, 1, 0)
        before[t == 0] = 0
        terminated = np.zeros(n, bool)
        terminated[last] = length < 16
        steps = {
            "obs": rng.integers(0, 256, (n, SIZE, SIZE, 3), dtype=np.uint8),
            "action": rng.integers(0, ACTIONS, n, dtype=np.uint8),
            "reward": np.where(terminated, 10, rng.random(n)).astype(np.float32),
            "terminated": terminated,
            "truncated": np.zeros(n, bool),
            "value": after[:, 1].astype(np.float32),
            "logits": rng.normal(size=(n, ACTIONS)).astype(np.float32),
            "log_prob": np.zeros(n, np.float32),
            "hidden": before.astype(np.float32),
            "env_state": env.astype(np.float16),
            "done_prob": terminated.astype(np.float32),
        }
        if not env_state:
            steps.pop("env_state")
        count = len(chosen)
        write_shard(
            path,
            shard,
            steps,
            {
                "id": chosen,
                "level_seed": np.full(count, -1),
                "repeat": np.zeros(count, int),
                "length": length,
                "complete": terminated[last],
                "behaviour": np.full(count, "agent"),
                "policy_id": np.full(count, policy_id),
                "final_hidden": after[last].astype(np.float32),
                "latent": rng.normal(size=(count, ZED)).astype(np.float32),
                "source_episode": chosen // 2,
                "source_step": np.full(count, 2),
            },
        )
    return Rollouts.open(path)
