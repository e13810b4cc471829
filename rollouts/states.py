"""Recomputes the game's states at stored steps by replaying level seed and actions; every frame is checked.

A store keeps no environment states. With the recomputed ones, any stored step can be forked in the real game.
"""

from collections.abc import Sequence

import numpy as np

from common.progress import progress_bar
from common.runs import UsageError
from envs.make import make_env
from envs.procgen import Snapshot, described_game
from rollouts.replay import check_real, frames_and_actions, replay_mismatch
from rollouts.store import Rollouts

SLOTS = 64
"""Environments that replay side by side unless the caller gives some."""


def replay_states(
    rollouts: Rollouts, episodes: Sequence[int], steps: Sequence[int], env=None, progress: bool = False
) -> list[Snapshot]:
    """The state of the game at obs[steps[i]] of episode episodes[i], for each i.

    Each episode is replayed once, up to the last requested step.

    Args:
        rollouts: store of real episodes.
        episodes: episode indices [K], in any order and with repetitions.
        steps: step indices [K].
        env: VecEnv with `open_levels` and `snapshot`, made from the manifest's `env`; it loses its current
            episodes. Without one, up to SLOTS environments are created and closed.
        progress: whether to show a progress bar.

    Returns:
        K snapshots.

    Raises:
        UsageError: the store is simulated, or a frame differs from the stored one.
        ValueError: the store does not have such an episode or step.
    """
    episodes, steps = np.asarray(episodes, np.int64), np.asarray(steps, np.int64)
    _check(rollouts, episodes, steps)
    last = {int(episode): int(steps[episodes == episode].max()) for episode in np.unique(episodes)}
    order = sorted(last, key=last.get)  # episodes of about the same length share a batch
    own = env is None
    env = replay_env(rollouts, min(SLOTS, max(len(order), 1))) if own else env
    states: dict[tuple[int, int], Snapshot] = {}
    wanted = set(zip(episodes.tolist(), steps.tolist()))
    with progress_bar(total=len(order), unit="episode", desc="replay", disable=not progress) as bar:
        for begin in range(0, len(order), env.num):
            batch = order[begin : begin + env.num]
            states |= _replay_batch(rollouts, batch, [last[episode] for episode in batch], wanted, env)
            bar.update(len(batch))
    if own:
        env.close()
    return [states[pair] for pair in zip(episodes.tolist(), steps.tolist())]


def replay_env(rollouts: Rollouts, num: int, num_threads: int = 2):
    """Creates `num` environments of the store's game. Raises UsageError if the manifest does not name one."""
    if not rollouts.manifest.get("env"):
        raise UsageError(
            f"{rollouts.path} does not name its game; record a store with: python record.py --help"
        )
    game = described_game(rollouts.manifest["env"], rollouts.path / "manifest.json")
    return make_env(num, game, num_threads=num_threads)


def longest_episode(rollouts: Rollouts) -> int:
    """Time limit of the store's game, in steps."""
    env = replay_env(rollouts, 1)
    env.close()
    return env.timeout


def _check(rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray) -> None:
    check_real(rollouts)
    if episodes.shape != steps.shape or episodes.ndim != 1:
        raise ValueError(
            f"need as many steps as episodes, found {episodes.shape} episodes and {steps.shape} steps"
        )
    unknown = (episodes < 0) | (episodes >= len(rollouts))
    if unknown.any():
        raise ValueError(
            f"no episode {episodes[unknown][0]} in {rollouts.path}, which has episodes 0 to"
            f" {len(rollouts) - 1}"
        )
    length = rollouts.episodes["length"][episodes]
    beyond = np.flatnonzero((steps < 0) | (steps >= length))
    if len(beyond):
        i = beyond[0]
        raise ValueError(f"no step {steps[i]} in episode {episodes[i]}, which has steps 0 to {length[i] - 1}")


def _replay_batch(
    rollouts: Rollouts, batch: list[int], last: list[int], wanted: set, env
) -> dict[tuple[int, int], Snapshot]:
    """The wanted states {(episode, step): snapshot}; one slot per episode, surplus slots take the no-op."""
    stored = [frames_and_actions(rollouts, episode, 0, end + 1) for episode, end in zip(batch, last)]
    ends = np.array(last)
    states = {}
    env.open_levels(range(env.num), np.resize(rollouts.episodes["level_seed"][batch], env.num))
    for t in range(ends.max() + 1):
        running = np.flatnonzero(t <= ends)
        obs = env.observe()[1]
        action = np.full(env.num, env.noop)
        for slot in running:
            frames, actions = stored[slot]
            if not np.array_equal(obs[slot], frames[t]):
                raise replay_mismatch(rollouts, batch[slot], t)
            action[slot] = actions[t]
        slots = [slot for slot in running if (batch[slot], t) in wanted]
        states |= {(batch[slot], t): snapshot for slot, snapshot in zip(slots, env.snapshot(slots))}
        env.act(action)
    return states
