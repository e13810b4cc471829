"""The agent's hidden states of chosen episodes, with what it did there: what its maps are drawn from, real or simulated."""

from dataclasses import dataclass

import numpy as np

from analysis.agent_view import class_probabilities
from common.runs import UsageError
from common.words import counted
from envs.vecenv import ActionSpace
from rollouts.store import Rollouts

COLUMNS = ("logits", "value", "action", "reward", "terminated", "truncated")


@dataclass(frozen=True)
class States:
    """n steps of E episodes, one after the other. The hidden state is the one after each observation."""

    x: np.ndarray
    """[n, D]."""
    episode: np.ndarray
    """[n]: the episode's number in its store."""
    step: np.ndarray
    """[n]: time within the episode."""
    level: np.ndarray
    """[n]: level seed, -1 in a simulated store."""
    columns: dict[str, np.ndarray]
    """COLUMNS of the store, [n, ...]."""

    def __len__(self) -> int:
        return len(self.x)


def choose_episodes(rollouts: Rollouts, most: int, seed: int = 0) -> np.ndarray:
    """Numbers, ascending, of `most` episodes at random; all where there are no more. Raises UsageError for none."""
    if most < 1:
        raise UsageError(f"--num_episodes is {most}: give 1 or more")
    return np.sort(np.random.default_rng([seed, 11]).permutation(len(rollouts))[:most])


def gather(rollouts: Rollouts, episodes: np.ndarray) -> States:
    """The steps of these episodes. Raises UsageError where hidden states are not numbers."""
    length = rollouts.episodes["length"][episodes]
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    row = np.repeat(rollouts.first_step[episodes], length) + step
    episode = np.repeat(episodes, length)
    x = rollouts.hidden_after()[row]
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        where = f"the first in episode {episode[bad[0]]}, step {step[bad[0]]}"
        way_out = f"check it with: python -m rollouts.inspect_store {rollouts.path} --check"
        raise UsageError(f"{counted(len(bad), 'hidden state')} of {rollouts.path} with NaN or infinity, {where}; {way_out}")
    columns = {name: rollouts.steps(name)[row] for name in COLUMNS}
    return States(x, episode, step, rollouts.episodes["level_seed"][episode], columns)


def labels_of(states: States, actions: ActionSpace) -> dict[str, np.ndarray]:
    """What every step is coloured by apart from clusters and factors: [n] each.

    entropy: of the agent's choice among acts, in nats, probabilities summed over actions with the same effect; likeliest and taken: acts, by the
    number of their representative; length: of the episode; progress: 0 at its first step, 1 at its last; done: it ended with this step's
    action; rewarded: some step of it was; and value and reward of the step.
    """
    chances = class_probabilities(states.columns["logits"], actions.effect_classes)
    acts = np.unique(actions.effect_classes)
    first = np.flatnonzero(states.step == 0)
    length = np.diff(np.append(first, len(states)))
    rewarded = np.maximum.reduceat(states.columns["reward"], first) > 0
    return {
        "entropy": -(chances * np.log(np.maximum(chances, 1e-12))).sum(1),
        "likeliest": acts[chances.argmax(1)],
        "taken": np.asarray(actions.effect_classes)[states.columns["action"]],
        "length": np.repeat(length, length),
        "progress": states.step / np.maximum(np.repeat(length, length) - 1, 1),
        "done": states.columns["terminated"] | states.columns["truncated"],
        "value": states.columns["value"],
        "rewarded": np.repeat(rewarded, length),
        "reward": states.columns["reward"],
    }
