"""Finds actions with equal effects by trying all of them from forks of the same states."""

from collections.abc import Sequence

import numpy as np

from envs.procgen import ProcgenConfig, ProcgenVecEnv, Snapshot
from envs.procgen_body import parse, serialize

REST = 4  # steps after the action: doing nothing, then shared random actions
STIR = 4


def fork_points(
    config: ProcgenConfig, count: int, seed: int = 0, slots: int = 16, every: int = 7
) -> list[Snapshot]:
    """`count` states along random play in which actions are held for several steps."""
    env = ProcgenVecEnv(slots, config, seed, num_threads=0)
    rng = np.random.default_rng(seed)
    points = []
    action = rng.integers(0, env.num_actions, slots)
    while len(points) < count:
        points += env.snapshot()
        for _ in range(every):
            action = np.where(rng.random(slots) < 0.3, rng.integers(0, env.num_actions, slots), action)
            env.act(action)
    env.close()
    return points[:count]


def differ(env: ProcgenVecEnv, points: Sequence[Snapshot], seed: int = 0) -> np.ndarray:
    """Whether two actions ever led to different frames, rewards, ends or states: bool [A, A].

    Each fork takes its action, then no-ops, then all forks of a state take the same random actions, so that
    delayed effects show. env is scratch space and needs a multiple of A slots.
    """
    actions = env.num_actions
    rng = np.random.default_rng(seed)
    different = np.zeros((actions, actions), bool)
    group = env.num // actions
    for at in range(0, len(points), group):
        chunk = points[at : at + group]
        stirs = rng.integers(0, actions, (STIR, len(chunk)))
        traces = _traces(env, chunk, stirs).reshape(len(chunk), actions)
        different |= (traces[:, :, None] != traces[:, None, :]).any(0)
    return different


def effect_classes(different: np.ndarray, names: Sequence[str], noop: int) -> tuple[int, ...]:
    """Representative of each action among those that never differed from it [A, A]: the no-op, else the name
    of fewest words ("left", not "down-left"), else the lowest index.
    """

    def plainness(action: int) -> tuple:
        return action != noop, names[action].count("-"), action

    return tuple(min(np.flatnonzero(~row).tolist(), key=plainness) for row in different)


def _traces(env: ProcgenVecEnv, points: Sequence[Snapshot], stirs: np.ndarray) -> np.ndarray:
    """One hash per (state, action) of everything that the fork showed, and its states without the record of
    the action.
    """
    actions = env.num_actions
    used = len(points) * env.num_actions
    slots = range(used)
    env.restore([point for point in points for _ in range(actions)], slots)
    plan = [
        np.tile(np.arange(actions), len(points)),
        *[np.full(used, env.noop)] * REST,
        *(np.repeat(stir, actions) for stir in stirs),
    ]
    seen = [[] for _ in slots]
    action = np.full(env.num, env.noop)
    for t, step in enumerate(plan):
        action[:used] = step
        env.act(action)
        reward, obs, first = env.observe()
        for slot in slots:
            seen[slot].append((obs[slot].tobytes(), float(reward[slot]), bool(first[slot])))
        if t == 0:
            for slot, snapshot in zip(slots, env.snapshot(slots)):
                seen[slot].append(without_buttons(snapshot.data))
    return np.array([hash(tuple(one)) for one in seen])


def without_buttons(data: bytes) -> bytes:
    """State bytes with the fields blanked that record the last action."""
    state = parse(data)
    state.header["action"] = 0
    for name in (
        "move_action",
        "special_action",
        "last_move_action",
        "action_vx",
        "action_vy",
        "action_vrot",
    ):
        state.scene[name] = 0
    return serialize(state)
