"""Frames of the real game with the player near enemies and lava, to train the object detector on.

Only one easy level in fourteen has enemies; recorded play holds too few to learn what they look like. Here
levels run for some steps, so that enemies move, and each state is rendered again with the player placed near
its rarest hazards.
"""

from collections.abc import Sequence

import numpy as np

from analysis.model_eval.frame_objects import Scenes, read_scene, stack_scenes
from envs.coinrun import ENEMY, LAVAS
from envs.layouts import first_states
from envs.procgen import Snapshot
from envs.procgen_body import State, parse, serialize

MAX_LEVELS = 64
"""Levels that frames are taken from, at most."""
LEVELS_SEARCHED = 800
"""Levels that are searched for hazards, at most."""
ROUNDS = 8
"""Frames of each level."""
STEPS_BETWEEN_ROUNDS = 6
PLACEMENT_RADIUS = 5.0
"""Tiles: largest distance between hazard and player, in x and in y."""


def hazard_positions(state: State) -> np.ndarray:
    """[n, 2]: x and y of every enemy and of every surface cell of lava."""
    enemies = state.entities[state.entities["type"] == ENEMY]
    rows, columns = np.nonzero(state.grid == LAVAS[1])
    return np.concatenate(
        [np.stack([enemies["x"], enemies["y"]], 1), np.stack([columns + 0.5, rows + 0.5], 1)]
    )


def hazard_frames(env, levels: Sequence[int], seed: int = 0) -> tuple[np.ndarray, Scenes] | None:
    """Frames with the player near hazards, and what is in them; None if no level has enemies or lava.

    Args:
        env: CoinRun; its slots are overwritten.
        levels: level seeds to search.
        seed: of the player's positions.

    Returns:
        Frames [F, H, W, C] and their scenes.
    """
    rng = np.random.default_rng(seed)
    chosen = _levels_with_hazards(env, levels)
    frames = []
    scenes = []
    for begin in range(0, len(chosen), env.num):
        batch = chosen[begin : begin + env.num]
        env.open_levels(range(len(batch)), batch)
        for batch_frames, batch_scenes in _frames_near_hazards(env, len(batch), rng):
            frames.append(batch_frames)
            scenes += batch_scenes
    return (np.concatenate(frames), stack_scenes(scenes)) if chosen else None


def _levels_with_hazards(env, levels: Sequence[int]) -> list[int]:
    searched = np.unique(levels)[:LEVELS_SEARCHED].tolist()
    states = first_states(env, searched)
    return [level for level, state in zip(searched, states) if len(hazard_positions(state))][:MAX_LEVELS]


def _frames_near_hazards(env, num_slots: int, rng: np.random.Generator):
    """Yields frames and scenes of the first slots with the player moved, ROUNDS times.

    In between, the levels continue from where they were.
    """
    slots = range(num_slots)
    for _ in range(ROUNDS):
        for _ in range(STEPS_BETWEEN_ROUNDS):
            env.act(np.full(env.num, env.noop))
        kept = env.snapshot(slots)
        env.restore([_move_player(parse(snapshot.data), rng) for snapshot in kept], slots)
        frames = env.observe()[1][:num_slots].copy()
        yield frames, [read_scene(parse(snapshot.data)) for snapshot in env.snapshot(slots)]
        env.restore(kept, slots)


def _move_player(state: State, rng: np.random.Generator) -> Snapshot:
    """The state with the player near a random hazard, at its height or above."""
    positions = hazard_positions(state)
    if len(positions):
        x, y = positions[rng.integers(len(positions))] + rng.uniform([-PLACEMENT_RADIUS, 0], PLACEMENT_RADIUS)
        state.player["x"], state.player["y"] = max(x, 1.5), y
    return Snapshot(serialize(state))
