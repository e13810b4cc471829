"""Tests the hypotheses of a family: plays their arms in both worlds, and gives numbers and verdicts."""

from collections.abc import Mapping

import numpy as np

from analysis.interventions.bank import CHOICES, Bank, at_null_points, play_norm_nulls
from analysis.interventions.experiment import play_tested
from analysis.io.artefacts import cached_part
from common.runs import Run
from common.stats import (
    Estimate,
    estimate,
    estimates,
    json_number,
    level_counts,
    level_weights,
    mean,
    sign_flip_test,
)
from interpret.interventions.arms import JUDGED_BY, strength_arms
from interpret.interventions.effects import (
    EVENTS,
    effect_summary,
    holm,
    null_test,
)
from interpret.interventions.hypothesis import TESTED_EVENTS, Hypothesis, judge
from interpret.interventions.interventions import bind
from interpret.interventions.manifold import RealStates, manifold_checks
from interpret.interventions.nulls import norm_measure
from interpret.interventions.prediction import agreement, one_step_agreement
from interpret.interventions.shared_nulls import dosed

STEP = "confirm"
VERSION = 3
COMMAND = "python confirm.py HYPOTHESES"
DOSES = (0.25, 0.5, 1.5, 2.0)
"""Strengths besides 1, at the fork points of the nulls only."""
FLIPS = 5000


def confirm_family(run: Run, bank: Bank, family: Mapping[str, Hypothesis], real: RealStates) -> list[dict]:
    """Numbers and verdicts of every hypothesis, by file name, in the order of the family."""
    found = [confirm_one(run, bank, name, one, real) for name, one in family.items()]
    for world in bank.worlds:
        here = [one["worlds"][world] for one in found]
        adjusted = holm([1.0 if one["p"] is None else one["p"] for one in here])
        for hypothesis, numbers, p in zip(family.values(), here, adjusted):
            own = None if numbers["p"] is None else float(p)
            effect = Estimate(*numbers["effects"][hypothesis.event])
            numbers["p_holm"] = own
            numbers["verdict"] = judge(hypothesis, effect, own, numbers["layouts"])
    return found


def confirm_one(run: Run, bank: Bank, name: str, hypothesis: Hypothesis, real: RealStates) -> dict:
    """What one edit does in every world."""
    agent = bank.worlds["real"].agent
    edit = dosed(hypothesis.edit, bank.directions, agent, bank.sample, hypothesis.kl)
    tested = bind([edit], {"tested": bank.directions})
    worlds = {}
    for world, experiment in bank.worlds.items():
        full = cached_part(
            run, f"{name}_{world}", lambda: play_tested(experiment, strength_arms(tested, (1.0,)))
        )
        doses = cached_part(
            run,
            f"{name}_{world}_doses",
            lambda: play_tested(at_null_points(experiment, hypothesis), strength_arms(tested, DOSES)),
        )
        own = play_norm_nulls(run, bank, name, edit, hypothesis) if world == "real" else {}
        worlds[world] = summarize(bank, world, hypothesis, full, doses, own, real)
        if world == "simulator" and bank.recognition:
            change = full["outcomes"][0] - bank.controls[world]["outcomes"]
            worlds[world]["corrected"] = bank.recognition.corrected(change)
    norm = norm_measure(bank.sample)(edit, bank.directions)
    return {"file": name, "strength": edit.strength, "norm": norm, "worlds": worlds}


def summarize(
    bank: Bank, world: str, hypothesis: Hypothesis, full: dict, doses: dict, own: dict, real: RealStates
) -> dict:
    """Numbers of one hypothesis in one world, without the verdict.

    full: the tested arm at all fork points; doses: other strengths at the fork points of the nulls; own: null
    arms of this hypothesis by family, which are reported and decide nothing.
    """
    control = bank.controls[world]
    layouts = bank.worlds[world].points.layout
    shared = slice(0, hypothesis.null_points)
    k = EVENTS.index(hypothesis.event)
    base, arm = control["outcomes"], full["outcomes"][0]
    parts = {**bank.nulls[world], **own}
    nulls = {family: null_effects(part, base[:, shared])[:, k] for family, part in parts.items()}
    there = estimate_of(arm[k, shared] - base[k, shared], layouts[shared])
    tests = {family: null_test(there.value, effects) for family, effects in nulls.items() if len(effects)}
    flips = float(sign_flip_test((arm[k] - base[k])[None], layouts, FLIPS)[0])
    strengths = {1.0: there} | {
        float(strength): estimate_of(one[k] - base[k, shared], layouts[shared])
        for strength, one in zip(doses["strength"], doses["outcomes"])
    }
    return {
        "layouts": len(np.unique(layouts)),
        "effects": {
            name: list(one) for name, one in effect_summary(arm, base, level_weights(layouts)).items()
        },
        "at_null_points": list(there),
        "p_flips": flips,
        "nulls": {family: one._asdict() for family, one in tests.items()},
        "p": max(flips, tests["KL-matched"].p) if "KL-matched" in tests else None,
        "doses": [[strength, *strengths[strength]] for strength in sorted(strengths)],
        "manifold": _manifold(real, control, full),
    }


def estimate_of(change: np.ndarray, layouts: np.ndarray) -> Estimate:
    """Mean of changes [M] with its interval by layout."""
    return estimate(mean(level_weights(layouts), change))


def null_effects(part: dict, base: np.ndarray) -> np.ndarray:
    """Effects [K, 5] of the null arms that were matched; base [5, P]."""
    return (part["outcomes"][part["matched"]] - base).mean(-1)


def _manifold(real: RealStates, control: dict, full: dict) -> dict:
    arm, base = (x[1:].reshape(len(x) - 1, -1, x.shape[-1]) for x in (full["hidden"][0], control["hidden"]))
    running = (full["running"][0] & control["running"]).reshape(len(arm), -1)
    checks = manifold_checks(real, arm, base, running)
    return {name: checks[name] for name in ("share_beyond", "reconverged", "descriptive_only")}


def summarize_bank(bank: Bank, shared: Hypothesis) -> dict:
    """Rates without an edit and effects of the null edits, by world, with the share that was matched."""
    found = {}
    for world, control in bank.controls.items():
        weights = level_weights(bank.worlds[world].points.layout)
        base = control["outcomes"]
        rates = estimates(np.stack([mean(weights, one) for one in base], 1))
        families = {
            family: {
                "effects": dict(zip(EVENTS, null_effects(part, base[:, : shared.null_points]).T.tolist())),
                "matched": float(part["matched"].mean()) if len(part["matched"]) else 0.0,
            }
            for family, part in bank.nulls[world].items()
        }
        found[world] = {"control": dict(zip(EVENTS, rates)), "nulls": families}
        if world == "simulator" and bank.recognition:
            found[world]["recognised"] = bank.recognition.summary()
            found[world]["corrected"] = bank.recognition.corrected(base)
    return found


def predict_effects(bank: Bank, shared: Hypothesis) -> dict:
    """How far the simulator, and the shift of the log odds in one step, predict the effects of the null edits
    in the game: numbers for each event, and the effects themselves.
    """
    matched = np.concatenate([bank.nulls["real"][family]["matched"] for family in JUDGED_BY])
    points = slice(0, shared.null_points)
    real, simulated = (_changes(bank, world, points)[matched] for world in ("real", "simulator"))
    layouts = bank.worlds["real"].points.layout[points]
    weights = level_weights(layouts)
    rows = level_counts(len(real), len(weights) - 1, seed=1)
    shifts = bank.shifts[matched]
    found = {"directions": len(real), "fork_points": len(layouts), "events": {}}
    for name in TESTED_EVENTS:
        k = EVENTS.index(name)
        x, y = real[:, k], simulated[:, k]
        both = {key: _json(one) for key, one in agreement(x, y, weights, rows).items()}
        found["events"][name] = both | {
            "one_step": best_one_step(x, shifts, weights, rows),
            "real": _with_errors(x, weights),
            "simulated": _with_errors(y, weights),
        }
    return found


def best_one_step(real: np.ndarray, shifts: np.ndarray, weights: np.ndarray, rows: np.ndarray) -> dict:
    """The log odds whose shift correlates most with the real effects, in absolute terms: a choice in favour
    of this predictor.
    """
    each = [one_step_agreement(real, one, weights, rows) for one in shifts.T]
    best = int(np.argmax(np.nan_to_num([abs(one["r"][0]) for one in each])))
    numbers = {name: _json(values) for name, values in each[best].items()}
    return {"choice": CHOICES[best], "shift": shifts[:, best].tolist()} | numbers


def _json(statistic: np.ndarray) -> list[float | None]:
    """`estimate` of [1 + R], with None for what is undefined."""
    return [json_number(one) for one in estimate(statistic)]


def _changes(bank: Bank, world: str, points: slice) -> np.ndarray:
    """Changes [K, 5, P] under all null arms."""
    played = [bank.nulls[world][family]["outcomes"] for family in JUDGED_BY]
    return np.concatenate(played) - bank.controls[world]["outcomes"][:, points]


def _with_errors(effects: np.ndarray, weights: np.ndarray) -> dict:
    """Mean [K] of effects [K, P] and the standard error of each, by layout."""
    resampled = weights @ effects.T / weights.sum(1, keepdims=True)
    return {"effect": resampled[0].tolist(), "error": resampled[1:].std(0).tolist()}
