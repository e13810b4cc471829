"""The whole line, small, on real Procgen: trains, records, simulates, looks inside, and writes report.html.

The machine is timed first, and what is made is sized to end in --minutes. The same command again resumes
with the same sizes.
"""

import math
import sys
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main


@dataclass
class Args:
    env_name: str = "coinrun"
    """The game. CoinRun goes on with the reference agent and simulator of pretrained/; another game with
    those that the demo trains."""
    out: Path | None = None
    """Where everything goes; by default demo/<env_name>."""
    minutes: float = 10.0
    """How long the whole may take on this machine. Kept in the plan, with all sizes: to change it, delete
    plan.json or take another --out."""
    num_timesteps: int | None = None
    """Training steps of the demo's own agent; left out, planned. So too the two below."""
    num_episodes: int | None = None
    """Episodes recorded."""
    num_batches: int | None = None
    """Training batches of the demo's own world model."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.demo_artefacts import Artefacts
from analysis.demo_plan import (
    Cost,
    Sizes,
    Steps,
    described,
    make_plan,
    measure,
    read_plan,
)
from analysis.demo_report import build
from common.runs import UsageError, file_id
from common.stopping import run_command
from envs.procgen import ProcgenConfig

SHIPPED_AGENT = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
SIMULATOR = Path("pretrained/coinrun_simulator/model.safetensors")
SCORED = {"training, 0-199": (0, 200), "unseen, from 250": (250, 1000)}
FIRST_LEVEL, NUM_LEVELS = 100_000, 400_000
OWN_EPISODES = (
    4  # the demo's agent plays one episode for so many of the shipped one's: it plays each four times as long
)
STEPS: Steps = {
    "train an agent": (Cost(1, 6, 1 / 850, "training"), "num_timesteps"),
    "score agents": (Cost(4, 8, 0.08, "playing"), "eval_episodes"),
    "record episodes": (Cost(1, 1, 0.034, "playing"), "num_episodes"),
    "train a world model": (Cost(1, 4, 0.95, "simulating"), "num_batches"),
    "simulate episodes": (Cost(3, 1, 0.08, "simulating"), "num_samples"),
    "map hidden states": (Cost(1, 14, 0, "training"), "num_samples"),
    "gradient maps, with finite differences": (Cost(1, 1, 1.6, "simulating"), "gradient_states"),
    "score world models, and the report": (Cost(0, 15, 0.2, "simulating"), "num_windows"),
}
"""What every game has: the cost of each step, and the size that it grows with."""
COINRUN_STEPS: Steps = {
    "read concepts from the game's state": (Cost(1, 1, 0.027, "playing"), "num_episodes"),
    "probe hidden states": (Cost(1, 6, 0.1, "training"), "probe_episodes"),
    "delete objects in game and simulator": (Cost(1, 4, 0.5, "simulating"), "num_hazards"),
}
"""What CoinRun has besides: a reader of its states, and a trained agent and simulator."""


def run(*command) -> None:
    """Shows and runs one command of the line; a failure ends the demo, and so does a stop, which reaches
    the command too."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    if run_command([sys.executable, *words], f"the demo was in this step: {' '.join(words)}"):
        raise UsageError(
            f"the step above failed; mend it and run the demo again, which goes on from there: "
            f"{' '.join(words)}"
        )


def newest(pattern: str, below: Path) -> Path:
    """The checkpoint with the highest number."""
    return max(below.glob(pattern), key=lambda path: int(path.stem.split("_")[-1]))


def planned(args: Args, out: Path) -> Sizes:
    """The sizes of an earlier run into `out`, or new ones for this machine; shown either way. Raises
    UsageError where flags ask for others."""
    steps = STEPS | (COINRUN_STEPS if args.env_name == "coinrun" else {})
    asked = asked_sizes(args)
    plan = read_plan(out)
    if plan is None:
        print("timing this machine for a few seconds", flush=True)
        plan = make_plan(out, steps, measure(args.env_name, SIMULATOR, SHIPPED_AGENT), args.minutes, asked)
    elif (plan["minutes"], plan["asked"]) != (args.minutes, asked):
        raise UsageError(
            f"{out / 'plan.json'} is of a demo with other --minutes or sizes; give those again, another "
            f"--out, or delete it to plan anew"
        )
    print(described(steps, plan), flush=True)
    return Sizes(**plan["sizes"])


def asked_sizes(args: Args) -> dict[str, int]:
    """The sizes that flags give."""
    given = {name: getattr(args, name) for name in ("num_timesteps", "num_episodes", "num_batches")}
    return {name: size for name, size in given.items() if size is not None}


def main(args: Args) -> None:
    ProcgenConfig(args.env_name)  # refuses an unknown game before any work
    if not 0 < args.minutes < math.inf:  # NaN least of all: no later run would find it equal to that of the plan
        raise UsageError(f"--minutes is {args.minutes:g}: give a number above 0")
    for name, size in asked_sizes(args).items():
        if size < 1:
            raise UsageError(f"--{name} is {size}: give 1 or more")
    out = args.out or Path("demo") / args.env_name
    made = make(args, out, planned(args, out))
    report = build(made, out)
    print(what_next(made))
    print(f"\nreport: {report.resolve()}")


def make(args: Args, out: Path, sizes: Sizes) -> Artefacts:
    """Runs every step of the line that is not done, and says where its results are."""
    coinrun, results = args.env_name == "coinrun", out / "results"
    own = train_agent(args, out, sizes)
    agent = SHIPPED_AGENT if coinrun else own
    scores = score_agents(out, sizes, own, agent)
    name = f"demo_{file_id(agent)}"
    levels = ("--start_level", FIRST_LEVEL, "--num_levels", NUM_LEVELS, "--num_episodes", sizes.num_episodes)
    run(
        "record.py",
        "--env_name",
        args.env_name,
        "--exp_name",
        name,
        "--model_file",
        agent,
        *levels,
        "--out_dir",
        out,
    )
    recording = out / "data" / name
    with_agent = ("--agent_file", agent, "--data_dir", recording)
    flags = (
        "--gen_mod_exp_name",
        name,
        "--interpreting_params_name",
        "tiny",
        "--num_batches",
        sizes.num_batches,
        "--batch_size",
        8,
    )
    run("train_gen_model.py", *with_agent, *flags, "--out_dir", out / "world_model")
    own_model = newest("*/model_*.safetensors", out / "world_model" / name)
    model = SIMULATOR if coinrun else own_model
    informed = {
        path: simulate(out, sizes, path, agent, recording) for path in dict.fromkeys((model, own_model))
    }
    random = simulate(out, sizes, model, agent)
    both = ("--data_dir", recording, "--sim_data_dir", informed[model], "--out_dir", results)
    fits = (
        "--methods",
        "pca",
        "--draws",
        0,
        "--maps",
        "tsne",
        "--points",
        4000,
        "--clusters",
        8,
        "--followed",
        8,
    )
    run("-m", "analysis.hidden_analysis_precompute", *both, *fits)
    gradients = ("--num_states", sizes.gradient_states, "--steps", 2, "--out_dir", results)
    run("-m", "analysis.frame_gradients", "--model_file", model, *with_agent, *gradients)
    if coinrun:
        run("-m", "analysis.concepts_precompute", "--data_dir", recording, "--out_dir", results)
        probed = ("--num_episodes", sizes.probe_episodes, "--epochs", 1, "--out_dir", results)
        run("-m", "analysis.probes_precompute", "--model_file", agent, "--data_dir", recording, *probed)
        deleted = (
            "--num_hazards",
            sizes.num_hazards,
            "--hazard_draws",
            4,
            "--num_moments",
            8,
            "--draws",
            2,
            "--hold",
            1,
        )
        run(
            "-m",
            "analysis.real_check",
            "--model_file",
            model,
            *with_agent,
            "--part",
            "all",
            *deleted,
            "--out_dir",
            results,
        )
    return Artefacts(
        args.env_name,
        own,
        agent,
        scores,
        recording,
        own_model,
        model,
        informed[own_model],
        informed[model],
        random,
        results,
        sizes.num_windows,
    )


def train_agent(args: Args, out: Path, sizes: Sizes) -> Path:
    """The demo's own agent."""
    training = (
        "--param_name",
        "demo",
        "--num_levels",
        200,
        "--num_timesteps",
        sizes.num_timesteps,
        "--eval_episodes",
        16,
    )
    run("train.py", "--env_name", args.env_name, "--exp_name", "demo", *training, "--out_dir", out / "logs")
    return newest("*/model_*.safetensors", out / "logs" / "procgen" / args.env_name / "demo")


def score_agents(out: Path, sizes: Sizes, own: Path, agent: Path) -> dict[str, dict[str, Path]]:
    """{which agent: {which levels: its scores}}: of the demo's own, and of the shipped one where the game
    has it."""
    agents = {"the demo's": (own, max(sizes.eval_episodes // OWN_EPISODES, 1))}
    if agent != own:
        agents["shipped"] = (agent, sizes.eval_episodes)
    scores = {}
    for who, (path, episodes) in agents.items():
        scores[who] = {}
        for levels, (start, count) in SCORED.items():
            scores[who][levels] = out / f"scores_{file_id(path)}_{start}.json"
            where = ("--start_level", start, "--num_levels", count, "--num_episodes", episodes)
            run("evaluate.py", "--model_file", path, *where, "--output", scores[who][levels])
    return scores


def simulate(out: Path, sizes: Sizes, model: Path, agent: Path, recording: Path | None = None) -> Path:
    """Simulated episodes from recorded frames, or from random latents."""
    start = ("--data_dir", recording) if recording else ("--rand_init",)
    there = out / f"{'informed' if recording else 'random'}_{file_id(model)}"
    flags = ("--num_samples", sizes.num_samples, "--generated_data_dir", there)
    run("record_gen_samples.py", "--model_file", model, "--agent_file", agent, *start, *flags)
    return there


def what_next(made: Artefacts) -> str:
    """The names that the README's sequence takes, for what the demo has made."""
    named = {
        "AGENT": made.agent_file,
        "MODEL": made.model_file,
        "DATA": made.recording,
        "DISCOVERY": made.recording,
    }
    lines = [f"{name}={path}" for name, path in named.items()]
    if made.shipped:
        lines.append(
            "python -m analysis.report_card --model_file $MODEL --agent_file $AGENT --data_dir $DATA"
        )
        lines.append(f"python -m analysis.probes_plotting --out_dir {made.results}")
    lines.append(f"python analysis/hidden_analysis_plotting.py --out_dir {made.results}")
    told = "\nWhat next: the README's sequence, on what the demo has made; python -m analysis.status says what there is."
    return "\n".join([told, *(f"  {line}" for line in lines)])


if __name__ == "__main__":
    run_main(main, ARGS)
