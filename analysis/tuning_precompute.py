"""What directions of the hidden state are about: scores on made scenes with an object at 0 to 7 tiles and without it, the concepts that
each score decodes alone, and the recorded moments at which it is highest, middling and lowest.

A concept gets two marks (a third, `used`, needs interventions): *decodable*, from the score on other layouts; *responds*, where putting the
object there, with the same memory, moves the score, and more than any other object of that size and distance. Numbers go to
results/tuning_precomp; python -m analysis.tuning_plotting draws them; the same command again goes on where it was.
"""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main


@dataclass
class Args:
    model_file: Path
    """The agent, which recorded the store."""
    scenes_dir: Path
    """A scene bank that was made from this store (python -m analysis.scene_bank)."""
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    probes_dir: Path | None = None
    """A finished run of analysis.probes_precompute on this store: its baselines are compared with, its directions are the default. Left
    out, the latest."""
    directions: Path | None = None
    """Other directions of the hidden state: a file that a fit has saved."""
    clips: int = 3
    """Moments per direction that are kept at the top, in the middle and at the bottom."""
    out_dir: Path = Path("results")
    """Where concepts_precomp is, and tuning_precomp is written."""
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

from agents.actor_critic import load_agent
from analysis import probes_precompute
from analysis.artefacts import part
from analysis.by_level import interval
from analysis.concepts import VERSION as CONCEPTS_VERSION
from analysis.direction_marks import columns_of, decodes, extremes, responding, responses, scene_states, scores_of, unit_of
from analysis.probe_bench import BASELINES, Bench, marks
from analysis.probe_data import Study, open_study
from analysis.steps import finish_step, find_step, open_step, point_latest, read_numbers, read_part
from common.precision import choose_precision, set_precision
from common.runs import Run, UsageError, choose_device, file_id, read_config
from generative.compatibility import check_store, recorded_by
from interpret.directions import Directions, load_directions
from interpret.stability import labels
from rollouts.scene_bank import SceneBank
from rollouts.store import Rollouts

NAME, VERSION = "tuning", 1
COMMAND = "python -m analysis.tuning_precompute --model_file AGENT --data_dir STORE --scenes_dir SCENES"
CLIP = (-9, -6, -3, 0)
"""Steps of a clip, counted from the moment that it is about."""


def open_bank(path: Path, store: str) -> SceneBank:
    """A scene bank of that store. Raises UsageError for another's."""
    bank = SceneBank.open(path)
    if bank.about["store"] != store:
        found = f"the scenes in {path} were made from store {bank.about['store']}, not {store}"
        raise UsageError(f"{found}: make some with python -m analysis.scene_bank")
    return bank


def find_probes(args: Args, store: str, agent: str) -> Path:
    """The probes of that store and agent. Raises UsageError for those that are missing, stale or of others."""
    directory = find_step(args.out_dir, probes_precompute.NAME, probes_precompute.VERSION, probes_precompute.COMMAND, args.probes_dir)
    found, again = read_numbers(directory), f"make them again with: {probes_precompute.COMMAND}"
    if (found["store"], found["agent"]) != (store, agent):
        theirs = f"store {found['store']} and agent {found['agent']}"
        raise UsageError(f"the probes in {directory} are of {theirs}, not {store} and {agent}; {again}")
    if read_config(directory)["concepts"] != CONCEPTS_VERSION:
        raise UsageError(f"the probes in {directory} are stale: concepts are defined otherwise by now; {again}")
    return directory


def check_directions(directions: Directions, width: int, path: Path) -> None:
    """Raises UsageError for directions of another space than the hidden state."""
    if directions.width != width:
        raise UsageError(f"{path} holds directions of width {directions.width}, and hidden states have {width}: fit them on hidden states")


def clips_of(study: Study, scores: np.ndarray, count: int) -> np.ndarray:
    """Frames [K, 3, count, len(CLIP), H, W, C] around the moments of each direction; before an episode begins its first frame again."""
    rows = np.stack([extremes(column, study.groups, count) for column in scores.T])[..., None]
    shown = np.maximum(rows + np.array(CLIP), rows - study.time[rows])
    steps = study.rows[shown.ravel()]
    wanted, back = np.unique(steps, return_inverse=True)
    shards = study.rollouts.episodes["shard"][study.rollouts.step_table()[wanted, 0]]
    begin, frames = 0, []
    for entry in study.rollouts.entries:
        mine = wanted[shards == entry["shard"]]
        if len(mine):
            frames.append(study.rollouts.shard(entry["shard"]).rows("obs", mine - begin))
        begin += entry["num_steps"]
    return np.concatenate(frames)[back.reshape(-1)].reshape(*shown.shape, *frames[0].shape[1:])


def compute(args: Args, probes: Path, study: Study, bank: SceneBank, directions: Directions, agent, device, run: Run) -> dict:
    """Scores, responses, decoding and clips as parts of the run, and the table of marks."""
    hidden = study.column("hidden_after")
    scores = scores_of(directions, hidden)
    unit = unit_of(scores)
    bench, readers = Bench(study, read_config(probes)["seed"]), read_part(probes, "hidden")

    def on_scenes() -> dict[str, np.ndarray]:
        rows = study.rollouts.first_step[bank.columns["episode"]] + bank.columns["step"]
        states = scene_states(agent, bank, study.rollouts.steps("hidden")[rows], device)
        told = {name: bank.columns[name] for name in ("kind", "distance", "height", "shown", "level")}
        told["layout"] = np.unique(bank.columns["layout"], return_inverse=True)[1]
        return told | {"scores": unit.of(scores_of(directions, states))}

    def decoding() -> dict[str, np.ndarray]:
        found = decodes(bench, scores, np.stack([readers[f"baseline/{name}"] for name in BASELINES]))
        own_file = probes / "directions.safetensors"
        if own_file.exists() and directions.id == load_directions(own_file).id:
            own = [study.targets.names.index(name) for name in directions.names]
            found = with_own(found, readers | marks(readers, study.targets.classes), own)
        return found | {"histogram": histogram(unit.of(scores))}

    scenes = part(run, "scenes", on_scenes)
    shown = scenes["scores"][scenes["shown"]]
    moved = part(run, "responses", lambda: responses(shown, columns_of(bank), bank.about["kinds"]))
    decoded = part(run, "decoding", decoding)
    part(run, "clips", lambda: {"frames": clips_of(study, scores, args.clips)})
    table = rows_of(study, directions, decoded, moved, bank.about["kinds"])
    counts = {"pairs": len(bank), "pairs_shown": int(scenes["shown"].sum()), "scene_layouts": len(np.unique(scenes["layout"]))}
    about = {"agent": file_id(args.model_file), "store": study.rollouts.id, "directions": directions.id, "kinds": bank.about["kinds"]}
    counts |= {"steps": len(study.rows), "layouts": int(study.groups.max()) + 1, "levels": study.levels}
    about |= {"names": list(directions.names), "labels": labels(directions), "provenance": directions.provenance}
    return about | counts | {"table": table}


def with_own(found: dict, readers: dict, own: list[int]) -> dict:
    """What `decodes` found, with the numbers of the probes' own concepts own [K] in place of those of their scores, which knew all
    layouts."""
    for k, c in enumerate(own):
        for name, table in found.items():
            table[..., k, c] = readers[name][..., c]
    return found


def histogram(scores: np.ndarray) -> np.ndarray:
    """[K, 60]: shares of recorded states by score, from -4 to 4 standard deviations."""
    return np.stack([np.histogram(column, 60, (-4, 4))[0] / len(column) for column in scores.T])


def rows_of(study: Study, directions: Directions, decoded: dict, moved: dict, kinds: list[str]) -> list[dict]:
    """The table of directions and concepts: one entry for each pair, with its marks and their numbers."""
    entries = []
    for c, concept in enumerate(study.targets.names):
        responds, n = responding(moved, concept), int(np.isfinite(study.targets.truth[:, c]).sum())
        for k, name in enumerate(directions.names):
            entry = {"direction": name, "concept": concept, "measure": "AUROC" if study.targets.classes[c] else "R2"}
            entry |= {mark: interval(decoded[mark][:, k, c], n) for mark in ("value", "gain")}
            entry |= {mark: bool(decoded[mark][k, c]) for mark in ("decodable", "beyond")}
            entry["responds"] = None if responds is None else bool(responds[k])
            if responds is not None:
                entry |= {one: interval(moved[f"{concept}/{one}"][:, k], moved[f"{concept}/n"]) for one in ("move", "lead")}
                entry["rival"] = kinds[int(moved[f"{concept}/rival"][k])]
            entries.append(entry)
    return entries


def main(args: Args) -> None:
    if args.clips < 1:
        raise UsageError(f"--clips is {args.clips}: give 1 or more")
    device, rollouts = choose_device(args.device, args.gpu_device), Rollouts.open(args.data_dir)
    agent, meta = load_agent(args.model_file, device)
    check_store(rollouts, agent, meta, args.model_file)
    agent_id = file_id(args.model_file)
    if not recorded_by(rollouts, agent_id):
        raise UsageError(f"{args.data_dir} was recorded by another agent than {args.model_file}; record with this one")
    probes = find_probes(args, rollouts.id, agent_id)
    path = args.directions or probes / "directions.safetensors"
    if not args.directions and not path.exists():
        raise UsageError(f"the probes in {probes} left no directions ({read_numbers(probes).get('no_directions')}): give --directions")
    directions, bank = load_directions(path), open_bank(args.scenes_dir, rollouts.id)
    check_directions(directions, agent.core.state_size, path)
    inputs = {"model_file": agent_id, "data_dir": rollouts.id, "directions": directions.id}
    inputs |= {"scenes": file_id(args.scenes_dir / "scenes.h5"), "probes": file_id(probes / "hidden.safetensors")}
    run = open_step(args.out_dir, NAME, VERSION, {"clips": args.clips}, inputs, args.new, choose_precision(args.precision, device))
    set_precision(run.precision, agent)
    if not run.done:
        config = read_config(probes)
        study = open_study(rollouts, config["num_episodes"], config["seed"], args.out_dir)
        finish_step(run, compute(args, probes, study, bank, directions, agent, device, run))
    point_latest(run)
    logging.info("tuning: %s; draw it with: python -m analysis.tuning_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
