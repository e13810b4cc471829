"""Ablation of the world model's training: small models without one loss term each, and one without labels.

Every variant is trained with several seeds, as the reference simulator is except for the preset, the number
of batches and what is left out, and scored on the same held-out windows as the report card does. Rows hold
the score averaged over seeds, and its difference to the whole loss, paired by window and by seed; intervals
resample layouts and seeds together. Finished steps are skipped when the command is run again.
"""

import logging
from collections.abc import Iterator
from dataclasses import dataclass, fields
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the data."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts, with labels."""
    preset: str = "tiny"
    """Preset of hyperparams/generative.yml of every model."""
    num_batches: int = 600
    """Batches to train each of them for, over all stages."""
    batch_size: int = 16
    """Windows per batch."""
    seeds: tuple[int, ...] = (0, 1, 2)
    """Training seeds of every variant."""
    num_windows: int = 128
    """Held-out windows that each is scored on."""
    training_windows: int = 64
    """Windows of training levels, that the scores' references are fit on."""
    scored_batch: int = 32
    """Windows scored at a time."""
    part: str = "validation"
    """Held-out part of the layouts: validation or test."""
    out_dir: Path = Path("benchmarks/results/ablation")
    """Where models and scores go."""
    out_file: Path = Path("benchmarks/results/ablation.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

import train_gen_model
from analysis import report_card
from analysis.io.artefacts import cached_part
from analysis.model_eval.eval_references import fit_references, pack, unpack
from analysis.model_eval.frame_scores import RESAMPLES
from analysis.model_eval.report_card_scores import NUM_STEPS
from analysis.model_eval.report_card_targets import TARGETS, Statistic, card_statistics
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, manifest
from common.stats import json_estimate, level_counts, level_weights
from generative.model.config import LossScales
from rollouts.labels import Labels
from rollouts.states import replay_env
from rollouts.store import Rollouts

WHOLE = "nothing"
NO_LABELS = "labels"
PREFIX = "loss_scale_"
REPLAY_SLOTS = 32


@dataclass(frozen=True)
class Variant:
    """What a model is trained with: the weights of the loss, and the flag --labels."""

    scales: LossScales
    labels: str = "use"


def variants() -> Iterator[tuple[str, Variant]]:
    """What is left out, and the training without it: nothing, each weight of the loss, the labels."""
    yield WHOLE, Variant(LossScales())
    for field in fields(LossScales):
        yield field.name.removeprefix(PREFIX), Variant(LossScales(**{field.name: 0.0}))
    yield NO_LABELS, Variant(LossScales(), "ignore")


def home_of(args: Args, name: str, seed: int) -> Path:
    """Directory of a variant's model and scores."""
    return (
        args.out_dir / f"{args.preset}_{args.num_batches}x{args.batch_size}_seed_{seed}" / f"without_{name}"
    )


def trained(args: Args, name: str, variant: Variant, seed: int) -> Path:
    """Trains a variant, or finds it trained; its last checkpoint."""
    home = home_of(args, name, seed)
    train_gen_model.main(
        train_gen_model.Args(
            args.agent_file,
            args.data_dir,
            interpreting_params_name=args.preset,
            labels=variant.labels,
            num_batches=args.num_batches,
            batch_size=args.batch_size,
            scales=variant.scales,
            seed=seed,
            out_dir=home,
            log_level=args.log_level,
        )
    )
    model = next(home.glob(f"*/*/model_{args.num_batches}.safetensors"), None)
    if model is None:
        raise UsageError(f"training without {name} was stopped; the same command goes on from there")
    return model


def scored(args: Args, name: str, model: Path, seed: int) -> tuple[dict[str, np.ndarray], np.ndarray]:
    """Scores of a model on the held-out windows, windows last, and the windows' layouts."""
    card = report_card.Args(
        model,
        args.agent_file,
        args.data_dir,
        num_windows=args.num_windows,
        training_windows=args.training_windows,
        batch_size=args.scored_batch,
        part=args.part,
    )
    device = choose_device(card.device)
    simulator, rollouts = report_card.load(card, device)
    card, (held_out, training) = report_card.choose_windows(card, simulator, rollouts)
    sizes = f"{args.part}_{card.num_windows}_{card.training_windows}"
    env = replay_env(rollouts, REPLAY_SLOTS)
    k = simulator.model.config.num_initializing_steps
    times = range(k - 1, k + NUM_STEPS, 4)
    common = _run(args.out_dir / f"references_{sizes}_{rollouts.id}")
    references = unpack(
        cached_part(
            common,
            "references",
            lambda: pack(fit_references(training, times, card.batch_size, env, card.seed)),
        )
    )
    run = _run(home_of(args, name, seed) / f"scores_{sizes}_{file_id(model)}")
    scores = report_card.score_split(run, held_out, simulator, references, card, env, device)
    env.close()
    return scores, held_out.layout


def _run(directory: Path) -> Run:
    directory.mkdir(parents=True, exist_ok=True)
    return Run(directory, resumed=True)


def over_seeds(statistics: list[Statistic], counts: np.ndarray) -> Statistic:
    """The mean of a statistic over seeds, for each resample of layouts and seeds.

    Args:
        statistics: of each seed, with the same resamples of layouts.
        counts: how often each resample draws each seed, [1 + R, seeds]; statistics may have fewer resamples.
    """
    values = np.stack([statistic.values for statistic in statistics], 1)
    counts = counts[: len(values)]
    drawn = np.where(counts > 0, values, 0)
    return Statistic((counts * drawn).sum(1) / counts.sum(1), min(s.n for s in statistics))


def row(
    whole: list[dict[str, Statistic]], other: list[dict[str, Statistic]], counts: np.ndarray
) -> dict[str, dict]:
    """A variant's row: each measure's value, and its difference to the whole loss, with intervals.

    Args:
        whole: statistics of the models trained with everything, one entry for each seed.
        other: of the variant's models.
        counts: see `over_seeds`.
    """
    measured = {}
    for target in TARGETS:
        if target.key not in whole[0]:
            continue
        pairs = [(a[target.key], b[target.key]) for a, b in zip(whole, other)]
        with np.errstate(invalid="ignore"):
            changes = [Statistic(b.values - a.values, min(a.n, b.n)) for a, b in pairs]
        measured[target.key] = {
            "name": target.name,
            "unit": target.unit,
            "value": json_estimate(*over_seeds([b for _, b in pairs], counts)),
            "difference": json_estimate(*over_seeds(changes, counts)),
        }
    return measured


def main(args: Args) -> None:
    check(args)
    found: dict = {name: getattr(args, name) for name in ("preset", "num_batches", "batch_size", "part")}
    found |= {"seeds": list(args.seeds), "rows": {}}
    counts = level_counts(len(args.seeds), RESAMPLES, seed=1)
    whole: list[dict[str, Statistic]] = []
    for name, variant in progress_bar(list(variants()), unit="variant", desc="ablation"):
        statistics = []
        for seed in args.seeds:
            scores, layout = scored(args, name, trained(args, name, variant, seed), seed)
            statistics.append(card_statistics(scores, level_weights(layout, RESAMPLES)))
        whole = whole or statistics
        found["rows"][name] = row(whole, statistics, counts)
        write_json(args.out_file, found | {"manifest": manifest()})
    for name, measures in found["rows"].items():
        logging.info("without %s:", name)
        for measure in measures.values():
            logging.info("  %-60s %s", measure["name"], in_words(measure))


def check(args: Args) -> None:
    """Raises UsageError before any training: for a store without labels, or no seeds."""
    if not args.seeds:
        raise UsageError("--seeds is empty; give at least one")
    Labels.open(Rollouts.open(args.data_dir))


def in_words(measure: dict) -> str:
    """A measure's value and difference in a line."""
    parts = []
    for one in (measure["value"], measure["difference"]):
        numbers = ["-" if one[name] is None else f"{one[name]:.3g}" for name in ("value", "low", "high")]
        parts.append(f"{numbers[0]} [{numbers[1]}, {numbers[2]}]")
    return f"{parts[0]} {measure['unit']}, difference {parts[1]}"


if __name__ == "__main__":
    run_main(main, ARGS)
