"""The oracle table: how much better a world model's open loop gets with the truth in place of one part after
the other (the start, the motion, the tiles, the player's pose). Writes oracle_table.json and a figure, and
prints the table.

The store needs labels (label.py).
"""

from dataclasses import dataclass, replace
from pathlib import Path

from analysis.io.shared_args import EvalArgs
from common.cli import parse, run_main


@dataclass
class Args(EvalArgs):
    num_windows: int = 256
    """Windows of held-out levels: the first of those that the report card draws."""
    results: Path | None = None
    """Also write the numbers to this JSON file, for documentation pages to quote."""
    images: Path | None = None
    """Also copy the figure to this directory."""
    out_dir: Path = Path("results/oracle_table_precomp")
    """Directory of the runs."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import json

import numpy as np

from analysis.io.artefacts import cached_part
from analysis.io.publish import publish
from analysis.io.size_limits import Limit, check_least, fit_sizes
from analysis.model_eval.eval_run import check_batch_memory, load_eval, open_eval_run
from analysis.model_eval.eval_windows import EvalWindows, draw_windows
from analysis.model_eval.frame_scores import RESAMPLES
from analysis.model_eval.report_card_scores import NUM_STEPS
from analysis.oracles.oracle_figure import draw_oracle_table
from analysis.oracles.oracle_scores import oracle_rows, score_oracles, table_text
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import UsageError, choose_device, manifest
from common.stats import level_weights
from common.words import counted
from generative.compatibility import env_name_of
from rollouts.labels import Labels
from rollouts.split import HELD_OUT
from rollouts.states import replay_env
from rollouts.store import Rollouts

REPLAY_SLOTS = 32
VERSION = "1"
"""Of the scores; a run of another version is not resumed."""
NAME = "oracle_table.json"


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    simulator, rollouts = load_eval(args, device)
    args, windows = choose_windows(args, simulator, rollouts)
    asked = replace(args, results=None, images=None)  # they do not affect what is computed
    run, inputs = open_eval_run(args.out_dir, asked, simulator, rollouts, device, {"version": VERSION})
    if not run.done:
        scores = score_windows(run, windows, simulator, args, device)
        weights = level_weights(windows.layout, RESAMPLES, seed=args.seed)
        about = windows.describe() | {"windows": len(windows.table), "layouts": int(windows.layout.max()) + 1}
        report = (
            {"manifest": manifest(inputs, run.precision)} | about | {"rows": oracle_rows(scores, weights)}
        )
        write_json(run.dir / NAME, report)
        run.finish({})
    report = json.loads((run.dir / NAME).read_text())
    figure = draw_oracle_table(report, run.dir / NAME)
    print(table_text(report["rows"]))
    publish(args, report, [figure])


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    check_least(args, num_windows=2, batch_size=2)
    if args.part not in HELD_OUT:
        raise UsageError(f"--part is {args.part!r}; choose one of: {', '.join(HELD_OUT)}")


def choose_windows(args: Args, simulator, rollouts: Rollouts) -> tuple[Args, EvalWindows]:
    """Held-out windows with labels, and the flags with their number lowered to what the store has.

    Raises:
        UsageError: for a store of another game or without labels, too few layouts, or batches that the
            machine's memory cannot hold.
    """
    game = env_name_of(rollouts.manifest)
    if game != "coinrun":
        raise UsageError(f"the oracle table reads CoinRun's states; {args.data_dir} was recorded in {game}")
    labels = Labels.open(rollouts)
    k = simulator.model.config.num_initializing_steps
    (windows,) = draw_windows(rollouts, (args.part,), k + NUM_STEPS, k, (args.num_windows,), args.seed)
    windows.add_labels(labels)
    most = Limit(len(windows.table), f"{counted(len(windows.table), 'window')} of layouts for {args.part}", 2)
    args = fit_sizes(args, {"num_windows": most})
    check_batch_memory(simulator, windows, args.batch_size, "--batch_size")
    return args, windows


def score_windows(run, windows: EvalWindows, simulator, args: Args, device) -> dict[str, np.ndarray]:
    """Scores of all windows, windows last; each batch is kept in a file of its own."""
    env = replay_env(windows.rollouts, REPLAY_SLOTS)

    def score(batch: np.ndarray) -> dict[str, np.ndarray]:
        segment, scenes, _ = windows.read(batch, env)
        return score_oracles(simulator, segment.to(device), scenes, args.seed)

    batches = progress_bar(windows.batches(args.batch_size), unit="batch", desc=windows.name)
    scores = [cached_part(run, f"scores/{i:04d}", lambda: score(batch)) for i, batch in enumerate(batches)]
    env.close()
    return {name: np.concatenate([batch[name] for batch in scores], axis=-1) for name in scores[0]}


if __name__ == "__main__":
    run_main(main, ARGS)
