"""Is what a direction responds to also what it is used for? Each direction and kind of object is a pair: how
much the object, put into a scene, moves the score; and what pushing the score that way does in such scenes.

Pushes have one size: they move the policy by --kl nats in one step. Effects are changes of the probability of
death and of the coin, and of the shares of jumps and of steps to the left, in forks of the real game, against
null directions that move the policy as far. Writes numbers to results/encoded_used_precomp and resumes an
unfinished run; draw them with analysis.encoded_used_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the store."""
    scenes_dir: Path
    """Scene bank made from this store (python -m analysis.scene_bank)."""
    direction_files: tuple[Path, ...]
    """Directions of its hidden state, one file."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    kl: float = 0.02
    """Size of a push in nats: mean KL(pushed policy || original) in one step."""
    num_scenes: int = 200
    """Scenes per kind of object, at most, each on its own layout as the bank has it."""
    steps: int = 24
    """Horizon of a fork."""
    num_nulls: int = 39
    """Null directions; 39 is the least number of which 95% are a whole number."""
    batch_size: int = 64
    """Forks that are played at a time."""
    num_threads: int = 2
    """Threads of the game; does not change results."""
    seed: int = 0
    """Seed of null directions and of the agent's noise."""
    out_dir: Path = Path("results")
    """Directory that receives encoded_used_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from analysis.interventions.experiment import real_states
from analysis.interventions.scene_effects import (
    OUTCOMES,
    SceneExperiment,
    null_pushes,
    play_pushes,
    pushed,
    scene_points,
)
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import check_least
from analysis.io.steps import finish_step, open_step, point_latest
from analysis.probing.direction_selectivity import (
    direction_scores,
    fit_score_scale,
    is_responsive,
    responses,
    scene_states,
    visible_columns,
)
from analysis.tuning_precompute import open_bank
from common.precision import choose_precision, set_precision
from common.runs import Run, UsageError, choose_device, file_id
from common.stats import estimates, level_weights, mean
from generative.compatibility import load_recorder
from interpret.directions.by_kind import load_one
from interpret.directions.directions import Directions
from interpret.forks.worlds import RealWorld
from interpret.interventions.effects import null_test
from interpret.interventions.manifold import MOST_BEYOND, RealStates
from interpret.interventions.nulls import StateSample
from rollouts.scene_bank import SceneBank
from rollouts.states import replay_env
from rollouts.store import Rollouts

STEP = "encoded_used"
VERSION = 1
COMMAND = "python -m analysis.encoded_used_precompute --agent_file AGENT --scenes_dir SCENES"
SETTINGS = ("kl", "num_scenes", "steps", "num_nulls", "seed")
MIN_NULLS = 39
LEAST_SCENES = 5
"""A kind of object with fewer scenes is left out."""


def measure_responses(
    agent, bank: SceneBank, rollouts: Rollouts, directions: Directions, real: np.ndarray, device
) -> dict[str, np.ndarray]:
    """Responses of all directions to every kind, in standard deviations of recorded scores; see
    `probing.direction_selectivity.responses`.
    """
    unit = fit_score_scale(direction_scores(directions, real))
    rows = rollouts.first_step[bank.columns["episode"]] + bank.columns["step"]
    states = scene_states(agent, bank, rollouts.steps("hidden")[rows], device)
    scores = unit.standardize(direction_scores(directions, states))
    return responses(scores[bank.columns["shown"]], visible_columns(bank), bank.about["kinds"])


def play_kind(
    args: Args, experiment: SceneExperiment, directions: Directions, signs: np.ndarray, real: RealStates
) -> dict[str, np.ndarray]:
    """All arms in the scenes of one kind: `control` [4, M], `tested` and `null` [K, 4, M], `beyond` [K]."""
    control = experiment.play(experiment.agent, states=True)
    device = experiment.agent.initial_state(1).device
    sample = StateSample(*(torch.from_numpy(control[name][:1024]).to(device) for name in ("before", "after")))
    tested = pushed(directions, signs, experiment.agent, sample, args.kl)
    nulls = null_pushes(directions, experiment.agent, sample, args.kl, args.num_nulls, args.seed)
    played = play_pushes(experiment, tested, real, "directions")
    return {
        "control": control["outcomes"],
        "tested": played["outcomes"],
        "beyond": played["beyond"],
        "null": play_pushes(experiment, nulls, None, "null directions")["outcomes"],
        "layout": np.unique(experiment.points.layout, return_inverse=True)[1],
    }


def rows_of(kind: str, moved: dict[str, np.ndarray], part: dict[str, np.ndarray], names) -> list[dict]:
    """A row for each direction: its response, with its sign taken away, and its effects."""
    concept = f"{kind}_ahead"
    move = moved[f"{concept}/move"]
    sign = np.where(move[0] < 0, -1.0, 1.0)
    responds = is_responsive(moved, concept)
    weights = level_weights(part["layout"])
    matched_nulls = part["null"][np.isfinite(part["null"]).all((1, 2))]
    null_means = (matched_nulls - part["control"]).mean(2)  # [n, 4]
    rows = []
    for k, name in enumerate(names):
        row = {
            "direction": name, "kind": kind, "sign": float(sign[k]),
            "response": estimates(sign[k] * move[:, k]),
            "encoded": None if responds is None else bool(responds[k]),
            "scenes": part["tested"].shape[2], "beyond": float(part["beyond"][k]), "effects": None,
        }  # fmt: skip
        if np.isfinite(part["tested"][k]).all() and len(matched_nulls):
            row["effects"] = {}
            for i, outcome in enumerate(OUTCOMES):
                effect = estimates(mean(weights, part["tested"][k, i] - part["control"][i]))
                test = null_test(effect[0], null_means[:, i])
                used = bool(effect[1] > 0 or effect[2] < 0) and test.holds(effect[0])
                row["effects"][outcome] = {"effect": effect, "null": list(test[:2]), "used": used}
        rows.append(row)
    return rows


def summarize_quadrants(rows: list[dict]) -> dict:
    """By outcome, pairs by whether they are encoded and used; those that are descriptive only apart."""
    found = {}
    for outcome in OUTCOMES:
        known = [row for row in rows if row["effects"] is not None and row["encoded"] is not None]
        counts = dict.fromkeys(("encoded and used", "encoded", "used", "neither", "unlike real states"), 0)
        for row in known:
            used = row["effects"][outcome]["used"]
            words = [word for word, holds in (("encoded", row["encoded"]), ("used", used)) if holds]
            off = row["beyond"] > MOST_BEYOND
            counts["unlike real states" if off else " and ".join(words) or "neither"] += 1
        found[outcome] = counts
    return found


def compute(args: Args, run: Run, rollouts: Rollouts, bank: SceneBank, agent, directions, device) -> dict:
    """The numbers; a part for each kind."""
    states = real_states(rollouts, args.seed)
    real = RealStates(states, args.seed)
    moved = cached_part(
        run, "responses", lambda: measure_responses(agent, bank, rollouts, directions, states, device)
    )
    env = replay_env(rollouts, args.batch_size, args.num_threads)
    names = rollouts.manifest["action_names"]
    rows, scenes = [], {}
    for number, kind in enumerate(bank.about["kinds"]):
        points = scene_points(bank, rollouts, number, args.num_scenes)
        if points is None or len(points) < LEAST_SCENES or f"{kind}_ahead/move" not in moved:
            continue
        experiment = SceneExperiment(
            lambda policy: RealWorld(env, policy, device), agent, points, names, args.steps, args.seed,
            args.batch_size,
        )  # fmt: skip
        signs = np.where(moved[f"{kind}_ahead/move"][0] < 0, -1.0, 1.0)
        logging.info("%s: %d scenes", kind, len(points))
        part = cached_part(run, f"kind_{kind}", lambda: play_kind(args, experiment, directions, signs, real))
        rows += rows_of(kind, moved, part, directions.names)
        scenes[kind] = {
            "scenes": len(points), "levels": [int(points.level.min()), int(points.level.max())],
            "control": dict(zip(OUTCOMES, part["control"].mean(1).tolist())),
        }  # fmt: skip
    env.close()
    if not rows:
        raise UsageError(f"{args.scenes_dir} has fewer than {LEAST_SCENES} scenes of every kind: make more")
    return {"scenes": scenes, "rows": rows, "quadrants": summarize_quadrants(rows)}


def main(args: Args) -> None:
    check_least(args, num_scenes=LEAST_SCENES, steps=1, num_nulls=MIN_NULLS, batch_size=1)
    if not args.kl > 0:
        raise UsageError(f"--kl is {args.kl}: give a number above 0")
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, _ = load_recorder(rollouts, args.agent_file, device)
    agent_id = file_id(args.agent_file)
    bank = open_bank(args.scenes_dir, rollouts.id)
    directions = load_one(args.direction_files, agent.core.state_size, agent_id)
    if directions is None:
        raise UsageError("--direction_files is empty: give one file")
    inputs = {"agent_file": agent_id, "data_dir": rollouts.id, "direction_files": directions.id}
    inputs["scenes"] = file_id(args.scenes_dir / "scenes.h5")
    settings = {name: getattr(args, name) for name in SETTINGS}
    precision = choose_precision(args.precision, device)
    run = open_step(args.out_dir, STEP, VERSION, settings, inputs, args.new, precision)
    set_precision(run.precision, agent)
    if not run.done:
        numbers = compute(args, run, rollouts, bank, agent, directions.to(device), device)
        finish_step(run, {"inputs": inputs, "asked": settings} | numbers)
    point_latest(run)
    logging.info("numbers: %s; draw them with: python -m analysis.encoded_used_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
