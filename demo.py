"""The whole line, small, on real Procgen: trains, evaluates, records, trains a world model, simulates, and writes report.html."""

import sys
from dataclasses import dataclass
from pathlib import Path

from analysis.demo_report import Artefacts, build
from common.cli import run_script
from common.runs import UsageError, file_id
from common.stopping import run_command
from envs.procgen import ProcgenConfig

PRETRAINED = Path("pretrained/coinrun_easy_200")
SIMULATOR = Path("pretrained/coinrun_simulator/model.safetensors")


@dataclass
class Args:
    env_name: str = "coinrun"
    """The game. CoinRun goes on with the reference agent and simulator of pretrained/; another game with those that the demo trains."""
    out: Path | None = None
    """Where everything goes; by default demo/<env_name>."""
    num_timesteps: int = 32_768
    """Training steps of the demo's own agent."""
    num_episodes: int = 400
    """Episodes recorded for the world model."""
    num_batches: int = 100
    """Training batches of the demo's own world model."""


def run(*command) -> None:
    """Shows and runs one command of the line; a failure ends the demo, and so does a stop, which reaches the command too."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    if run_command([sys.executable, *words], f"the demo was in this step: {' '.join(words)}"):
        raise UsageError(f"the step above failed; mend it and run the demo again, which goes on from there: {' '.join(words)}")


def newest(pattern: str, below: Path) -> Path:
    """The checkpoint with the highest number."""
    return max(below.glob(pattern), key=lambda path: int(path.stem.split("_")[-1]))


def main(args: Args) -> None:
    ProcgenConfig(args.env_name)  # refuses an unknown game before any work
    out = args.out or Path("demo") / args.env_name
    game = ("--env_name", args.env_name)
    training = ("--param_name", "demo", "--num_levels", 200, "--num_timesteps", args.num_timesteps, "--eval_episodes", 32)
    run("train.py", *game, "--exp_name", "demo", *training, "--logdir", out / "logs")
    trained = out / "logs" / "procgen" / args.env_name / "demo"
    agent = PRETRAINED / "seed_0_finished" / "model.safetensors" if args.env_name == "coinrun" else newest("*/model_*.safetensors", trained)
    run("plot_training_csv.py", "--datapath", PRETRAINED if args.env_name == "coinrun" else trained, "--output", out / "curves")
    scores = {"training (0-199)": (0, 200), "unseen (from 250)": (250, 200)}
    for start, num in scores.values():
        levels = ("--start_level", start, "--num_levels", num, "--num_episodes", num)
        run("evaluate.py", "--model_file", agent, *levels, "--output", out / f"scores_{start}.json")
    levels = ("--start_level", 100_000, "--num_levels", 400_000, "--num_episodes", args.num_episodes)
    name = f"demo_{file_id(agent)}"
    run("record.py", *game, "--exp_name", name, "--model_file", agent, *levels, "--logdir", out)
    recording = out / "data" / name
    run("-m", "rollouts.inspect_store", recording, "--check", "--replay", 16)
    model_flags = ("--gen_mod_exp_name", name, "--interpreting_params_name", "tiny", "--num_batches", args.num_batches)
    run("train_gen_model.py", "--agent_file", agent, "--data_dir", recording, *model_flags, "--logdir", out / "world_model")
    model = SIMULATOR if args.env_name == "coinrun" else newest("*/model_*.safetensors", out / "world_model" / name)
    stores = {"informed": ("--data_dir", recording), "random": ("--rand_init",)}
    for store, flags in stores.items():
        there = ("--generated_data_dir", out / f"{store}_{file_id(model)}")
        run("record_gen_samples.py", "--model_file", model, "--agent_file", agent, *flags, "--num_samples", 128, *there)
    informed, random = (out / f"{store}_{file_id(model)}" for store in stores)
    scored = {name: out / f"scores_{start}.json" for name, (start, _) in scores.items()}
    made = Artefacts(args.env_name, agent, out / "curves" / "plot_for_fig.png", scored, recording, model, informed, random)
    print(f"\nreport: {build(made, out).resolve()}")


if __name__ == "__main__":
    run_script(main, Args, __doc__)
