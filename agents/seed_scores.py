"""Scores of several training seeds together: the mean over seeds with its interval, from what evaluate.py wrote of each.

    python -m agents.seed_scores --scores pretrained/coinrun_easy_200/seed_*_finished/scores_unseen.json --output scores_unseen.json
"""

import json
import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    scores: tuple[Path, ...]
    """Files that evaluate.py --output wrote, one per training seed, of the same levels and repeats."""
    output: Path
    """Where the summary goes."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
from scipy.stats import t

from common.checkpoints import write_json
from common.runs import UsageError
from common.words import counted


def over_seeds(values: np.ndarray) -> list[float]:
    """Mean and 95% t interval of one number per training seed, [seeds] -> [mean, low, high].

    It speaks of agents trained this way, on these levels; two seeds or more.
    """
    half_width = t.ppf(0.975, len(values) - 1) * values.std(ddof=1) / np.sqrt(len(values))
    return [float(values.mean()), float(values.mean() - half_width), float(values.mean() + half_width)]


def summarize(paths: tuple[Path, ...]) -> dict:
    """The mean return of each file, and over them. Raises UsageError where there are fewer than two or they do not belong together."""
    if len(paths) < 2:
        raise UsageError(f"--scores names {len(paths)} file: an interval over training seeds needs two or more")
    found = [_read(path) for path in paths]
    episodes = [scores["per_episode"] for scores in found]
    for path, others in zip(paths[1:], episodes[1:]):
        if any(others[name] != episodes[0][name] for name in ("level", "repeat")):
            raise UsageError(f"{path} is of other levels than {paths[0]}; evaluate both with the same --start_level, --num_levels and --num_episodes")
    each = np.array([np.mean(columns["total_reward"]) for columns in episodes])
    models = [scores["asked"]["model_file"] for scores in found]
    if len(set(models)) < len(models):
        raise UsageError(f"--scores names {max(models, key=models.count)} twice; give each training seed once")
    return {"models": models, "episodes_each": len(episodes[0]["level"]), "each": each.tolist(), "return": over_seeds(each)}


def _read(path: Path) -> dict:
    try:
        scores = json.loads(path.read_text())
        scores["per_episode"]["total_reward"], scores["per_episode"]["repeat"], scores["asked"]["model_file"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise UsageError(f"{path} is not what evaluate.py --output writes ({error!r}); make it with: python evaluate.py --help") from error
    return scores


def main(args: Args) -> None:
    summary = summarize(args.scores)
    write_json(args.output, summary)
    mean, low, high = summary["return"]
    logging.info("%s: mean return over %s %.2f [%.2f, %.2f]", args.output, counted(len(args.scores), "seed"), mean, low, high)


if __name__ == "__main__":
    run_main(main, ARGS)
