"""Frames of the real game staged for the detector: the player put near hazards that recorded play seldom
meets.

Enemies stand in one easy level of fourteen; windows of play hold too few of them to learn what they look
like. Here levels run for some steps, so that enemies walk, and each moment is drawn again with the player at
places around its rarest hazards.
"""

from collections.abc import Sequence

import numpy as np

from analysis.model_eval.frame_objects import Scenes, read_scene, stack_scenes
from envs.coinrun import ENEMY, LAVAS, first_states
from envs.procgen import Snapshot
from envs.procgen_body import State, parse, serialize

MAX_LEVELS = 64
LEVELS_SEARCHED = 800
ROUNDS = 8
STEPS_BETWEEN_ROUNDS = 6
"""At most so many levels are staged, out of so many searched, each at ROUNDS moments that lie REST steps
apart.
"""
PLACEMENT_RADIUS = 5.0
"""Tiles: how far from the hazard the player is put at most, in x and in y."""


def hazard_positions(state: State) -> np.ndarray:
    """[n, 2]: x and y of every enemy and of every cell of lava's surface."""
    enemies = state.entities[state.entities["type"] == ENEMY]
    rows, columns = np.nonzero(state.grid == LAVAS[1])
    return np.concatenate(
        [np.stack([enemies["x"], enemies["y"]], 1), np.stack([columns + 0.5, rows + 0.5], 1)]
    )


def hazard_frames(env, levels: Sequence[int], seed: int = 0) -> tuple[np.ndarray, Scenes] | None:
    """Frames [F, H, W, C] and scenes of those of `levels` that have enemies or lava; None where none has.
    env: CoinRun's, used up.
    """
    searched = np.unique(levels)[:LEVELS_SEARCHED].tolist()
    chosen = [
        level for level, state in zip(searched, first_states(env, searched)) if len(hazard_positions(state))
    ][:MAX_LEVELS]
    rng = np.random.default_rng(seed)
    frames = []
    scenes = []
    for at in range(0, len(chosen), env.num):
        together = chosen[at : at + env.num]
        env.open_levels(range(len(together)), together)
        for drawn, seen in _frames_near_hazards(env, len(together), rng):
            frames.append(drawn)
            scenes += seen
    return (np.concatenate(frames), stack_scenes(scenes)) if chosen else None


def _frames_near_hazards(env, used: int, rng: np.random.Generator):
    """ROUNDS pictures of the first `used` slots, each with the player put elsewhere; in between the levels go
    on as they were.
    """
    slots = range(used)
    for _ in range(ROUNDS):
        for _ in range(STEPS_BETWEEN_ROUNDS):
            env.act(np.full(env.num, env.noop))
        kept = env.snapshot(slots)
        env.restore([_move_player(parse(snapshot.data), rng) for snapshot in kept], slots)
        drawn = env.observe()[1][:used].copy()
        yield drawn, [read_scene(parse(snapshot.data)) for snapshot in env.snapshot(slots)]
        env.restore(kept, slots)


def _move_player(state: State, rng: np.random.Generator) -> Snapshot:
    """The moment with the player around one of its rare hazards, somewhere above its ground."""
    places = hazard_positions(state)
    if len(places):
        x, y = places[rng.integers(len(places))] + rng.uniform([-PLACEMENT_RADIUS, 0], PLACEMENT_RADIUS)
        state.player["x"], state.player["y"] = max(x, 1.5), y
    return Snapshot(serialize(state))
