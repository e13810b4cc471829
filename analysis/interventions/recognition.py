"""How well the simulator recognises deaths and coins at the fork points of a family, and its effects without
these errors.
"""

import numpy as np

from common.stats import estimate, json_number, level_weights, mean
from interpret.forks.paired_outcomes import OUTCOMES
from interpret.interventions.event_errors import confusion_table, correct

CORRECTED = ("death", "coin")


class Recognition:
    """Errors of the simulator that is shown the real frames of the control arm.

    Args:
        control: outcomes [5, M] of the control arm in the game.
        recognised: outcomes [5, M] of these runs as the simulator recognises them.
        layouts: [M] of the fork points, over which intervals are taken.
    """

    def __init__(self, control: np.ndarray, recognised: np.ndarray, layouts: np.ndarray):
        self.actual, self.recognised = (one[: len(OUTCOMES)] for one in (control, recognised))
        self.weights = level_weights(layouts)
        self.table = confusion_table(self.actual, self.recognised, self.weights)

    def summary(self) -> dict:
        """For each outcome in the game: the forks with it, and the probability of each as recognised."""
        return {
            name: {"forks": float(self.actual[i].sum())}
            | {other: _json(self.table[:, i, j]) for j, other in enumerate(OUTCOMES)}
            for i, name in enumerate(OUTCOMES)
        }

    def corrected(self, outcomes: np.ndarray) -> dict[str, list[float | None]]:
        """Means of outcomes [5, M], or of changes of them, in the simulator, corrected: with intervals by
        layout that hold the uncertainty of the errors too.
        """
        shares = np.stack([mean(self.weights, one) for one in outcomes[: len(OUTCOMES)]], 1)
        found = correct(shares, self.table)
        return {name: _json(found[:, OUTCOMES.index(name)]) for name in CORRECTED}


def _json(statistic: np.ndarray) -> list[float | None]:
    return [json_number(one) for one in estimate(statistic)]
