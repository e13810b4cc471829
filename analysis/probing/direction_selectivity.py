"""What a direction is about: which concepts its score decodes, and which objects it responds to. No picture
is drawn here, and no file read.
"""

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

SMALLEST = {"ahead": 0.1, "tiles": 0.05, "rise": 0.05}
"""Standard deviations of a score (per tile, of a slope) that a response has at least: with paired scenes the
faintest leak is sure to be above zero.
"""
SPREAD = 0.25
"""Tiles: a slope on distance or height is taken where these differ by so much, in standard deviations."""
_AT_ONCE = 512


class Unit(NamedTuple):
    """Mean and standard deviation [K] of scores over recorded states: figures show scores in these."""

    mean: np.ndarray
    std: np.ndarray

    def of(self, scores: np.ndarray) -> np.ndarray:
        return (scores - self.mean) / self.std


def scores_of(directions: Directions, hidden: np.ndarray) -> np.ndarray:
    """Scores [..., K] of hidden states [..., S]."""
    return directions.scores(torch.from_numpy(hidden)).numpy()


def unit_of(scores: np.ndarray) -> Unit:
    """The unit of scores [n, K] of recorded states."""
    return Unit(scores.mean(0), np.maximum(scores.std(0), 1e-9))


def scene_states(agent: ActorCritic, bank: SceneBank, previous: np.ndarray, device) -> np.ndarray:
    """States [n, 2, S] of the agent that sees each scene, with the object and without, with the same memory
    previous [n, S].
    """
    found = np.empty((len(bank), 2, previous.shape[1]), np.float32)
    with torch.inference_mode():
        for begin in range(0, len(bank), _AT_ONCE):
            frames = torch.from_numpy(bank.frames[begin : begin + _AT_ONCE]).to(device)
            state = torch.from_numpy(previous[begin : begin + _AT_ONCE]).to(device)
            nothing = torch.zeros(len(state), dtype=torch.bool, device=device)
            for side in range(2):
                found[begin : begin + _AT_ONCE, side] = (
                    agent.advance(frames[:, side], state, nothing, nothing.float()).cpu().numpy()
                )
    return found


def columns_of(bank: SceneBank) -> dict[str, np.ndarray]:
    """The bank's columns of the scenes that show some of their object."""
    return {name: column[bank.columns["shown"]] for name, column in bank.columns.items()}


def responses(scores: np.ndarray, columns: dict[str, np.ndarray], kinds: list[str]) -> dict[str, np.ndarray]:
    """Arrays `<concept>/move`, `<concept>/lead` [1 + R, K] and `<concept>/rival` [K], the number of scenes
    `<concept>/n`, and `<concept>/smallest`, the least that counts, for every concept that an object of the
    bank has.

    scores [n, 2, K], columns [n, ...]: of scenes that show their object.
    """
    scenes = scene_pairs(columns, kinds)
    resamples = group_resamples(scenes.groups)
    found = {}
    change = score_changes(scores)
    for kind in np.unique(scenes.kind):
        for measure, name in MEASURES.items():
            if measure == "ahead" or np.nanstd(getattr(scenes, measure)[scenes.kind == kind]) > SPREAD:
                parts = response_to(kind, change, scenes, measure, resamples)._asdict()
                parts |= {"n": np.array((scenes.kind == kind).sum()), "smallest": np.array(SMALLEST[measure])}
                found |= {f"{name.format(kinds[kind])}/{part}": value for part, value in parts.items()}
    return found


def responding(found: dict[str, np.ndarray], concept: str) -> np.ndarray | None:
    """[K]: whether each score surely moves with the concept, by SMALLEST at least, and surely more than with
    any other object of that size and distance. None where no object of the bank has the concept, or none is
    like it.
    """
    if f"{concept}/move" not in found or np.isnan(found[f"{concept}/lead"][0]).all():
        return None
    smallest = found[f"{concept}/smallest"]
    low, high = percentile_interval(found[f"{concept}/move"])
    return ((low > smallest) | (high < -smallest)) & (percentile_interval(found[f"{concept}/lead"])[0] > 0)


def decodes(bench: ProbeBench, scores: np.ndarray, baselines: np.ndarray) -> dict[str, np.ndarray]:
    """What each score alone says of every concept on other layouts: `value` and `gain` [1 + R, K, C],
    `decodable` and `beyond` [K, C].

    scores [n, K]; baselines [N, 1 + R, C]: of the same study and draws.
    """
    parts = {"value": [], "gain": [], "decodable": [], "beyond": []}
    for score in progress_bar(scores.T, desc="directions", unit="direction"):
        states = score[:, None]
        value = bench.score(bench.fit(states).predictions)
        found = {
            "value": value,
            "gain": gain_over_best(value, baselines)[0],
            "selectivity": value - bench.control_task_score(states),
        }
        for name, part in (found | decodability(found, bench.targets.classes)).items():
            if name in parts:
                parts[name].append(part)
    return {name: np.stack(part, -2) for name, part in parts.items()}


def extremes(scores: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """Steps [3, count] at which a score [n] is highest, nearest its median, and lowest, each from another
    layout groups [n].
    """
    order = np.argsort(scores, kind="stable")
    middle = np.argsort(np.abs(scores - np.median(scores)), kind="stable")
    return np.stack([_first_of_each(ranked, groups, count) for ranked in (order[::-1], middle, order)])


def _first_of_each(ranked: np.ndarray, groups: np.ndarray, count: int) -> np.ndarray:
    """The first `count` rows of a ranking that are of different groups, or again from its beginning where
    there are no more.
    """
    first = np.sort(np.unique(groups[ranked], return_index=True)[1])
    return ranked[np.resize(first[:count], count)]
