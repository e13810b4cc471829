"""Readers of concepts side by side: every number with the baselines that it has to beat, on the same layouts
and the same draws of them.
"""

import numpy as np

from agents.actor_critic import ActorCritic
from analysis.probing.dataset import ProbeDataset, nuisances
from common.stats import json_estimate, percentile_interval
from interpret.probing.decoding import CHANCE, control, decoded, draws_of, over_best
from interpret.probing.recurrence import rerun_core, untrained_core
from interpret.probing.ridge import Read, held_out_read

BASELINES = ("majority", "encoder", "frame network", "untrained recurrence", "nuisances")
BLOCK = 8
"""Steps that stay together when a control task is tested on other steps of the layouts that it was fit on."""


class Bench:
    """Reads every target of a study from states, and compares readers on the same draws of layouts."""

    def __init__(self, study: ProbeDataset, seed: int):
        self.study = study
        self.seed = seed
        self.draws = draws_of(study.groups)
        self.control = control(study.targets.truth, study.groups, seed)
        self.blocks = study.time // BLOCK % (study.folds.max() + 1)

    def read(self, x: np.ndarray, rows: np.ndarray | slice = slice(None)) -> Read:
        """Linear probes of states x [m, D] at some rows of the study."""
        return held_out_read(x, self.study.targets.truth[rows], self.study.folds[rows])

    def score(self, values: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """AUROC or R^2 of what was read [m, K], by draw [1 + R, K]."""
        return decoded(
            self.study.targets.truth[rows],
            self.study.targets.classes,
            values,
            self.study.groups[rows],
            self.draws,
        )

    def control_task_score(self, x: np.ndarray, rows: np.ndarray | slice = slice(None)) -> np.ndarray:
        """What probes of x read of the control task, on other steps of the same layouts; chance where that is
        more.
        """
        read = held_out_read(x, self.control[rows], self.blocks[rows]).values
        return np.maximum(
            decoded(
                self.control[rows], self.study.targets.classes, read, self.study.groups[rows], self.draws
            ),
            self.chance(),
        )

    def chance(self) -> np.ndarray:
        """The majority's numbers, [1 + R, K]."""
        numbers = [CHANCE[bool(one)] for one in self.study.targets.classes]
        return np.broadcast_to(numbers, (len(self.draws), len(numbers)))


def simple_readers(
    bench: Bench, agent: ActorCritic, encoder: np.ndarray, x: np.ndarray, frames: np.ndarray
) -> dict[str, np.ndarray]:
    """What each baseline but the majority reads, {name: [n, K]}. encoder [n, F]; x [n]: the player's place;
    frames [n, K]: of the network on frames.
    """
    study = bench.study
    untrained = rerun_core(untrained_core(agent, bench.seed), encoder, study.first_step, study.length)
    found = {"encoder": encoder, "untrained recurrence": untrained, "nuisances": nuisances(study, x)}
    return {"frame network": frames} | {name: bench.read(states).values for name, states in found.items()}


def compare(
    bench: Bench,
    name: str,
    x: np.ndarray,
    simple: dict[str, np.ndarray],
    rows: np.ndarray | slice = slice(None),
) -> dict[str, np.ndarray]:
    """A reader's arrays by draw: `value`, `gain` over the best baseline (itself left out), `selectivity` over
    the control task, and each baseline's number; and its probes: `weights` [K, D], `offset` and `penalty`
    [K]. x [m, D]: its states at some rows of the study.
    """
    read = bench.read(x, rows)
    value = bench.score(read.values, rows)
    others = {"majority": bench.chance()} | {
        one: bench.score(values[rows], rows) for one, values in simple.items() if one != name
    }
    gain, best = over_best(value, np.stack(list(others.values())))
    named = np.array([BASELINES.index(one) for one in others])[best]
    arrays = {
        "value": value,
        "gain": gain,
        "selectivity": value - bench.control_task_score(x, rows),
        "best": named,
    }
    arrays |= read.probes._asdict()
    arrays |= {f"baseline/{one}": draws for one, draws in others.items()}
    known = np.isfinite(bench.study.targets.truth[rows])
    groups = bench.study.groups[rows]
    return arrays | {
        "n": known.sum(0),
        "layouts": np.array([len(np.unique(groups[column])) for column in known.T]),
    }


def marks(arrays: dict[str, np.ndarray], classes: np.ndarray) -> dict[str, np.ndarray]:
    """decodable [K]: surely above the majority and above the control task; beyond [K]: above every baseline
    too.
    """
    low = {name: percentile_interval(arrays[name])[0] for name in ("value", "gain", "selectivity")}
    decodable = (low["value"] > np.where(classes, CHANCE[True], CHANCE[False])) & (low["selectivity"] > 0)
    return {"decodable": decodable, "beyond": decodable & (low["gain"] > 0)}


def summary(bench: Bench, arrays: dict[str, np.ndarray]) -> dict[str, dict]:
    """What a reader reads of each concept, with intervals over layouts, as JSON: {concept: {...}}."""
    targets = bench.study.targets
    found = marks(arrays, bench.study.targets.classes)
    entries = {}
    for k, name in enumerate(targets.names):
        n = arrays["n"][k]
        known = [one for one in BASELINES if f"baseline/{one}" in arrays]
        entry = {"measure": "AUROC" if targets.classes[k] else "R2", "layouts": int(arrays["layouts"][k])}
        entry |= {one: json_estimate(arrays[one][:, k], n) for one in ("value", "gain", "selectivity")}
        entry["best_baseline"] = BASELINES[arrays["best"][k]]
        entry["baselines"] = {one: json_estimate(arrays[f"baseline/{one}"][:, k], n) for one in known}
        entries[name] = entry | {mark: bool(values[k]) for mark, values in found.items()}
    return entries
