"""When does a concept appear? What is read from the hidden state at each checkpoint of an agent, over the same baselines, and what
responds.

Every checkpoint is shown the same recorded episodes and lives through them with its own memory; then its probes see the same made scenes.
Numbers go to results/emergence_precomp, a part for each checkpoint; python -m analysis.emergence_plotting draws them; the same command
again goes on where it was.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    runs: tuple[Path, ...]
    """Directories that hold checkpoints/ of an agent; each goes on from the last checkpoint of the one before."""
    scenes_dir: Path
    """A scene bank that was made from this store (python -m analysis.scene_bank)."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts, by whichever agent: its episodes are what all checkpoints are shown."""
    every: int = 1
    """Take every so many-th checkpoint, and always the last."""
    num_episodes: int = 500
    """The most episodes that are shown, drawn at random and each whole."""
    frame_episodes: int = 1500
    """Episodes of the frame network, a baseline: as many as analysis.probes_precompute took, so that it need not be trained again."""
    epochs: int = 2
    """Of that network, likewise."""
    seed: int = 0
    """Seed of the choice of episodes, of folds, control tasks and baselines."""
    out_dir: Path = Path("results")
    """Where concepts_precomp is, and emergence_precomp is written."""
    new: bool = False
    """Make it again where it is done."""
    device: str = "auto"
    """auto, gpu or cpu, for the agent."""
    gpu_device: int = 0
    """Which GPU, where there are several."""
    precision: Literal["auto", "bf16", "fp32"] = "auto"
    """Of the convolutions: bf16, fp32, or whichever is faster here; what was begun in one goes on in it."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from agents.actor_critic import ActorCritic, load_agent
from analysis.artefacts import part
from analysis.by_level import interval
from analysis.concepts import VERSION as CONCEPTS_VERSION
from analysis.direction_marks import columns_of, responding, responses, scene_states, unit_of
from analysis.frame_baseline import frame_baseline
from analysis.limits import check_least, fit_sizes
from analysis.probe_bench import Bench, compare, marks, simple_readers
from analysis.probe_data import Study, encoded, episodes_limit, open_study
from analysis.steps import finish_step, open_step, point_latest
from analysis.tuning_precompute import open_bank
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id
from common.words import counted
from generative.compatibility import check_store
from interpret.recurrence import before, relive
from rollouts.scene_bank import SceneBank
from rollouts.store import Rollouts

NAME, VERSION = "emergence", 1
COMMAND = "python -m analysis.emergence_precompute --runs RUN --data_dir STORE --scenes_dir SCENES"


def checkpoints_of(runs: tuple[Path, ...], every: int) -> dict[int, Path]:
    """Checkpoints by the steps of training behind them, those of earlier runs included. Raises UsageError for a directory without any."""
    found, behind = {}, 0
    for run in runs:
        files = {int(file.stem[6:]): file for file in (run / "checkpoints").glob("model_*.safetensors") if file.stem[6:].isdecimal()}
        if not files:
            raise UsageError(f"{run} holds no checkpoints/model_<steps>.safetensors: give a run of train.py, or a published one")
        found |= {behind + steps: file for steps, file in sorted(files.items()) if behind + steps not in found}
        behind += max(files)
    steps = list(found)
    return {step: found[step] for i, step in enumerate(steps) if i % every == 0 or step == steps[-1]}


def frames_read(study: Study, args: Args) -> np.ndarray:
    """What the frame network reads of the study's targets, [n, K], by networks that never saw the layout; NaN at steps that it was not made
    for."""
    wide = open_study(study.rollouts, args.frame_episodes, args.seed, args.out_dir)
    read = frame_baseline(wide, args.frame_episodes, args.epochs, args.seed, args.out_dir, False, choose_precision(args.precision, "cpu"))
    columns = [wide.targets.names.index(name) for name in study.targets.names]
    return read[np.searchsorted(wide.rows, study.rows)][:, columns]


def probed(bench: Bench, agent: ActorCritic, bank: SceneBank, frames: np.ndarray, device, advance) -> dict[str, np.ndarray]:
    """One checkpoint's arrays: those of `probe_bench.compare` for its hidden state, and whether each concept's probe responds ([K]: 1, 0,
    or -1 where that is not defined) with its move [1 + R, K]."""
    study, targets = bench.study, bench.study.targets
    encoder = encoded(agent, study, ("encoder",), device, advance)["encoder"]
    hidden = relive(agent.core, encoder, study.first_step, study.length, device)
    simple = simple_readers(bench, agent, encoder, targets.truth[:, targets.names.index("x")], frames)
    arrays = compare(bench, "hidden", hidden, simple)
    row_of = np.full(len(study.rollouts), -1)
    row_of[study.episodes] = study.first_step
    rows = row_of[bank.columns["episode"]] + bank.columns["step"]
    states = scene_states(agent, bank, before(hidden, study.first_step)[rows], device)
    shown = bank.columns["shown"]

    def scores(x):
        return x @ arrays["weights"].T.astype(np.float32) + arrays["offset"].astype(np.float32)

    moved = responses(unit_of(scores(hidden)).of(scores(states[shown])), columns_of(bank), bank.about["kinds"])
    responds, moves = np.full(len(targets.names), -1), np.full(arrays["value"].shape, np.nan)
    for k, name in enumerate(targets.names):
        found = responding(moved, name)
        if found is not None:
            responds[k], moves[:, k] = found[k], moved[f"{name}/move"][:, k]
    return arrays | marks(arrays, targets.classes) | {"responds": responds, "move": moves}


def within(bank: SceneBank, episodes: np.ndarray) -> SceneBank:
    """The scenes of some episodes. Raises UsageError where there is none."""
    kept = np.flatnonzero(np.isin(bank.columns["episode"], episodes))
    if not len(kept):
        raise UsageError("none of the scenes is from an episode that is shown: take more with --num_episodes")
    columns = {name: column[kept] for name, column in bank.columns.items()}
    return SceneBank(bank.about, columns, bank.frames[kept], [bank.states[i] for i in kept])


def told(study: Study, steps: int, arrays: dict[str, np.ndarray], first: dict[str, np.ndarray]) -> dict:
    """One checkpoint as JSON: every concept's numbers, marks, and its number's difference from the first checkpoint's."""
    entries = {}
    for k, name in enumerate(study.targets.names):
        numbers = {one: interval(arrays[one][:, k], arrays["n"][k]) for one in ("value", "gain", "move")}
        numbers |= {"encoder": interval(arrays["baseline/encoder"][:, k], arrays["n"][k])}
        numbers |= {"learned": interval(arrays["value"][:, k] - first["value"][:, k], arrays["n"][k])}
        found = {mark: bool(arrays[mark][k]) for mark in ("decodable", "beyond")}
        entries[name] = numbers | found | {"responds": None if arrays["responds"][k] < 0 else bool(arrays["responds"][k])}
    return {"steps": steps, "concepts": entries}


def appears(checkpoints: list[dict], name: str) -> dict[str, int | None]:
    """The steps of training from which on, at every later checkpoint, a concept is decodable and read surely better than at the first;
    and from which on it responds. None where it never is."""

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
        raise UsageError(f"--frame_episodes is {args.frame_episodes}, and {args.num_episodes} are shown: give as many or more")
    device, rollouts = choose_device(args.device, args.gpu_device), Rollouts.open(args.data_dir)
    files = checkpoints_of(args.runs, args.every)
    bank = open_bank(args.scenes_dir, rollouts.id)
    for file in files.values():
        check_store(rollouts, *load_agent(file), file)
    args = fit_sizes(args, dict.fromkeys(("num_episodes", "frame_episodes"), episodes_limit(rollouts)))
    study = open_study(rollouts, args.num_episodes, args.seed, args.out_dir)
    bank = within(bank, study.episodes)
    inputs = {"data_dir": rollouts.id, "scenes": file_id(args.scenes_dir / "scenes.h5")}
    inputs |= {f"{steps:09d}": file_id(file) for steps, file in files.items()}
    asked = {name: getattr(args, name) for name in ("num_episodes", "frame_episodes", "epochs", "seed")} | {"concepts": CONCEPTS_VERSION}
    run = open_step(args.out_dir, NAME, VERSION, asked, inputs, args.new, choose_precision(args.precision, device))
    if not run.done:
        bench, frames, found = Bench(study, args.seed), frames_read(study, args), {}
        with progress_bar(total=len(files) * len(study.rows), unit="frame", unit_scale=True, desc="checkpoints") as bar:
            for steps, file in files.items():
                begun, agent = bar.n, load_agent(file, device)[0]
                set_precision(run.precision, agent)
                found[steps] = part(run, f"steps_{steps:09d}", lambda: probed(bench, agent, bank, frames, device, bar.update))
                bar.update(begun + len(study.rows) - bar.n)
        first = found[min(found)]
        checkpoints = [told(study, steps, arrays, first) for steps, arrays in found.items()]
        counts = {"steps": len(study.rows), "episodes": len(study.episodes), "layouts": int(study.groups.max()) + 1, "levels": study.levels}
        counts |= {"pairs": int(bank.columns["shown"].sum()), "scene_layouts": len(np.unique(bank.columns["layout"]))}
        about = {"measures": {name: "AUROC" if one else "R2" for name, one in zip(study.targets.names, study.targets.classes)}}
        about |= {"appears": {name: appears(checkpoints, name) for name in study.targets.names}, "checkpoints": checkpoints}
        finish_step(run, counts | about)
    point_latest(run)
    logging.info("%s: %s; draw them with: python -m analysis.emergence_plotting", counted(len(files), "checkpoint"), run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
