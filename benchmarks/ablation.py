"""Ablation of the world model's loss: a small model trained without each term, scored on the same held-out
windows.

Models are trained as the reference simulator is, except for the preset, the number of batches and the ablated
term, and scored by the report card. Finished steps are skipped when the command is run again. There is one
seed: intervals are over layouts and do not include the variation between training runs.
"""

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the data."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    preset: str = "tiny"
    """Preset of hyperparams/generative.yml of every model."""
    num_batches: int = 1000
    """Batches to train each of them for."""
    batch_size: int = 16
    """Windows per batch."""
    num_windows: int = 256
    """Held-out windows that each is scored on."""
    training_windows: int = 128
    """Windows of training levels, that the scores' baselines are fit on."""
    seed: int = 0
    """Seed of training, of windows and of noise."""
    out_dir: Path = Path("benchmarks/results/ablation")
    """Where models and report cards go."""
    out_file: Path = Path("benchmarks/results/ablation.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import train_gen_model
from analysis import report_card
from analysis.model_eval.report_card_targets import STEP
from common.checkpoints import write_json
from common.progress import progress_bar
from common.runs import UsageError, manifest
from generative.model.config import LossScales

LEFT_OUT = {
    "nothing": (),
    "reconstruction from latents alone": ("start_recon", "start_small_objects"),
    "deterministic rollout": ("deterministic_rollout",),
    "self-conditioned reconstruction": ("self_conditioned_recon",),
    "estimated motion": ("motion",),
    "weight of small objects": ("small_objects", "start_small_objects"),
    "agent losses": ("hx", "act_log_probs", "value"),
}
"""The weights (without the prefix loss_scale_) set to 0 in each variant."""
LATENT_OVERSHOOTING = "with latent overshooting"
"""The variant that adds latent overshooting, which the reference does not use."""
OVERSHOOTING_SCALE = 0.1


def variants() -> Iterator[tuple[str, LossScales]]:
    """Every variant's name and weights."""
    for name, terms in LEFT_OUT.items():
        yield name, LossScales(loss_scale_overshooting=0.0, **{f"loss_scale_{term}": 0.0 for term in terms})
    yield LATENT_OVERSHOOTING, LossScales(loss_scale_overshooting=OVERSHOOTING_SCALE)


def scored(name: str, scales: LossScales, args: Args) -> dict:
    """Trains and scores one variant; its report."""
    home = (
        args.out_dir
        / f"{args.preset}_{args.num_batches}x{args.batch_size}_seed_{args.seed}"
        / name.replace(" ", "_").replace("'", "")
    )
    train_gen_model.main(
        train_gen_model.Args(
            args.agent_file,
            args.data_dir,
            interpreting_params_name=args.preset,
            num_batches=args.num_batches,
            batch_size=args.batch_size,
            scales=scales,
            seed=args.seed,
            out_dir=home,
            log_level=args.log_level,
        )
    )
    model = next(home.glob(f"*/*/model_{args.num_batches}.safetensors"), None)
    if model is None:
        raise UsageError(f"training without {name} was stopped; the same command goes on from there")
    report_card.main(
        report_card.Args(
            model,
            args.agent_file,
            args.data_dir,
            num_windows=args.num_windows,
            training_windows=args.training_windows,
            seed=args.seed,
            out_dir=home / f"card_{args.num_windows}_{args.training_windows}",
            log_level=args.log_level,
        )
    )
    return json.loads(
        next(home.glob(f"card_{args.num_windows}_{args.training_windows}/*/report.json")).read_text()
    )


def figures(report: dict) -> dict[str, dict]:
    """What the table shows of a report: each a value with its interval and n."""
    held_out = report["held_out"]
    frames = held_out["frames"]
    outcomes = held_out["outcomes"]["open_loop"]
    rows = {
        "first frame": frames["whole"]["open_loop"][0],
        "hazards in the first frame": held_out["objects"]["hazards"]["open_loop"]["recall"][0],
        "posterior frames, steps 1 to 12": frames["posterior"],
        "open loop, one step": frames["whole"]["open_loop"][1],
        "open loop, seen pixels at ten steps": frames["seen"]["open_loop"][STEP],
        "open loop, in view all along at ten steps": frames["in_view"]["open_loop"][STEP],
        "motion ten steps ahead: median error": held_out["motion"]["open_loop"]["sum"]["median"][STEP],
        "kappa on decision steps, step 1": held_out["view"]["open_loop"]["kappa_deciding"][1],
        "reward: AUROC, open loop": outcomes["reward"]["auroc"],
        "end: AUROC, open loop": outcomes["done"]["auroc"],
    }
    return {name: {key: row[key] for key in ("value", "low", "high", "n")} for name, row in rows.items()}


def main(args: Args) -> None:
    found: dict = {
        "preset": args.preset,
        "num_batches": args.num_batches,
        "batch_size": args.batch_size,
        "rows": {},
    }
    for name, scales in progress_bar(list(variants()), unit="model", desc="ablation"):
        found["rows"][name] = figures(scored(name, scales, args))
        write_json(args.out_file, found | {"manifest": manifest()})
    for name, row in found["rows"].items():
        logging.info(
            "%-30s %s",
            name,
            "  ".join(
                f"{key} {one['value']:.3g} [{one['low']:.3g}, {one['high']:.3g}]" for key, one in row.items()
            ),
        )


if __name__ == "__main__":
    run_main(main, ARGS)
