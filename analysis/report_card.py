"""The report card of a simulator: scores a world model on held-out levels, and on its training levels, and writes report.json and a page."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The world model to score."""
    agent_file: Path
    """The agent that it was trained with, and that recorded the store."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    part: str = "test"
    """Which held-out layouts: test, or validation while a model is still being developed."""
    num_windows: int = 512
    """Windows scored on held-out levels; their starts are uniform over episode time."""
    training_windows: int = 256
    """Windows scored on training levels, for the gap; the detector is fit on them too."""
    batch_size: int = 64
    """Windows scored at a time: memory grows with it, not with num_windows."""
    seed: int = 0
    """Seed of windows, noise and resamples."""
    device: str = "auto"
    """auto, gpu or cpu."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
    out_dir: Path = Path("results/report_card_precomp")
    """Where results go."""
    new: bool = False
    """Start another run even though this command has one."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import load_agent
from analysis.agent_view import Whitener, fit_whitener
from analysis.artefacts import part as artefact
from analysis.card_batch import Yardsticks, score_batch
from analysis.card_film import film
from analysis.card_report import STEPS, part_report
from analysis.card_targets import table, targets
from analysis.card_windows import Part, choose_parts
from analysis.hazards import Detector, fit_detector
from analysis.limits import Limit, check_least, fit_sizes
from analysis.report_card_plotting import build
from analysis.scenes import join
from analysis.staged import staged
from common.checkpoints import write_json
from common.integrity import check_memory
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import Run, UsageError, choose_device, file_id, manifest, open_run
from common.words import counted
from envs.procgen import action_space
from generative.compatibility import check_store, game_of, check_recorder
from generative.data import HELD_OUT
from generative.simulator import Simulator, load_simulator
from rollouts.states import replay_env
from rollouts.store import Rollouts

REPLAY_SLOTS = 32


def main(args: Args) -> None:
    check_asked(args)
    device = choose_device(args.device, args.gpu_device)
    simulator, rollouts = load(args, device)
    args, parts = choose_windows(args, simulator, rollouts)
    inputs = {"model_file": file_id(args.model_file), "agent_file": file_id(args.agent_file), "data_dir": rollouts.id}
    run = open_run(args.out_dir, args.model_file.stem, args, args.new, inputs, precision=choose_precision(args.precision, device))
    set_precision(run.precision, simulator.model, simulator.agent)
    if run.done:
        return
    report = evaluate(args, simulator, rollouts, parts, run, device)
    write_json(run.dir / "report.json", {"manifest": manifest(inputs, run.precision)} | report)
    page = build(run.dir)
    reached = [row["reached"] for row in report["targets"]]
    run.finish({"reached": sum(map(bool, reached)), "of": len(reached)})
    logging.info("%d of %s reached; %s", sum(map(bool, reached)), counted(len(reached), "target"), page)


def check_asked(args: Args) -> None:
    """Raises UsageError for what cannot be done, before any work."""
    check_least(args, num_windows=2, training_windows=2, batch_size=2)  # a window is also compared with one of another level
    if args.part not in HELD_OUT:
        raise UsageError(f"--part is {args.part!r}; choose one of: {', '.join(HELD_OUT)}")


def load(args: Args, device: torch.device) -> tuple[Simulator, Rollouts]:
    """The simulator and a store that fits it. Raises UsageError for a game whose state bytes the card cannot read."""
    rollouts = Rollouts.open(args.data_dir)
    if game_of(rollouts.manifest) != "coinrun":
        raise UsageError(f"the report card reads CoinRun's states; {args.data_dir} was recorded in {game_of(rollouts.manifest)}")
    agent, agent_meta = load_agent(args.agent_file, device)
    check_store(rollouts, agent, agent_meta, args.agent_file)
    check_recorder(rollouts, file_id(args.agent_file))
    return load_simulator(args.model_file, args.agent_file, device=device)[0], rollouts


def choose_windows(args: Args, simulator: Simulator, rollouts: Rollouts) -> tuple[Args, list[Part]]:
    """The held-out and the training windows, and the flags with the sizes that these carry.

    Raises UsageError for too few layouts, and for batches that the machine's memory cannot hold.
    """
    k = simulator.model.config.num_initializing_steps
    parts = choose_parts(rollouts, (args.part, "train"), k + STEPS, k, (args.num_windows, args.training_windows), args.seed)
    held_out, training = (Limit(len(part.table), f"{counted(len(part.table), 'window')} of layouts for {part.name}", 2) for part in parts)
    args = fit_sizes(args, {"num_windows": held_out, "training_windows": training})
    batch = min(args.batch_size, max(args.num_windows, args.training_windows))
    frame = math.prod(simulator.model.config.obs_shape)
    check_memory(4 * batch * (k + STEPS) * frame, f"a batch of {batch:,} windows (--batch_size)")
    return args, parts


def evaluate(args: Args, simulator: Simulator, rollouts: Rollouts, parts: list[Part], run: Run, device: torch.device) -> dict:
    """Everything that report.json says but its manifest. What the run already holds is not made again."""
    k = simulator.model.config.num_initializing_steps
    env = replay_env(rollouts, REPLAY_SLOTS)
    yardsticks = unpack(artefact(run, "yardsticks", lambda: fit_yardsticks(parts[1], k, args, env)))
    reports, scores = [], []
    for part in parts:
        scores.append(score_part(run, part, simulator, yardsticks, args, env, device))
        reports.append(part.describe() | part_report(scores[-1], part.clusters, args.seed))
    env.close()
    artefact(run, "film", lambda: film(simulator, parts[0], scores[0], args.seed, device))
    return {"targets": table(targets(*reports)), "held_out": reports[0], "training": reports[1]}


def fit_yardsticks(training: Part, k: int, args: Args, env) -> dict[str, np.ndarray]:
    """Mean frame and whitening, fit on a few frames of every training window; the detector on these and on staged ones."""
    frames, hidden, scenes = training.sample(range(k - 1, k + STEPS, 4), args.batch_size, env)
    whitener, mean_frame = fit_whitener(hidden), np.mean(frames, axis=0, dtype=np.float64)
    more = staged(env, training.levels(), args.seed)
    if more is not None:
        frames, scenes = np.concatenate([frames, more[0]]), join(scenes, more[1])
    logging.info("fitting the detector on %s", counted(len(frames), "frame"))
    detector = fit_detector(frames, scenes, args.seed)
    weights = {f"detector/{name}": x.numpy() for name, x in detector.state_dict().items()}
    return {"mean_frame": mean_frame, "mean": whitener.mean, "axes": whitener.axes} | weights


def unpack(kept: dict[str, np.ndarray]) -> Yardsticks:
    """What `fit_yardsticks` packed."""
    detector = Detector()
    weights = {name.removeprefix("detector/"): torch.from_numpy(x) for name, x in kept.items() if name.startswith("detector/")}
    detector.load_state_dict(weights)
    return Yardsticks(kept["mean_frame"], Whitener(kept["mean"], kept["axes"]), detector.eval().requires_grad_(False))


def score_part(run: Run, part: Part, simulator: Simulator, yardsticks: Yardsticks, args: Args, env, device) -> dict[str, np.ndarray]:
    """The measures of all windows of a part, windows last, made batch by batch, each kept in a file of its own."""
    classes, batches = action_space("coinrun").effect_classes, part.batches(args.batch_size)

    def score(windows: np.ndarray) -> dict[str, np.ndarray]:
        segment, scenes, partner = part.read(windows, env)
        return score_batch(simulator, segment.to(device), scenes, partner, yardsticks, classes, args.seed)

    numbered = enumerate(progress_bar(batches, unit="batch", desc=part.name))
    made = [artefact(run, f"scores/{part.name}_{i:04d}", lambda: score(windows)) for i, windows in numbered]
    return {name: np.concatenate([scores[name] for scores in made], axis=-1) for name in made[0]}


if __name__ == "__main__":
    run_main(main, ARGS)
