"""Policy fields of CoinRun levels: the agent at many places of a level, as it is, with the coin moved, and
under an edit of its hidden state; and how much they differ.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np

from analysis.interventions.experiment import real_states
from analysis.model_eval.agent_view import total_variation
from analysis.rendering.arrows import arrow_direction
from common.errors import UsageError
from common.policy import Policy
from common.progress import progress_bar
from common.stats import estimates, level_weights, mean
from envs.layouts import layout_hash
from envs.procgen_body import State, parse
from envs.vecenv import class_probabilities
from envs.whole_level import coin_moved, level_extent, placed, player_places
from interpret.interventions.manifold import RealStates
from interpret.policy_field import PolicyField, policy_field
from rollouts.store import Rollouts

ORIGINAL, MOVED, EDITED = "original", "coin moved", "direction edited"
MEASURES = ("total_variation", "right", "up", "value")
"""Of a difference: between the policies, and of the expected move to the right and upwards and the value."""
GROUND, ALL = "on the ground", "all places"


class Level(NamedTuple):
    """A level, and its state with the coin moved."""

    seed: int
    state: State
    moved: State


def choose_levels(env, first: int, count: int, least_width: int, column: int | None) -> list[Level]:
    """The first `count` levels from `first` on, of different layouts and at least `least_width` tiles wide.

    column: of the moved coin; None as `coin_moved` says.
    """
    chosen, layouts = [], set()
    for seed in range(first, first + 40 * count):
        env.open_level(0, seed)
        state = parse(env.snapshot([0])[0].data)
        extent, layout = level_extent(state, 0), layout_hash(state)
        if extent.right - extent.left - 2 >= least_width and layout not in layouts:
            layouts.add(layout)
            chosen.append(Level(seed, state, coin_moved(state, column)))
            if len(chosen) == count:
                return chosen
    raise UsageError(
        f"{len(chosen)} of {40 * count} levels from {first} on are {least_width} tiles wide or more: lower "
        "--least_width or --num_levels"
    )


def frames_at(env, state: State, x: Sequence[float], y: Sequence[float]) -> np.ndarray:
    """Frames [P, H, W, C] with the player at each place."""
    parts = []
    for at in range(0, len(x), env.num):
        snapshots = [placed(state, *place) for place in zip(x[at : at + env.num], y[at : at + env.num])]
        env.restore(snapshots, range(len(snapshots)))
        parts.append(env.observe()[1][: len(snapshots)].copy())
    return np.concatenate(parts)


def level_fields(
    env, policies: Mapping[str, Policy], level: Level, headroom: int, repeats: Sequence[int]
) -> dict[str, np.ndarray]:
    """Places of a level and the fields there, `<variant>/<repeats>/<probabilities or value>`.

    Args:
        env: CoinRun, which loses its episodes.
        policies: ORIGINAL, and EDITED where there is an edit.
        level: the level.
        headroom: see `player_places`.
        repeats: see `policy_field`.
    """
    places = player_places(level.state, headroom)
    frames = {name: frames_at(env, state, places.x, places.y) for name, state in
              ((ORIGINAL, level.state), (MOVED, level.moved))}  # fmt: skip
    arrays = places._asdict()
    for name in (ORIGINAL, MOVED, *(one for one in policies if one != ORIGINAL)):
        policy, shown = policies.get(name, policies[ORIGINAL]), frames.get(name, frames[ORIGINAL])
        for count in repeats:
            field = policy_field(policy, shown, count, env.effect_classes, env.num)
            arrays |= {f"{name}/{count}/{key}": value for key, value in field._asdict().items()}
    return arrays


def field_of(arrays: Mapping[str, np.ndarray], variant: str, repeats: int) -> PolicyField:
    """One field of `level_fields`."""
    return PolicyField(*(arrays[f"{variant}/{repeats}/{name}"] for name in PolicyField._fields))


def class_moves(env) -> np.ndarray:
    """Move [J, 2] to the right and upwards of each effect class, by the name of its action; (0, 0) for a name
    without a direction.
    """
    names = [env.action_names[one] for one in np.unique(env.effect_classes)]
    moves = np.array([arrow_direction(name) or (0, 0) for name in names], np.float64)
    return moves * [1, -1]


def differences(field: PolicyField, base: PolicyField, moves: np.ndarray) -> np.ndarray:
    """MEASURES [4, P] of a field less another one."""
    tv = total_variation(field.probabilities, base.probabilities)
    move = (field.expected_move(moves) - base.expected_move(moves)).T
    return np.stack([tv, *move, field.value - base.value])


def summarize_changes(
    levels: Sequence[Mapping[str, np.ndarray]], pairs: Mapping[str, tuple], moves: np.ndarray
) -> dict:
    """Mean MEASURES of named differences over the places of each level, then over levels, whose resamples
    give the intervals.

    pairs: {name: ((variant, repeats), (variant, repeats))}, of which the second is taken from the first.
    """
    weights = level_weights(np.arange(len(levels)))
    found = {}
    for name, (one, other) in pairs.items():
        by_level = [differences(field_of(level, *one), field_of(level, *other), moves) for level in levels]
        found[name] = {}
        for part in (ALL, GROUND):
            kept = [level["supported"] if part == GROUND else slice(None) for level in levels]
            means = np.array([change[:, rows].mean(1) for change, rows in zip(by_level, kept)])
            found[name][part] = dict(zip(MEASURES, estimates(mean(weights, means))))
    return found


def shares_beyond(
    levels: Sequence[Mapping[str, np.ndarray]], fields: Mapping[str, tuple], rollouts: Rollouts, seed: int
) -> dict:
    """Of named fields (variant, repeats), the share of states beyond the 99th percentile of recorded ones, by
    the larger of the two distances of `RealStates`; by level, then over levels.
    """
    real = RealStates(real_states(rollouts, seed), seed)
    weights = level_weights(np.arange(len(levels)))
    found = {}
    for name, chosen in fields.items():
        shares = []
        for level in levels:
            distances = real.distances(field_of(level, *chosen).hidden.astype(np.float64))
            shares.append(max((x > real.limits[key]).mean() for key, x in distances.items()))
        found[name] = estimates(mean(weights, np.array(shares)))
    return found


def recorded_check(
    rollouts: Rollouts, policy: Policy, repeats: Sequence[int], effect_classes, count: int, seed: int
) -> dict:
    """Total variation between the recorded policy, which remembers its episode, and the policy after the same
    frame alone, at one random step of each of `count` episodes; and between recorded policies of two of them.
    """
    rng = np.random.default_rng([seed, 6])
    frames, logits, level = [], [], []
    chosen = rng.permutation(len(rollouts))[:count]
    for episode in progress_bar(chosen, desc="recorded steps", unit="episode"):
        columns = rollouts.episode(int(episode))
        step = rng.integers(len(columns["action"]))
        frames.append(columns["obs"][step])
        logits.append(columns["logits"][step])
        level.append(rollouts.episodes["level_seed"][episode])
    recorded = class_probabilities(np.array(logits, np.float64), effect_classes)
    weights = level_weights(np.array(level))
    alone = {
        str(one): policy_field(policy, np.stack(frames), one, effect_classes, 256).probabilities
        for one in repeats
    }
    compared = alone | {"another step": np.roll(recorded, 1, axis=0)}
    return {
        "steps": len(frames),
        "total_variation": {
            name: estimates(mean(weights, total_variation(recorded, other)))
            for name, other in compared.items()
        },
    }
