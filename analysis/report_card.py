"""The report card of a simulator: scores a world model on held-out and on training levels, and writes
report.json and an HTML page.
"""

from dataclasses import dataclass, replace
from pathlib import Path

from analysis.io.shared_args import EvalArgs
from common.cli import parse, run_main


@dataclass
class Args(EvalArgs):
    num_windows: int = 512
    """Windows of held-out levels; their starts are uniform over episode time."""
    training_windows: int = 256
    """Windows of training levels, to measure the generalization gap and to train the object detector."""
    batch_size: int = 64
    """Windows scored at a time; memory grows with it, not with num_windows."""
    compare_with: Path | None = None
    """Another world model of the same agent, scored on the same windows: every row of the table with the
    difference, paired by window.
    """
    results_dir: Path | None = None
    """Directory with real_check.json, gradient_check.json, simulation.json and joint_training.json, or some:
    the rows of the table that other commands measure. With it, the same command adds them to its report.
    """
    out_dir: Path = Path("results/report_card_precomp")
    """Directory of the runs."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import json
import logging

import numpy as np
import torch

from analysis.io.artefacts import cached_part
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.model_eval.eval_references import EvalReferences, fit_references, pack, unpack
from analysis.model_eval.eval_run import check_batch_memory, load_eval, open_eval_run
from analysis.model_eval.eval_windows import EvalWindows, draw_windows
from analysis.model_eval.film_strip import render_film_strip
from analysis.model_eval.frame_scores import RESAMPLES
from analysis.model_eval.other_results import other_scores
from analysis.model_eval.report_card_page import build_page
from analysis.model_eval.report_card_scores import NUM_STEPS, score_report
from analysis.model_eval.report_card_targets import (
    card_statistics,
    generalization_gap,
    paired_rows,
    statistic_scores,
    target_rows,
)
from analysis.model_eval.window_scores import score_windows
from common.checkpoints import write_json
from common.precision import set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, manifest
from common.stats import level_weights
from common.words import counted
from envs.procgen import action_space
from generative.compatibility import check_recorder, check_split, env_name_of
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from rollouts.split import HELD_OUT
from rollouts.states import replay_env
from rollouts.store import Rollouts

REPLAY_SLOTS = 32
VERSION = "2"
"""Of the scores; a run of another version is not resumed."""


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    simulator, rollouts = load(args, device)
    other = load_other(args, simulator, device)
    args, windows = choose_windows(args, simulator, rollouts)
    more = {"version": VERSION} | ({} if other is None else {"compare_with": file_id(args.compare_with)})
    elsewhere = args.results_dir and other_scores(args.results_dir, file_id(args.world_model_file))
    asked = replace(args, results_dir=None)  # it does not affect what is computed
    run, inputs = open_eval_run(args.out_dir, asked, simulator, rollouts, device, more)
    if not run.done:
        report = evaluate(args, simulator, windows, run, device, other)
        write_json(run.dir / "report.json", {"manifest": manifest(inputs, run.precision)} | report)
    elif not elsewhere:
        return
    if elsewhere:
        add_rows(run.dir / "report.json", elsewhere)
    page = build_page(run.dir)
    rows = json.loads((run.dir / "report.json").read_text())["targets"]
    reached = sum(bool(row["reached"]) for row in rows)
    run.finish({"reached": reached, "of": len(rows)})
    logging.info("%d of %s reached; %s", reached, counted(len(rows), "target"), page)


def add_rows(path: Path, scores: dict[str, dict]) -> None:
    """Adds scores by key of a target to the table of a report."""
    report = json.loads(path.read_text())
    measured = {row["key"]: row for row in report["targets"]}
    write_json(path, report | {"targets": target_rows(measured | scores)})


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_windows=2, training_windows=2, batch_size=2)  # each window needs a partner
    if args.part not in HELD_OUT:
        raise UsageError(f"--part is {args.part!r}; choose one of: {', '.join(HELD_OUT)}")


def load(args: Args, device: torch.device) -> tuple[Simulator, Rollouts]:
    """The simulator and the store.

    Raises:
        UsageError: if they do not belong together, or the store is not of CoinRun, whose states are read.
    """
    game = env_name_of(Rollouts.open(args.data_dir).manifest)
    if game != "coinrun":
        raise UsageError(f"the report card reads CoinRun's states; {args.data_dir} was recorded in {game}")
    simulator, rollouts = load_eval(args, device)
    check_recorder(rollouts, file_id(args.agent_file))
    return simulator, rollouts


def load_other(args: Args, simulator: Simulator, device: torch.device) -> Simulator | None:
    """The simulator to compare with.

    Raises:
        UsageError: if it takes another number of given frames, so that the windows do not fit both.
    """
    if args.compare_with is None:
        return None
    other, meta = load_simulator(args.compare_with, args.agent_file, device=device)
    check_split(meta, args.compare_with)
    counts = [each.model.config.num_initializing_steps for each in (simulator, other)]
    if counts[0] != counts[1]:
        raise UsageError(
            f"{args.world_model_file} takes {counts[0]} first frames and {args.compare_with} {counts[1]}: "
            "they cannot be scored on the same windows; give --compare_with a model with as many"
        )
    return other


def choose_windows(args: Args, simulator: Simulator, rollouts: Rollouts) -> tuple[Args, list[EvalWindows]]:
    """Held-out and training windows, and the flags with sizes lowered to what the store has.

    Raises:
        UsageError: for too few layouts, or batches that the machine's memory cannot hold.
    """
    k = simulator.model.config.num_initializing_steps
    counts = args.num_windows, args.training_windows
    windows = draw_windows(rollouts, (args.part, "train"), k + NUM_STEPS, k, counts, args.seed)
    held_out, training = (
        Limit(len(split.table), f"{counted(len(split.table), 'window')} of layouts for {split.name}", 2)
        for split in windows
    )
    args = fit_sizes(args, {"num_windows": held_out, "training_windows": training})
    largest = max(windows, key=lambda split: len(split.table))
    check_batch_memory(simulator, largest, args.batch_size, "--batch_size")
    return args, windows


def evaluate(
    args: Args,
    simulator: Simulator,
    windows: list[EvalWindows],
    run: Run,
    device: torch.device,
    other: Simulator | None = None,
) -> dict:
    """The content of report.json except its manifest. Parts that the run already has are read.

    Args:
        args: the flags.
        simulator: the world model with its agent.
        windows: held-out and training windows.
        run: where parts are kept.
        device: that the simulator is on.
        other: another world model to compare with on the held-out windows.
    """
    held_out, training = windows
    env = replay_env(held_out.rollouts, REPLAY_SLOTS)
    k = simulator.model.config.num_initializing_steps
    times = range(k - 1, k + NUM_STEPS, 4)

    def fit() -> dict[str, np.ndarray]:
        return pack(fit_references(training, times, args.batch_size, env, args.seed))

    references = unpack(cached_part(run, "references", fit))
    if other is not None:
        set_precision(run.precision, other.model, other.agent)
    scores = [score_split(run, split, simulator, references, args, env, device) for split in windows]
    other_windows = other and score_split(run, held_out, other, references, args, env, device, "other_")
    env.close()
    cached_part(run, "film", lambda: render_film_strip(simulator, held_out, scores[0], args.seed, device))
    reports = [
        split.describe() | score_report(split_scores, split.layout, args.seed)
        for split, split_scores in zip(windows, scores)
    ]
    weights = level_weights(held_out.layout, RESAMPLES, seed=args.seed)
    measured = card_statistics(scores[0], weights)
    compared = paired_rows(measured, card_statistics(other_windows, weights)) if other_windows else []
    return {
        "targets": target_rows(statistic_scores(measured)),
        "compared": compared,
        "held_out": reports[0],
        "training": reports[1],
        "generalization_gap": generalization_gap(*reports),
    }


def score_split(
    run: Run,
    split: EvalWindows,
    simulator: Simulator,
    references: EvalReferences,
    args: Args,
    env,
    device: torch.device,
    prefix: str = "",
) -> dict[str, np.ndarray]:
    """Scores of all windows of a split, windows last; computed in batches, each kept in a file of its own
    whose name begins with `prefix`.
    """
    classes = action_space("coinrun").effect_classes

    def score(batch: np.ndarray) -> dict[str, np.ndarray]:
        segment, scenes, partner = split.read(batch, env)
        return score_windows(simulator, segment.to(device), scenes, partner, references, classes, args.seed)

    batches = progress_bar(split.batches(args.batch_size), unit="batch", desc=split.name)
    scores = [
        cached_part(run, f"scores/{prefix}{split.name}_{i:04d}", lambda: score(batch))
        for i, batch in enumerate(batches)
    ]
    return {name: np.concatenate([batch[name] for batch in scores], axis=-1) for name in scores[0]}


if __name__ == "__main__":
    run_main(main, ARGS)
