"""The scripts that write, at the smallest sizes that still have every part, each reading the results of
earlier ones.
"""

import importlib
import os
import shlex
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

EXACT = "--precision fp32 --device cpu"
SIMULATOR = f"--world_model_file {{model}} --agent_file {{agent}} --data_dir {{labelled}} {EXACT}"
COMMANDS = {
    "train": (
        "train.py --param_name tiny --env_name dodgeball --num_levels 5 --num_timesteps 256"
        " --num_checkpoints 2 --eval_every 128 --eval_episodes 2 --save_every 64 --num_threads 1"
        f" {EXACT} --out_dir {{out}}"
    ),
    "record": (
        "record.py --num_episodes 12 --episodes_per_shard 3 --num_envs 3 --num_threads 1 --start_level 10000"
        f" --num_levels 200 --agent_file {{agent}} {EXACT} --out_dir {{out}}"
    ),
    "label": "label.py --num_threads 1 --data_dir {out}/store",
    "train_gen_model": (
        "train_gen_model.py --interpreting_params_name tiny --num_batches 5 --batch_size 2 --log_interval 1"
        f" --save_interval 2 --num_sim_steps 4 --agent_file {{agent}} --data_dir {{labelled}} {EXACT}"
        " --out_dir {out}"
    ),
    "record_gen_samples": (
        "record_gen_samples.py --num_samples 12 --num_sim_steps 6 --batch_size 2"
        f" {SIMULATOR} --out_dir {{out}}/store"
    ),
    "record_informinit_gen_samples": (
        "record_informinit_gen_samples.py --num_samples 8 --num_sim_steps 6 --batch_size 2"
        f" {SIMULATOR} --out_dir {{out}}/store"
    ),
    "interpolation_exp": (
        f"interpolation_exp.py --num_pairs 3 --num_points 2 --num_sim_steps 3 {SIMULATOR} --out_dir {{out}}"
    ),
    "saliency_exps": (
        "saliency_exps.py --sample_ids 0 to 6 --draws 1 --num_sim_steps 4 --step 3 --batch_size 2"
        f" {SIMULATOR} --out_dir {{out}}"
    ),
    "target_function_exps": (
        "target_function_exps.py --num_starts 2 --start_pool 2 --num_iterations 4 --num_rollouts 1"
        " --eval_every 2 --eval_rollouts 2 --report_rollouts 2 --num_moments 20 --num_shown 1"
        f" --num_sim_steps 5 --step 2 {SIMULATOR} --out_dir {{out}}"
    ),
    "loss_over_time_exp": (
        "loss_over_time_exp.py --part train --num_batches 2 --batch_size 2 --num_sim_steps 4"
        f" {SIMULATOR} --out_dir {{out}}"
    ),
    "train_dt": (
        "train_dt.py --param_name tiny --num_batches 6 --batch_size 4 --save_interval 2 --log_interval 1"
        f" --train_split 0.5 --data_dir {{labelled}} --agent_file {{agent}} {EXACT} --out_dir {{out}}"
    ),
    "evaluate": (
        "evaluate.py --num_levels 4 --num_episodes 4 --num_envs 4 --num_threads 1 --agent_file {agent}"
        f" {EXACT} --out_file {{out}}/scores.json"
    ),
    "evaluate_dt": (
        "evaluate_dt.py --num_levels 2 --num_episodes 2 --num_envs 2 --target_returns 0 10 --num_threads 1"
        f" --dt_file {{transformer}} {EXACT} --out_file {{out}}/scores.json"
    ),
    "hidden_analysis_precompute": (
        "-m analysis.hidden_analysis_precompute --methods pca ica --points 200 --clusters 4 --components 4"
        " --counts 2 4 --draws 0 --maps --path_episodes 2 --num_threads 1 --data_dir {labelled}"
        " --out_dir {out}"
    ),
    "confirm": (
        "confirm.py {out}/hypotheses/hypothesis.yaml --directions hypotheses/directions.safetensors"
        " --batch_size 4 --num_threads 1 --world_model_file {model} --agent_file {agent}"
        f" --data_dir {{labelled}} {EXACT} --out_dir {{out}}"
    ),
    "convert": "convert.py --source {recorded} --target {out}/store.h5 --format midt",
}
"""Commands in an order in which each finds what it reads."""
RESULTS = {
    "recorded": ("record", "data/test"),
    "labelled": ("label", "store"),
    "model": ("train_gen_model", "model_*.safetensors"),
    "transformer": ("train_dt", "best.safetensors"),
}
"""Placeholder of the commands -> script that makes it, and pattern of its path below that one's results."""
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
    """

    name: str
    module: str
    command: Callable[[Path], list[str]]
    prepare: Callable[[Path], None]


def use_tiny_preset(directory: Path) -> None:
    """Lets train.py find a preset that is a thousand times smaller than the shipped ones."""
    presets = importlib.import_module("agents.presets")
    shipped = presets.PRESETS.read_text()
    presets.PRESETS = directory / "presets.yml"
    presets.PRESETS.write_text(shipped + PRESET)


def all_scripts(agent: Path, references: Path) -> dict[str, Script]:
    """Every script; it reads the results of earlier ones below `references`/<name>."""
    return {name: _script(name, agent, references) for name in COMMANDS}


def _script(name: str, agent: Path, references: Path) -> Script:
    first = shlex.split(COMMANDS[name])[:2]

    def found(maker: str, pattern: str) -> Path:
        return max((references / maker).rglob(pattern), default=references, key=lambda path: path.name)

    def command(out: Path) -> list[str]:
        made = {placeholder: found(*where) for placeholder, where in RESULTS.items()}
        return shlex.split(COMMANDS[name].format(out=out, agent=agent, **made))

    def prepare(out: Path) -> None:
        if name == "label":  # writes into the store
            shutil.copytree(found(*RESULTS["recorded"]), out / "store")
        if name == "confirm":
            _register(out / "hypotheses")

    return Script(name, first[1] if first[0] == "-m" else first[0].removesuffix(".py"), command, prepare)


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
