"""The environment's states at stored moments: levels and stored actions are played again, frames are checked, states are taken.

A store keeps no environment states: level seed and actions give them back, and so a saved moment can be forked in the real game.
"""

from collections.abc import Sequence

import numpy as np

from common.progress import progress_bar
from common.runs import UsageError
from envs.make import make_env
from envs.procgen import Snapshot, described_game
from rollouts.store import Rollouts

SLOTS = 64


def replay_states(rollouts: Rollouts, episodes: Sequence[int], steps: Sequence[int], env=None, progress: bool = False) -> list[Snapshot]:
    """For each i, the environment's state in which obs[steps[i]] of episode episodes[i] is on show.

    Pairs may come in any order and more than once; each episode is played once, up to the last step asked of it, and every frame on
    the way is compared with the stored one. env: a VecEnv with open_levels and snapshot, made from the manifest's `env`; its slots are
    used up. Without one, SLOTS environments are made and closed. Raises UsageError for a simulated store and for an episode whose
    frames do not come back, ValueError for pairs that the store does not have.
    """
    episodes, steps = np.asarray(episodes, np.int64), np.asarray(steps, np.int64)
    _check(rollouts, episodes, steps)
    last = {int(episode): int(steps[episodes == episode].max()) for episode in np.unique(episodes)}
    order = sorted(last, key=lambda episode: last[episode])  # episodes that are left at about the same time share a batch
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


def replay_env(rollouts: Rollouts, num: int):
    """`num` environments of the game that the store was recorded in. Raises UsageError where it does not say which."""
    if not rollouts.manifest.get("env"):
        raise UsageError(f"{rollouts.path} does not say which game it was recorded in; record one with: python record.py --help")
    return make_env(num, described_game(rollouts.manifest["env"], rollouts.path / "manifest.json"))


def longest_episode(rollouts: Rollouts) -> int:
    """The most steps that an episode of the store's game takes."""
    env = replay_env(rollouts, 1)
    env.close()
    return env.timeout


def _check(rollouts: Rollouts, episodes: np.ndarray, steps: np.ndarray) -> None:
    if rollouts.simulated:
        raise UsageError(f"{rollouts.path} holds simulated episodes, which have no states in the game; give a store that record.py made")
    if episodes.shape != steps.shape or episodes.ndim != 1:
        raise ValueError(f"need as many steps as episodes, found {episodes.shape} episodes and {steps.shape} steps")
    unknown = (episodes < 0) | (episodes >= len(rollouts))
    if unknown.any():
        raise ValueError(f"episode {episodes[unknown][0]} asked; {rollouts.path} has episodes 0 to {len(rollouts) - 1}")
    length = rollouts.episodes["length"][episodes]
    beyond = np.flatnonzero((steps < 0) | (steps >= length))
    if len(beyond):
        i = beyond[0]
        raise ValueError(f"step {steps[i]} of episode {episodes[i]} asked; it has steps 0 to {length[i] - 1}")


def _replay_batch(rollouts: Rollouts, batch: list[int], last: list[int], wanted: set, env) -> dict[tuple[int, int], Snapshot]:
    """The wanted states of one slot's episode each; the surplus slots idle."""
    stored = [_stored(rollouts, episode, end) for episode, end in zip(batch, last)]
    ends, states = np.array(last), {}
    env.open_levels(range(env.num), np.resize(rollouts.episodes["level_seed"][batch], env.num))
    for t in range(ends.max() + 1):
        here, obs, action = np.flatnonzero(t <= ends), env.observe()[1], np.full(env.num, env.noop)
        for slot in here:
            frames, actions = stored[slot]
            if not np.array_equal(obs[slot], frames[t]):
                raise UsageError(_differs(rollouts, batch[slot], t))
            action[slot] = actions[t]
        slots = [slot for slot in here if (batch[slot], t) in wanted]
        states |= {(batch[slot], t): snapshot for slot, snapshot in zip(slots, env.snapshot(slots))}
        env.act(action)
    return states


def _stored(rollouts: Rollouts, episode: int, last: int) -> tuple[np.ndarray, np.ndarray]:
    """Frames and actions of an episode's steps 0 .. last."""
    rows = rollouts.episodes["offset"][episode] + np.arange(last + 1)
    shard = rollouts.shard(rollouts.episodes["shard"][episode])
    return shard.rows("obs", rows), shard.rows("action", rows)


def _differs(rollouts: Rollouts, episode: int, t: int) -> str:
    level = rollouts.episodes["level_seed"][episode]
    return (
        f"episode {episode} of {rollouts.path} (level {level}) does not replay: its frame at step {t} is not the game's; "
        f"find out more with: python -m rollouts.inspect_store {rollouts.path} --check --replay -1"
    )
