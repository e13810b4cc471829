"""The toy world with concepts that are known by construction, and made scenes in it: a store, its agent, and
all that probes ask for, in a second.
"""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import save_agent
from analysis.probing.store_concepts import GROUP, run_summary
from common.checkpoints import save_checkpoint, write_json
from common.runs import file_id
from envs.procgen import Snapshot
from generative.model.world_model_file import save_world_model
from rollouts.scene_bank import SceneBank
from rollouts.store import Rollouts
from tests.helpers.toy_simulator import toy_model
from tests.helpers.toy_world import (
    CELLS,
    MOVES,
    NOOP,
    draw_square,
    toy_agent,
    toy_episode,
    with_agent,
    write_toy_store,
)

EPISODES = 160
STEPS = 24
WIDTH = 8
KINDS = ["saw", "coin"]


class World(NamedTuple):
    """root: the out_dir that holds the concepts."""

    root: Path
    store: Rollouts
    agent_file: Path
    world_model_file: Path
    scenes: Path


def write_world(root: Path) -> World:
    rng = np.random.default_rng(0)
    agent = toy_agent()
    save_agent(root / "agent.safetensors", agent, {"env": {"env_name": "toy"}})
    agent_id = file_id(root / "agent.safetensors")
    episodes = [with_agent(toy_episode(rng, STEPS), agent) for _ in range(EPISODES)]
    store = write_toy_store(root / "store", episodes, agent, per_level=2, policy_id=agent_id)
    about = {"agent": {"id": agent_id}, "noop": NOOP, "env": {"env_name": "toy"}}
    save_world_model(root / "model.safetensors", toy_model(num_initializing_steps=2), about)
    write_concepts(root, store)
    write_scenes(root / "scenes", store)
    return World(root, store, root / "agent.safetensors", root / "model.safetensors", root / "scenes")


def write_concepts(root: Path, store: Rollouts) -> None:
    """Where the square is, what stands in its column, and two things that no frame shows: the last move, and
    how the episode will end.
    """
    cell = store.steps("obs")[:, ::2, ::2, 0].reshape(store.num_steps, -1).argmax(1)
    row, column = np.divmod(cell, CELLS)
    moved = np.roll(MOVES[store.steps("action")][:, 1], 1)
    moved[store.first_step] = 0
    saw = column >= 2
    end = np.repeat(np.where(store.episodes["complete"], 0, 1), store.episodes["length"])
    columns = {"x": column, "y": row, "vx": moved, "tiles_to_saw": np.where(saw, 4.0 - row, np.nan)}
    parts = {name: torch.from_numpy(values.astype(np.float32)) for name, values in columns.items()}
    parts |= {
        "saw_ahead": torch.from_numpy(saw),
        "coin_ahead": torch.from_numpy(row == 0),
        "end": torch.from_numpy(end.astype(np.uint8)),
    }
    save_checkpoint(root / GROUP / "made" / "shard_00000.safetensors", parts, {})
    write_json(root / GROUP / "made" / "done.json", run_summary(store))


def write_scenes(path: Path, store: Rollouts) -> None:
    """Half of the pairs move the square to the right half (a saw appears), half to the upper row (a coin)."""
    rng = np.random.default_rng(1)
    count = 120
    episode = np.sort(rng.integers(0, len(store), count))
    kind = np.arange(count) % 2
    distance = rng.integers(0, 3, count)
    right, left = rng.integers(0, 2, (2, count)) + [[2], [0]]
    seen = np.where((kind == 0)[:, None], np.stack([1 + distance, right], 1), np.stack([0 * kind, left], 1))
    without = np.stack([1 + distance, rng.integers(0, 2, count)], 1)
    frames = np.stack([[draw_square(there), draw_square(twin)] for there, twin in zip(seen, without)])
    both = np.repeat(distance[:, None], 2, 1).astype(np.float32)
    columns = {
        "kind": kind,
        "distance": distance,
        "height": 0 * kind,
        "episode": episode,
        "step": 0 * episode,
    }
    columns |= {"shown": np.ones(count, bool)}
    columns |= {
        "level": store.episodes["level_seed"][episode],
        "layout": store.episodes["level_seed"][episode].astype("S"),
    }
    columns |= {"box": np.tile(np.float32([0, 1, 0, 1]), (count, 1))}
    columns |= dict.fromkeys(("tiles_to_saw", "tiles_to_coin", "saw_rise", "coin_rise"), both)
    state = Snapshot(b"none", "00" * 32)
    path.mkdir()
    SceneBank({"kinds": KINDS, "store": store.id}, columns, frames, [(state, state)] * count).save(path)
