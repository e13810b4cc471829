"""What the hypotheses of a family share in both worlds: fork points, control arms, and null arms.

Null arms are played at the first `null_points` fork points only. They differ from the tested arms in nothing
but the direction, so a tested arm is compared with them at the same points; its own effect is estimated at
all of them. KL-matched and fitted ones decide and are shared; those of equal norm belong to one hypothesis,
are played in the game, and are reported only.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from analysis.interventions.experiment import (
    Experiment,
    play_control,
    play_nulls,
    play_outcomes,
    state_sample,
)
from analysis.interventions.recognition import Recognition
from analysis.io.artefacts import cached_part
from common.runs import Run
from interpret.directions.directions import Directions
from interpret.interventions.arms import JUDGED_BY, NORM_MATCHED, Arm
from interpret.interventions.edit import Edit
from interpret.interventions.hypothesis import Hypothesis
from interpret.interventions.nulls import StateSample
from interpret.interventions.shared_nulls import logit_shifts, norm_null_arms, shared_null_arms

CHOICES = ("up", "left", "right")
"""Parts of the names of actions whose log odds the one-step predictor reads."""


@dataclass(frozen=True)
class Bank:
    """worlds: an experiment at all fork points for each world, the game first."""

    worlds: Mapping[str, Experiment]
    directions: Directions
    controls: Mapping[str, dict[str, np.ndarray]]
    sample: StateSample
    """States of the control arm in the game, on which strengths are matched."""
    nulls: Mapping[str, Mapping[str, dict[str, np.ndarray]]]
    """By world and family, as `play_nulls` gives them."""
    edits: Sequence[Edit]
    """The tested ones."""
    shifts: np.ndarray
    """[K, C] of all null arms in the order of JUDGED_BY: mean change of the log odds of CHOICES."""
    recognition: Recognition | None = None
    """Errors of the simulator's event classifier."""


def play_bank(
    run: Run,
    worlds: Mapping[str, Experiment],
    directions: Directions,
    edits: Sequence[Edit],
    shared: Hypothesis,
    watched: Experiment | None = None,
) -> Bank:
    """Plays control and null arms, or reads those that the run already has.

    watched: the control arm of the game as the simulator recognises its outcomes.
    """
    controls = {
        name: cached_part(run, f"{name}_control", lambda: play_control(one)) for name, one in worlds.items()
    }
    real = worlds["real"]
    sample = state_sample(controls["real"], shared.seed, real.agent.initial_state(1).device)
    arms = shared_null_arms(edits, directions, real.agent, sample, shared.num_nulls, shared.seed, shared.kl)
    nulls = {
        name: {family: _played(run, name, at_null_points(one, shared), arms, family) for family in JUDGED_BY}
        for name, one in worlds.items()
    }
    shifts = one_step_shifts(arms, real, sample)
    recognition = watched and recognition_of(run, watched, controls["real"])
    return Bank(worlds, directions, controls, sample, nulls, edits, shifts, recognition)


def recognition_of(run: Run, watched: Experiment, control: dict[str, np.ndarray]) -> Recognition:
    """Errors of the event classifier at all fork points. control: that of the game."""
    found = cached_part(run, "recognised", lambda: play_outcomes(watched))
    return Recognition(control["outcomes"], found["outcomes"], watched.points.layout)


def play_norm_nulls(run: Run, bank: Bank, name: str, edit: Edit, shared: Hypothesis) -> dict[str, dict]:
    """Null arms in the game that move the state as far as one tested edit, by family; see `play_nulls`.

    name: of the hypothesis.
    """
    arms = norm_null_arms(edit, bank.edits, bank.directions, bank.sample, shared.num_nulls, shared.seed)
    there = at_null_points(bank.worlds["real"], shared)
    return {family: _played(run, f"{name}_real", there, arms, family) for family in NORM_MATCHED}


def at_null_points(experiment: Experiment, shared: Hypothesis) -> Experiment:
    """The experiment at the fork points where null arms are played."""
    return replace(experiment, points=experiment.points.take(np.arange(shared.null_points)))


def one_step_shifts(arms: Sequence[Arm], experiment: Experiment, sample: StateSample) -> np.ndarray:
    """`logit_shifts` [K, C] of arms by family, for CHOICES."""
    words = [name.split("-") for name in experiment.action_names]
    choices = [np.array([word in name for name in words]) for word in CHOICES]
    ordered = [arm for family in JUDGED_BY for arm in arms if arm.family == family]
    return np.stack([logit_shifts(arm, experiment.agent, sample, choices) for arm in ordered])


def _played(run: Run, world: str, experiment: Experiment, arms: Sequence[Arm], family: str) -> dict:
    key = f"{world}_{family.replace('-', '_').replace(' ', '_')}"
    return cached_part(run, key, lambda: play_nulls(experiment, arms, family))
