"""What a direction represents: which concepts its score decodes, and which objects it responds to."""

from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from common.progress import progress_bar
from common.stats import percentile_interval
from interpret.directions.directions import Directions
from interpret.probing.bench import ProbeBench, decodability
from interpret.probing.decoding import gain_over_best, group_resamples
from interpret.probing.responses import MEASURES, response_to, scene_pairs, score_changes
from rollouts.scene_bank import SceneBank

MIN_RESPONSE = {"ahead": 0.1, "tiles": 0.05, "rise": 0.05}
"""Least response, in standard deviations of the score (of a slope: per tile).

Without a minimum, paired scenes would make the faintest leak significant.
"""
MIN_SPREAD = 0.25
"""Least standard deviation in tiles of a distance or height for its slope to be estimated."""
_SCENES_PER_CALL = 512


class ScoreScale(NamedTuple):
    """Standardizes scores by their mean and standard deviation [K] over recorded states."""

    mean: np.ndarray
    std: np.ndarray

    def standardize(self, scores: np.ndarray) -> np.ndarray:
        return (scores - self.mean) / self.std


def direction_scores(directions: Directions, hidden: np.ndarray) -> np.ndarray:
    """Scores [..., K] of hidden states [..., S]."""
    return directions.scores(torch.from_numpy(hidden)).numpy()


def fit_score_scale(scores: np.ndarray) -> ScoreScale:
    """Mean and standard deviation of scores [n, K] of recorded states."""
    return ScoreScale(scores.mean(0), np.maximum(scores.std(0), 1e-9))


def scene_states(agent: ActorCritic, bank: SceneBank, previous: np.ndarray, device) -> np.ndarray:
    """States [n, 2, S] of the agent after each scene with its object and without.

    Args:
        agent: the agent.
        bank: n pairs of scenes.
        previous: [n, S], the state before the scene, the same for both.
        device: that the agent is on.
    """
    states = np.empty((len(bank), 2, previous.shape[1]), np.float32)
    with torch.inference_mode():
        for begin in range(0, len(bank), _SCENES_PER_CALL):
            frames = torch.from_numpy(bank.frames[begin : begin + _SCENES_PER_CALL]).to(device)
            state = torch.from_numpy(previous[begin : begin + _SCENES_PER_CALL]).to(device)
            no_resets = torch.zeros(len(state), dtype=torch.bool, device=device)
            for side in range(2):
                after = agent.advance(frames[:, side], state, no_resets, no_resets.float())
                states[begin : begin + _SCENES_PER_CALL, side] = after.cpu().numpy()
    return states


def visible_columns(bank: SceneBank) -> dict[str, np.ndarray]:
    """The bank's columns of the scenes in which some of the object is visible."""
    return {name: column[bank.columns["shown"]] for name, column in bank.columns.items()}


def responses(scores: np.ndarray, columns: dict[str, np.ndarray], kinds: list[str]) -> dict[str, np.ndarray]:
    """Responses of K scores to every concept that an object of the bank has.

    Args:
        scores: [n, 2, K], of scenes with their object visible and without it.
        columns: the bank's columns of these scenes, [n, ...].
        kinds: names of the objects.

    Returns:
        For every concept `<concept>/move` and `<concept>/lead` [1 + R, K], `<concept>/rival` [K], the number
        of scenes `<concept>/n`, and the least response `<concept>/smallest`.
    """
    scenes = scene_pairs(columns, kinds)
    resamples = group_resamples(scenes.groups)
    arrays = {}
    change = score_changes(scores)
    for kind in np.unique(scenes.kind):
        for measure, name in MEASURES.items():
            if measure == "ahead" or np.nanstd(getattr(scenes, measure)[scenes.kind == kind]) > MIN_SPREAD:
                parts = response_to(kind, change, scenes, measure, resamples)._asdict()
                parts |= {
                    "n": np.array((scenes.kind == kind).sum()),
                    "smallest": np.array(MIN_RESPONSE[measure]),
                }
                arrays |= {f"{name.format(kinds[kind])}/{part}": value for part, value in parts.items()}
    return arrays


def is_responsive(found: dict[str, np.ndarray], concept: str) -> np.ndarray | None:
    """Whether each score [K] responds to a concept, and more than to similar objects.

    Both by 95% intervals: the response exceeds MIN_RESPONSE, and that to any other object of the same size
    and distance. None if no object of the bank has the concept, or no other object is similar.
    """
    if f"{concept}/move" not in found or np.isnan(found[f"{concept}/lead"][0]).all():
        return None
    smallest = found[f"{concept}/smallest"]
    low, high = percentile_interval(found[f"{concept}/move"])
    return ((low > smallest) | (high < -smallest)) & (percentile_interval(found[f"{concept}/lead"])[0] > 0)


def decode_concepts(bench: ProbeBench, scores: np.ndarray, baselines: np.ndarray) -> dict[str, np.ndarray]:
    """How well each score alone decodes every concept on held-out layouts.

    Args:
        bench: C concepts of n steps.
        scores: [n, K].
        baselines: scores of N baselines on the same resamples, [N, 1 + R, C].

    Returns:
        `value` and `gain` [1 + R, K, C], `decodable` and `beyond` [K, C]; see `decodability`.
    """
    parts = {"value": [], "gain": [], "decodable": [], "beyond": []}
    for score in progress_bar(scores.T, desc="directions", unit="direction"):
        states = score[:, None]
        value = bench.score(bench.fit(states).predictions)
        reader = {
            "value": value,
            "gain": gain_over_best(value, baselines)[0],
            "selectivity": value - bench.control_task_score(states),
        }
        for name, part in (reader | decodability(reader, bench.targets.classes)).items():
            if name in parts:
                parts[name].append(part)
    return {name: np.stack(part, -2) for name, part in parts.items()}


def extreme_steps(scores: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Steps [3, count] with the highest scores, those nearest the median, and the lowest.

    Args:
        scores: [n].
        groups: [n], the layout; each step of a row is from another one.
        count: steps of each kind.
    """
    order = np.argsort(scores, kind="stable")
    middle = np.argsort(np.abs(scores - np.median(scores)), kind="stable")
    return np.stack([_first_of_each(ranked, groups, count) for ranked in (order[::-1], middle, order)])


def _first_of_each(ranked: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows of a ranking that are of different groups; repeats them if there are fewer."""
    first = np.sort(np.unique(groups[ranked], return_index=True)[1])
    return ranked[np.resize(first[:count], count)]
