"""When does a concept appear in training? Probes the hidden state at every checkpoint of an agent, with the
same baselines, and measures responses to constructed scenes.

Every checkpoint is run on the same recorded episodes, with its own hidden state, and on the same scenes.
Writes numbers to results/emergence_precomp, one part for each checkpoint, and resumes an unfinished run; draw
them with python -m analysis.emergence_plotting.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    runs: tuple[Path, ...]
    """Training runs with checkpoints/; each continues from the last checkpoint of the previous one."""
    scenes_dir: Path
    """Scene bank made from this store (python -m analysis.scene_bank)."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts by any agent; every checkpoint is run on its frames."""
    every: int = 1
    """Take every n-th checkpoint, and always the last."""
    num_episodes: int = 500
    """Whole episodes, at most, drawn at random."""
    frame_episodes: int = 1500
    """Episodes of the single-frame CNN, a baseline; as many as in analysis.probes_precompute reuse its
    CNN.
    """
    epochs: int = 2
    """Training epochs of that CNN."""
    seed: int = 0
    """Seed of the sample of episodes, of folds, control tasks and baselines."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp and receives emergence_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import ActorCritic, load_agent
from analysis.io.artefacts import cached_part
from analysis.io.size_limits import check_least, fit_sizes
from analysis.io.steps import finish_step, open_step, point_latest
from analysis.probing.baselines import baseline_predictions
from analysis.probing.dataset import ProbeDataset, encoder_features, episodes_limit, open_probe_dataset
from analysis.probing.direction_selectivity import (
    fit_score_scale,
    is_responsive,
    responses,
    scene_states,
    visible_columns,
)
from analysis.probing.frame_baseline import frame_baseline
from analysis.probing.store_concepts import VERSION as CONCEPTS_VERSION
from analysis.tuning_precompute import open_bank
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id
from common.stats import json_estimate
from common.words import counted
from generative.compatibility import check_store
from interpret.probing.bench import ProbeBench, decodability, score_reader
from interpret.probing.recurrence import rerun_core, states_before
from rollouts.scene_bank import SceneBank
from rollouts.store import Rollouts

NAME = "emergence"
VERSION = 2
COMMAND = "python -m analysis.emergence_precompute --runs RUN --data_dir STORE --scenes_dir SCENES"


def checkpoints_of(runs: tuple[Path, ...], every: int) -> dict[int, Path]:
    """Checkpoints by environment steps, counted over all runs.

    Args:
        runs: training runs, each continuing the one before.
        every: take every n-th checkpoint, and the last.

    Raises:
        UsageError: for a run without checkpoints.
    """
    found = {}
    behind = 0
    for run in runs:
        files = {
            int(file.stem[6:]): file
            for file in (run / "checkpoints").glob("model_*.safetensors")
            if file.stem[6:].isdecimal()
        }
        if not files:
            missing = f"{run} holds no checkpoints/model_<steps>.safetensors"
            raise UsageError(f"{missing}: give a run of train.py, or a published one")
        found |= {
            behind + steps: file for steps, file in sorted(files.items()) if behind + steps not in found
        }
        behind += max(files)
    steps = list(found)
    return {step: found[step] for i, step in enumerate(steps) if i % every == 0 or step == steps[-1]}


def frame_predictions(dataset: ProbeDataset, args: Args) -> np.ndarray:
    """Out-of-fold predictions [n, K] of the dataset's targets by the single-frame CNN."""
    wide = open_probe_dataset(dataset.rollouts, args.frame_episodes, args.seed, args.out_dir)
    read = frame_baseline(
        wide,
        args.frame_episodes,
        args.epochs,
        args.seed,
        args.out_dir,
        False,
        choose_precision(args.precision, "cpu"),
    )
    columns = [wide.targets.names.index(name) for name in dataset.targets.names]
    return read[np.searchsorted(wide.rows, dataset.rows)][:, columns]


def score_checkpoint(
    bench: ProbeBench,
    dataset: ProbeDataset,
    agent: ActorCritic,
    bank: SceneBank,
    frames: np.ndarray,
    device,
    advance,
) -> dict[str, np.ndarray]:
    """Arrays of one checkpoint: `score_reader` of its hidden state, and its responses to scenes.

    Args:
        bench: K concepts of n steps.
        dataset: the recorded steps.
        agent: the checkpoint.
        bank: constructed scenes.
        frames: out-of-fold predictions of the single-frame CNN, [n, K].
        device: that the agent is on.
        advance: called with the number of frames done.

    Returns:
        The arrays of `score_reader` and `decodability`; `responds` [K], 1, 0, or -1 if undefined; and `move`
        [1 + R, K], the response.
    """
    targets = bench.targets
    encoder = encoder_features(agent, dataset, ("encoder",), device, advance)["encoder"]
    hidden = rerun_core(agent.core, encoder, dataset.first_step, dataset.length, device)
    baselines = baseline_predictions(
        bench, dataset, agent, encoder, targets.truth[:, targets.names.index("x")], frames
    )
    arrays = score_reader(bench, "hidden", hidden, baselines)
    row_of = np.full(len(dataset.rollouts), -1)
    row_of[dataset.episodes] = dataset.first_step
    rows = row_of[bank.columns["episode"]] + bank.columns["step"]
    states = scene_states(agent, bank, states_before(hidden, dataset.first_step)[rows], device)
    shown = bank.columns["shown"]

    def scores(x):
        return x @ arrays["weights"].T.astype(np.float32) + arrays["offset"].astype(np.float32)

    moved = responses(
        fit_score_scale(scores(hidden)).standardize(scores(states[shown])),
        visible_columns(bank),
        bank.about["kinds"],
    )
    responds = np.full(len(targets.names), -1)
    moves = np.full(arrays["value"].shape, np.nan)
    for k, name in enumerate(targets.names):
        found = is_responsive(moved, name)
        if found is not None:
            responds[k], moves[:, k] = found[k], moved[f"{name}/move"][:, k]
    return arrays | decodability(arrays, targets.classes) | {"responds": responds, "move": moves}


def within(bank: SceneBank, episodes: np.ndarray) -> SceneBank:
    """The scenes of some episodes. Raises UsageError if there are none."""
    kept = np.flatnonzero(np.isin(bank.columns["episode"], episodes))
    if not len(kept):
        raise UsageError("none of the scenes is from an episode that is shown: take more with --num_episodes")
    columns = {name: column[kept] for name, column in bank.columns.items()}
    return SceneBank(bank.about, columns, bank.frames[kept], [bank.states[i] for i in kept])


def checkpoint_summary(
    dataset: ProbeDataset, steps: int, arrays: dict[str, np.ndarray], first: dict[str, np.ndarray]
) -> dict:
    """Scores and marks of one checkpoint by concept, with the change since the first checkpoint, as JSON.

    Args:
        dataset: the recorded steps.
        steps: environment steps of the checkpoint.
        arrays: from `score_checkpoint`.
        first: arrays of the first checkpoint.
    """
    entries = {}
    for k, name in enumerate(dataset.targets.names):
        numbers = {one: json_estimate(arrays[one][:, k], arrays["n"][k]) for one in ("value", "gain", "move")}
        numbers |= {"encoder": json_estimate(arrays["baseline/encoder"][:, k], arrays["n"][k])}
        numbers |= {"learned": json_estimate(arrays["value"][:, k] - first["value"][:, k], arrays["n"][k])}
        found = {mark: bool(arrays[mark][k]) for mark in ("decodable", "beyond")}
        entries[name] = (
            numbers | found | {"responds": None if arrays["responds"][k] < 0 else bool(arrays["responds"][k])}
        )
    return {"steps": steps, "concepts": entries}


def appears(checkpoints: list[dict], name: str) -> dict[str, int | None]:
    """Training steps from which on a concept is `learned`, and from which on it `responds`; None if never.

    Learned: at this and every later checkpoint decodable, and significantly better than at the first.
    """

    def since(holds) -> int | None:
        steps = None
        for one in reversed(checkpoints):
            if not holds(one["concepts"][name]):
                break
            steps = one["steps"]
        return steps

    learned = since(lambda entry: entry["decodable"] and (entry["learned"]["low"] or 0) > 0)
    return {"learned": learned, "responds": since(lambda entry: entry["responds"])}


def main(args: Args) -> None:
    check_least(args, every=1, num_episodes=1, epochs=1)
    if args.frame_episodes < args.num_episodes:
        shown = f"--frame_episodes is {args.frame_episodes}, and {args.num_episodes} are shown"
        raise UsageError(f"{shown}: give as many or more")
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    files = checkpoints_of(args.runs, args.every)
    bank = open_bank(args.scenes_dir, rollouts.id)
    for file in files.values():
        check_store(rollouts, *load_agent(file), file)
    args = fit_sizes(args, dict.fromkeys(("num_episodes", "frame_episodes"), episodes_limit(rollouts)))
    dataset = open_probe_dataset(rollouts, args.num_episodes, args.seed, args.out_dir)
    bank = within(bank, dataset.episodes)
    inputs = {"data_dir": rollouts.id, "scenes": file_id(args.scenes_dir / "scenes.h5")}
    inputs |= {f"{steps:09d}": file_id(file) for steps, file in files.items()}
    asked = {name: getattr(args, name) for name in ("num_episodes", "frame_episodes", "epochs", "seed")} | {
        "concepts": CONCEPTS_VERSION
    }
    run = open_step(
        args.out_dir, NAME, VERSION, asked, inputs, args.new, choose_precision(args.precision, device)
    )
    if not run.done:
        bench = ProbeBench(dataset.targets, dataset.groups, dataset.folds, dataset.time, args.seed)
        frames = frame_predictions(dataset, args)
        by_steps = {}
        with progress_bar(
            total=len(files) * len(dataset.rows), unit="frame", unit_scale=True, desc="checkpoints"
        ) as bar:
            for steps, file in files.items():
                begun = bar.n
                agent = load_agent(file, device)[0]
                set_precision(run.precision, agent)
                by_steps[steps] = cached_part(
                    run,
                    f"steps_{steps:09d}",
                    lambda: score_checkpoint(bench, dataset, agent, bank, frames, device, bar.update),
                )
                bar.update(begun + len(dataset.rows) - bar.n)
        first = by_steps[min(by_steps)]
        checkpoints = [
            checkpoint_summary(dataset, steps, arrays, first) for steps, arrays in by_steps.items()
        ]
        counts = {
            "steps": len(dataset.rows),
            "episodes": len(dataset.episodes),
            "layouts": int(dataset.groups.max()) + 1,
            "levels": dataset.levels,
        }
        counts |= {
            "pairs": int(bank.columns["shown"].sum()),
            "scene_layouts": len(np.unique(bank.columns["layout"])),
        }
        about = {
            "measures": {
                name: "AUROC" if one else "R2"
                for name, one in zip(dataset.targets.names, dataset.targets.classes)
            }
        }
        about |= {
            "appears": {name: appears(checkpoints, name) for name in dataset.targets.names},
            "checkpoints": checkpoints,
        }
        finish_step(run, counts | about)
    point_latest(run)
    logging.info(
        "%s: %s; draw them with: python -m analysis.emergence_plotting",
        counted(len(files), "checkpoint"),
        run.dir,
    )


if __name__ == "__main__":
    run_main(main, ARGS)
