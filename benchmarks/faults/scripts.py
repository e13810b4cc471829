"""The scripts that write, at the smallest sizes that still have every part, each reading the results of
earlier ones.
"""

import importlib
import json
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import torch
from safetensors.torch import save_file

from agents.actor_critic import load_agent
from common.descriptions import read_yaml

KINDS = ("made", "resumed", "short")
"""Run only for what others read; record, train, simulate or convert; analyses, plots and small writers."""
COMMANDS = read_yaml(Path(__file__).with_name("commands.yml"), "restore it")
"""Commands by kind, each after those whose results it reads; `copied`: whose results lie in a script's own
directory before it runs; `left_out`: modules that are not run, and why.
"""
SIMULATOR = "pretrained/coinrun_simulator/model.safetensors"
EXACT = "--precision fp32 --device cpu"
WORDS = {
    "exact": EXACT,
    "simulator": SIMULATOR,
    "simulated": f"--world_model_file {{model}} --agent_file {{agent}} --data_dir {{labelled}} {EXACT}",
    "in_shipped": f"--world_model_file {SIMULATOR} --agent_file {{agent}} --data_dir {{episodes}}",
    "edit": (
        "--swap_directions_from 0 --swap_directions_to None"
        " --direction_files hypotheses/directions.safetensors"
    ),
}
"""Placeholders that stand for words of a command."""
RESULTS = {
    "recorded": ("record", "data/test"),
    "labelled": ("label", "data/test"),
    "episodes": ("episodes_labelled", "data/test"),
    "dreams": ("dreams", "store"),
    "random_dreams": ("random_dreams", "store"),
    "trained": ("train", "model_0.safetensors"),
    "model": ("train_gen_model", "model_*.safetensors"),
    "transformer": ("train_dt", "best.safetensors"),
    "midt": ("convert", "store.h5"),
    "minari": ("convert_minari", "minari"),
    "dt_scores": ("evaluate_dt", "scores.json"),
    "directions": ("hidden_analysis_precompute", "pca.safetensors"),
    "scenes": ("scene_bank", "scene_bank_precomp/*/done.json"),
    "combined": ("combined_agent_env_hx_analysis_precompute", "done.json"),
    "jacobians": ("jacobian_analysis_precompute", "jacobians_precomp/*/done.json"),
    "saliency": ("saliency_exps", "done.json"),
    "errors": ("out", "loss_over_time.json"),
    "card": ("out", "report.json"),
}
"""Placeholders that stand for a result: the script that makes it, or `out` for the own directory,
and the pattern of its path there.
"""
HYPOTHESIS = """
sentence: it dies more
agent: 63636a015eff6222
directions: ea20ff9635a29788
edit: {kind: collapse, directions: [0], mode: state}
scenes: any
steps: 5
event: death
change: rise
smallest_effect: 0.5
kl: 0.05
n: 4
null_points: 2
num_nulls: 19
levels: [10000, 200]
"""
"""About the shipped agent and hypotheses/directions.safetensors."""
PRESET = """
tiny: {n_envs: 4, n_steps: 16, epoch: 1, mini_batch_per_epoch: 2, architecture: nature, feature_size: 16,
  core: gru, hidden_size: 8}
"""


@dataclass
class Script:
    """A script under test.

    Attributes:
        module: what it imports, loaded once before all runs.
        command: its words, given the directory of its results.
        prepare: fills the directory of its results before its first run.
        kind: one of KINDS.
    """

    name: str
    module: str
    command: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]
    kind: str = "resumed"


def use_tiny_preset(directory: Path) -> None:
    """Lets train.py find a preset that is a thousand times smaller than the shipped ones."""
    presets = importlib.import_module("agents.presets")
    shipped = presets.PRESETS.read_text()
    presets.PRESETS = directory / "presets.yml"
    presets.PRESETS.write_text(shipped + PRESET)


def all_scripts(agent: Path, references: Path) -> dict[str, Script]:
    """Every script; it reads the results of earlier ones below `references`/<name>."""
    return {name: _script(name, kind, agent, references) for kind in KINDS for name in COMMANDS[kind]}


def needed(names: Iterable[str]) -> set[str]:
    """These scripts and all whose results they read."""
    found = set()
    for name in names:
        read = {RESULTS[word][0] for word in _results_in(_spelled(name))} | {COMMANDS["copied"].get(name)}
        found |= {name} | needed(read - {None, "out"})
    return found


def _spelled(name: str) -> str:
    """The command of a script, in which only results and its own directory are left open."""
    command = next(COMMANDS[kind][name] for kind in KINDS if name in COMMANDS[kind])
    for word, meaning in WORDS.items():
        command = command.replace(f"{{{word}}}", meaning)
    return command


def _results_in(command: str) -> set[str]:
    return set(re.findall(r"{(\w+)", command)) & RESULTS.keys()


def _script(name: str, kind: str, agent: Path, references: Path) -> Script:
    first = shlex.split(_spelled(name).replace("{", "").replace("}", ""))[:2]

    def command(out: Path) -> list[str]:
        words = shlex.split(_spelled(name))
        found = {word: _found(word, references, out) for word in _results_in(_spelled(name))}
        found |= {"out": out, "agent": agent}
        return [word.format(**found) for word in words]

    def prepare(out: Path) -> None:
        if name in COMMANDS["copied"]:
            source = references / COMMANDS["copied"][name]
            shutil.copytree(source, out, symlinks=True, dirs_exist_ok=True)
        if name == "migrate":
            _as_schema_1(out / "data/test/manifest.json")
        if name == "agents_convert":
            save_file(_state_dict(agent), out / ".source.safetensors")
        if name == "confirm":
            _register(out / "hypotheses")

    module = first[1] if first[0] == "-m" else first[0].removesuffix(".py")
    return Script(name, module, command, prepare, kind)


def _found(word: str, references: Path, out: Path) -> Path:
    """The last result of a kind; any path where there is none yet."""
    maker, pattern = RESULTS[word]
    folder = out if maker == "out" else references / maker
    return max(folder.rglob(pattern), default=folder, key=lambda path: path.name)


def _state_dict(agent: Path) -> dict[str, torch.Tensor]:
    """The weights of an agent, as another project would store them."""
    return {name: x.contiguous() for name, x in load_agent(agent)[0].state_dict().items()}


def _as_schema_1(manifest: Path) -> None:
    """Turns the manifest of a store into that of the first schema, which had no checksum."""
    about = json.loads(manifest.read_text())
    about.pop("sha256")
    manifest.write_text(json.dumps(about | {"schema": 1}))


def _register(folder: Path) -> None:
    """Commits the hypothesis to a new repository, always with the same hash."""
    folder.mkdir()
    (folder / "hypothesis.yaml").write_text(HYPOTHESIS)
    who = {"NAME": "benchmark", "EMAIL": "benchmark@localhost", "DATE": "2000-01-01T00:00:00Z"}
    environment = {
        f"GIT_{role}_{key}": value for role in ("AUTHOR", "COMMITTER") for key, value in who.items()
    }
    for words in (["init", "-q"], ["add", "."], ["commit", "-qm", "register"]):
        subprocess.run(["git", *words], cwd=folder, env=os.environ | environment, check=True)
