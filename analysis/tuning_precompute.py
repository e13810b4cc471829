"""What directions of the hidden state represent: concepts that each score decodes, responses to objects in
constructed scenes, and the recorded steps with the highest, median and lowest scores.

A concept gets two marks (a third, `used`, needs interventions). *decodable*: from the score, on held-out
layouts. *responds*: placing the object in a scene, with the same memory, moves the score, and more than any
other object of that size and distance. Writes numbers to results/tuning_precomp and resumes an unfinished
run; draw them with python -m analysis.tuning_plotting.
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
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts."""
    probes_dir: Path | None = None
    """Finished run of analysis.probes_precompute, for its baselines and directions; default: the latest."""
    directions: Path | None = None
    """File of other directions of the hidden state; default: those of the probes."""
    clips: int = 3
    """Clips per direction with the highest, median and lowest scores, each."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp and receives tuning_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis import probes_precompute
from analysis.io.artefacts import cached_part
from analysis.io.steps import find_step, finish_step, open_step, point_latest, read_numbers, read_part
from analysis.probing.dataset import ProbeDataset, open_probe_dataset
from analysis.probing.direction_selectivity import (
    decode_concepts,
    direction_scores,
    extreme_steps,
    fit_score_scale,
    is_responsive,
    responses,
    scene_states,
    visible_columns,
)
from analysis.probing.store_concepts import VERSION as CONCEPTS_VERSION
from common.precision import choose_precision, set_precision
from common.runs import Run, UsageError, choose_device, file_id, read_config
from common.stats import json_estimate
from generative.compatibility import load_recorder
from interpret.directions.directions import Directions, load_directions
from interpret.directions.stability import labels
from interpret.probing.bench import BASELINES, ProbeBench, decodability
from rollouts.scene_bank import SceneBank
from rollouts.store import Rollouts

NAME = "tuning"
VERSION = 2
COMMAND = "python -m analysis.tuning_precompute --agent_file AGENT --data_dir STORE --scenes_dir SCENES"
CLIP = (-9, -6, -3, 0)
"""Steps of a clip, relative to the step of its score."""


def open_bank(path: Path, store: str) -> SceneBank:
    """The scene bank. Raises UsageError if it was made from another store."""
    bank = SceneBank.open(path)
    if bank.about["store"] != store:
        found = f"the scenes in {path} were made from store {bank.about['store']}, not {store}"
        raise UsageError(f"{found}: make some with python -m analysis.scene_bank")
    return bank


def find_probes(args: Args, store: str, agent: str) -> Path:
    """Directory of the probes. Raises UsageError if missing, stale, or of another store or agent."""
    directory = find_step(
        args.out_dir,
        probes_precompute.NAME,
        probes_precompute.VERSION,
        probes_precompute.COMMAND,
        args.probes_dir,
    )
    found = read_numbers(directory)
    again = f"make them again with: {probes_precompute.COMMAND}"
    if (found["store"], found["agent"]) != (store, agent):
        theirs = f"store {found['store']} and agent {found['agent']}"
        raise UsageError(f"the probes in {directory} are of {theirs}, not {store} and {agent}; {again}")
    if read_config(directory)["concepts"] != CONCEPTS_VERSION:
        raise UsageError(f"the probes in {directory} are stale: concepts have since changed; {again}")
    return directory


def check_directions(directions: Directions, width: int, path: Path) -> None:
    """Raises UsageError for directions that are not of the hidden state."""
    if directions.width != width:
        found = f"{path} holds directions of width {directions.width}, and hidden states have {width}"
        raise UsageError(f"{found}: fit them on hidden states")


def extract_clips(dataset: ProbeDataset, scores: np.ndarray, count: int) -> np.ndarray:
    """Frames [K, 3, count, len(CLIP), H, W, C] up to the `extreme_steps` of each direction.

    Before the beginning of an episode, its first frame is repeated.

    Args:
        dataset: n recorded steps.
        scores: [n, K].
        count: clips of each kind.
    """
    rows = np.stack([extreme_steps(column, dataset.groups, count) for column in scores.T])[..., None]
    shown = np.maximum(rows + np.array(CLIP), rows - dataset.time[rows])
    steps = dataset.rows[shown.ravel()]
    wanted, back = np.unique(steps, return_inverse=True)
    shards = dataset.rollouts.episodes["shard"][dataset.rollouts.step_table()[wanted, 0]]
    begin = 0
    frames = []
    for entry in dataset.rollouts.entries:
        mine = wanted[shards == entry["shard"]]
        if len(mine):
            frames.append(dataset.rollouts.shard(entry["shard"]).rows("obs", mine - begin))
        begin += entry["num_steps"]
    return np.concatenate(frames)[back.reshape(-1)].reshape(*shown.shape, *frames[0].shape[1:])


def compute(
    args: Args,
    probes: Path,
    dataset: ProbeDataset,
    bank: SceneBank,
    directions: Directions,
    agent,
    device,
    run: Run,
) -> dict:
    """Computes scores, responses, decoding and clips as parts of the run; returns the numbers."""
    hidden = dataset.column("hidden_after")
    scores = direction_scores(directions, hidden)
    unit = fit_score_scale(scores)
    bench = ProbeBench(
        dataset.targets, dataset.groups, dataset.folds, dataset.time, read_config(probes)["seed"]
    )
    readers = read_part(probes, "hidden")

    def on_scenes() -> dict[str, np.ndarray]:
        rows = dataset.rollouts.first_step[bank.columns["episode"]] + bank.columns["step"]
        states = scene_states(agent, bank, dataset.rollouts.steps("hidden")[rows], device)
        columns = {name: bank.columns[name] for name in ("kind", "distance", "height", "shown", "level")}
        columns["layout"] = np.unique(bank.columns["layout"], return_inverse=True)[1]
        return columns | {"scores": unit.standardize(direction_scores(directions, states))}

    def decoding() -> dict[str, np.ndarray]:
        found = decode_concepts(bench, scores, np.stack([readers[f"baseline/{name}"] for name in BASELINES]))
        own_file = probes / "directions.safetensors"
        if own_file.exists() and directions.id == load_directions(own_file).id:
            own = [dataset.targets.names.index(name) for name in directions.names]
            found = with_own(found, readers | decodability(readers, dataset.targets.classes), own)
        return found | {"histogram": histogram(unit.standardize(scores))}

    scenes = cached_part(run, "scenes", on_scenes)
    shown = scenes["scores"][scenes["shown"]]
    moved = cached_part(
        run, "responses", lambda: responses(shown, visible_columns(bank), bank.about["kinds"])
    )
    decoded = cached_part(run, "decoding", decoding)
    cached_part(run, "clips", lambda: {"frames": extract_clips(dataset, scores, args.clips)})
    table = table_rows(dataset, directions, decoded, moved, bank.about["kinds"])
    counts = {
        "pairs": len(bank),
        "pairs_shown": int(scenes["shown"].sum()),
        "scene_layouts": len(np.unique(scenes["layout"])),
    }
    about = {
        "agent": file_id(args.agent_file),
        "store": dataset.rollouts.id,
        "directions": directions.id,
        "kinds": bank.about["kinds"],
    }
    counts |= {"steps": len(dataset.rows), "layouts": int(dataset.groups.max()) + 1, "levels": dataset.levels}
    about |= {
        "names": list(directions.names),
        "labels": labels(directions),
        "provenance": directions.provenance,
    }
    return about | counts | {"table": table}


def with_own(found: dict, readers: dict, own: list[int]) -> dict:
    """Replaces the numbers of each direction's own concept by those of its out-of-fold probe.

    The direction itself was fit on all layouts, so its score on them is not held out.

    Args:
        found: from `decode_concepts`.
        readers: arrays of the reader `hidden`.
        own: the concept of each direction [K].
    """
    for k, c in enumerate(own):
        for name, table in found.items():
            table[..., k, c] = readers[name][..., c]
    return found


def histogram(scores: np.ndarray) -> np.ndarray:
    """Histograms [K, 60] of scores [n, K] from -4 to 4 standard deviations, as shares."""
    return np.stack([np.histogram(column, 60, (-4, 4))[0] / len(column) for column in scores.T])


def table_rows(
    dataset: ProbeDataset, directions: Directions, decoded: dict, moved: dict, kinds: list[str]
) -> list[dict]:
    """Table of directions and concepts: one row for each pair, with its marks and their numbers."""
    entries = []
    for c, concept in enumerate(dataset.targets.names):
        responds = is_responsive(moved, concept)
        n = int(np.isfinite(dataset.targets.truth[:, c]).sum())
        for k, name in enumerate(directions.names):
            entry = {
                "direction": name,
                "concept": concept,
                "measure": "AUROC" if dataset.targets.classes[c] else "R2",
            }
            entry |= {mark: json_estimate(decoded[mark][:, k, c], n) for mark in ("value", "gain")}
            entry |= {mark: bool(decoded[mark][k, c]) for mark in ("decodable", "beyond")}
            entry["responds"] = None if responds is None else bool(responds[k])
            if responds is not None:
                entry |= {
                    one: json_estimate(moved[f"{concept}/{one}"][:, k], moved[f"{concept}/n"])
                    for one in ("move", "lead")
                }
                entry["rival"] = kinds[int(moved[f"{concept}/rival"][k])]
            entries.append(entry)
    return entries


def main(args: Args) -> None:
    if args.clips < 1:
        raise UsageError(f"--clips is {args.clips}: give 1 or more")
    device = choose_device(args.device)
    rollouts = Rollouts.open(args.data_dir)
    agent, _ = load_recorder(rollouts, args.agent_file, device)
    agent_id = file_id(args.agent_file)
    probes = find_probes(args, rollouts.id, agent_id)
    path = args.directions or probes / "directions.safetensors"
    if not args.directions and not path.exists():
        reason = read_numbers(probes).get("no_directions")
        raise UsageError(f"the probes in {probes} left no directions ({reason}): give --directions")
    directions = load_directions(path)
    bank = open_bank(args.scenes_dir, rollouts.id)
    check_directions(directions, agent.core.state_size, path)
    inputs = {"agent_file": agent_id, "data_dir": rollouts.id, "directions": directions.id}
    inputs |= {
        "scenes": file_id(args.scenes_dir / "scenes.h5"),
        "probes": file_id(probes / "hidden.safetensors"),
    }
    run = open_step(
        args.out_dir,
        NAME,
        VERSION,
        {"clips": args.clips},
        inputs,
        args.new,
        choose_precision(args.precision, device),
    )
    set_precision(run.precision, agent)
    if not run.done:
        config = read_config(probes)
        dataset = open_probe_dataset(rollouts, config["num_episodes"], config["seed"], args.out_dir)
        finish_step(run, compute(args, probes, dataset, bank, directions, agent, device, run))
    point_latest(run)
    logging.info("tuning: %s; draw it with: python -m analysis.tuning_plotting", run.dir)


if __name__ == "__main__":
    run_main(main, ARGS)
