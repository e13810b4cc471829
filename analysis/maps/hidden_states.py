"""The agent's hidden states in chosen episodes, with the quantities that colour their maps."""

from dataclasses import dataclass

import numpy as np

from common.runs import UsageError
from common.words import counted
from envs.vecenv import ActionSpace, class_probabilities
from rollouts.store import Rollouts

COLUMNS = ("logits", "value", "action", "reward", "terminated", "truncated")


@dataclass(frozen=True)
class HiddenStates:
    """Consecutive steps of whole episodes; the hidden state is the one after each observation.

    Args:
        x: hidden states [n, D].
        episode: index of the episode in its store [n].
        step: time within the episode [n].
        level: level seed [n]; -1 in a simulated store.
        columns: the store's COLUMNS, [n, ...] each.
    """

    x: np.ndarray
    episode: np.ndarray
    step: np.ndarray
    level: np.ndarray
    columns: dict[str, np.ndarray]

    def __len__(self) -> int:
        return len(self.x)


def sample_episodes(rollouts: Rollouts, most: int, seed: int = 0) -> np.ndarray:
    """Indices, ascending, of `most` random episodes; all of them if the store has fewer."""
    if most < 1:
        raise UsageError(f"--num_episodes is {most}: give 1 or more")
    return np.sort(np.random.default_rng([seed, 11]).permutation(len(rollouts))[:most])


def load_hidden_states(rollouts: Rollouts, episodes: np.ndarray) -> HiddenStates:
    """All steps of these episodes. Raises UsageError if a hidden state is not finite."""
    length = rollouts.episodes["length"][episodes]
    step = np.arange(length.sum()) - np.repeat(np.cumsum(length) - length, length)
    row = np.repeat(rollouts.first_step[episodes], length) + step
    episode = np.repeat(episodes, length)
    x = rollouts.hidden_after()[row]
    check_finite(x, episode, step, rollouts)
    columns = {name: rollouts.steps(name)[row] for name in COLUMNS}
    return HiddenStates(x, episode, step, rollouts.episodes["level_seed"][episode], columns)


def check_finite(x: np.ndarray, episode: np.ndarray, step: np.ndarray, rollouts: Rollouts) -> None:
    """Raises UsageError if a state of x [n, D] holds NaN or infinity; episode [n] and step [n] locate it."""
    bad = np.flatnonzero(~np.isfinite(x).all(1))
    if len(bad):
        raise UsageError(
            f"{counted(len(bad), 'hidden state')} of {rollouts.path} with NaN or infinity, the first in "
            f"episode {episode[bad[0]]}, step {step[bad[0]]}; check the store with: "
            f"python -m rollouts.inspect_store {rollouts.path} --check"
        )


def step_labels(states: HiddenStates, actions: ActionSpace) -> dict[str, np.ndarray]:
    """Quantities [n] that colour maps.

    Returns:
        entropy: of the policy over effect classes, in nats.
        likeliest, taken: most likely and taken action, as the representative of its effect class.
        length: number of steps of the episode.
        progress: 0 at the first step of the episode, 1 at the last.
        done: the episode ended with this step's action.
        rewarded: some step of the episode was rewarded.
        value, reward: of the step.
    """
    probabilities = class_probabilities(states.columns["logits"], actions.effect_classes)
    representatives = np.unique(actions.effect_classes)
    first = np.flatnonzero(states.step == 0)
    length = np.diff(np.append(first, len(states)))
    rewarded = np.maximum.reduceat(states.columns["reward"], first) > 0
    return {
        "entropy": -(probabilities * np.log(np.maximum(probabilities, 1e-12))).sum(1),
        "likeliest": representatives[probabilities.argmax(1)],
        "taken": np.asarray(actions.effect_classes)[states.columns["action"]],
        "length": np.repeat(length, length),
        "progress": states.step / np.maximum(np.repeat(length, length) - 1, 1),
        "done": states.columns["terminated"] | states.columns["truncated"],
        "value": states.columns["value"],
        "rewarded": np.repeat(rewarded, length),
        "reward": states.columns["reward"],
    }
