"""The commands of the demo: each function runs one step of the pipeline as a user would."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path

from analysis.demo_report.demo_results import SALIENCY, TARGET_RUNS, DemoResults
from analysis.demo_report.plan import Sizes, is_small
from analysis.io.steps import LATEST
from common.checkpoints import write_json
from common.child_processes import run_command
from common.runs import UsageError, file_id
from interpret.interventions.hypothesis import read_hypothesis

SHIPPED_AGENT = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
SHIPPED_SIMULATOR = Path("pretrained/coinrun_simulator/model.safetensors")
SHIPPED_DT = Path("pretrained/coinrun_decision_transformer/dt/model.safetensors")
SHIPPED_CLONE = Path("pretrained/coinrun_decision_transformer/clone/model.safetensors")
SCORED_LEVELS = {"training, 0-199": (0, 200), "unseen, from 250": (250, 1000)}
"""{name: first level and number of levels} on which agents are scored."""
FIRST_LEVEL = 100_000
NUM_LEVELS = 400_000
OWN_EPISODES = 4
"""Episodes of the shipped agent per episode of the demo's own, whose episodes are about as much longer."""

TARGET = "increase_action_left"
HYPOTHESIS = Path("hypotheses/saw.yaml")
"""The registered hypothesis whose edit the demo shows."""
PUSH = 0.9
"""Strength of that edit: about its registered dose."""


@dataclass(frozen=True)
class Demo:
    """A run of the demo: its game, its directory and its sizes."""

    env_name: str
    out: Path
    sizes: Sizes

    @property
    def is_coinrun(self) -> bool:
        """CoinRun has a shipped agent, a shipped simulator and a reader of its states."""
        return self.env_name == "coinrun"

    @property
    def artefacts(self) -> Path:
        """Directory of the analyses' artefacts."""
        return self.out / "results"

    @property
    def dt_scores(self) -> Path | None:
        """Scores of the shipped Decision Transformer, which plays CoinRun."""
        return self.out / "dt_scores.json" if self.is_coinrun else None

    @property
    def panel(self) -> Path:
        """Page to look through the saliency maps, next to the report."""
        return self.out / "saliency_panel.html"


def run_pipeline(demo: Demo) -> DemoResults:
    """Runs every step that is not finished, and returns where the results are."""
    own_agent = train_agent(demo)
    agent = SHIPPED_AGENT if demo.is_coinrun else own_agent
    scores = score_agents(demo, own_agent, agent)
    recording = record_episodes(demo, agent)
    label_frames(recording)
    own_model = train_world_model(demo, agent, recording)
    model = SHIPPED_SIMULATOR if demo.is_coinrun else own_model
    simulations = {path: simulate(demo, path, agent, recording) for path in dict.fromkeys((model, own_model))}
    random_simulations = simulate(demo, model, agent)
    analyse(demo, agent, model, recording, simulations[model])
    return DemoResults(
        env_name=demo.env_name,
        own_agent=own_agent,
        agent_file=agent,
        scores=scores,
        recording=recording,
        own_model=own_model,
        world_model_file=model,
        own_simulations=simulations[own_model],
        simulations=simulations[model],
        random_simulations=random_simulations,
        artefacts=demo.artefacts,
        panel=demo.panel,
        num_windows=demo.sizes.num_windows,
        small_n=is_small(demo.sizes),
        dt_scores=demo.dt_scores,
    )


def analyse(demo: Demo, agent: Path, model: Path, recording: Path, simulation: Path) -> None:
    """The analyses of the report; those that read the game's state only for CoinRun."""
    map_hidden_states(demo, recording, simulation)
    compute_gradient_maps(demo, agent, model, recording)
    map_saliency(demo, agent, model, recording)
    optimise_latents(demo, agent, model, recording)
    if demo.is_coinrun:
        check_saliency(demo, agent, model, recording)
        probe_hidden_states(demo, agent, recording)
        delete_hazards(demo, agent, model, recording)
        push_direction(demo, agent, model, recording)
        play_decision_transformer(demo, agent, recording)


def train_agent(demo: Demo) -> Path:
    """The demo's own agent."""
    sizes = ("--num_levels", 200, "--num_timesteps", demo.sizes.num_timesteps, "--eval_episodes", 16)
    where = ("--env_name", demo.env_name, "--exp_name", "demo", "--out_dir", demo.out / "logs")
    run("train.py", *where, "--param_name", "demo", *sizes)
    return latest_checkpoint(demo.out / "logs" / "procgen" / demo.env_name / "demo")


def score_agents(demo: Demo, own_agent: Path, agent: Path) -> dict[str, dict[str, Path]]:
    """{agent: {levels: scores JSON}} of the demo's own agent and of the shipped one."""
    agents = {"the demo's": (own_agent, max(demo.sizes.eval_episodes // OWN_EPISODES, 1))}
    if agent != own_agent:
        agents["shipped"] = (agent, demo.sizes.eval_episodes)
    scores: dict[str, dict[str, Path]] = {}
    for name, (path, episodes) in agents.items():
        scores[name] = {}
        for levels, (start, count) in SCORED_LEVELS.items():
            target = demo.out / f"scores_{file_id(path)}_{start}.json"
            played = ("--start_level", start, "--num_levels", count, "--num_episodes", episodes)
            run("evaluate.py", "--agent_file", path, *played, "--out_file", target)
            scores[name][levels] = target
    return scores


def record_episodes(demo: Demo, agent: Path) -> Path:
    """Real episodes of the agent on levels it was not trained on."""
    name = experiment_name(agent)
    levels = ("--start_level", FIRST_LEVEL, "--num_levels", NUM_LEVELS)
    size = ("--num_episodes", demo.sizes.num_episodes)
    where = ("--env_name", demo.env_name, "--exp_name", name, "--out_dir", demo.out)
    run("record.py", *where, "--agent_file", agent, *levels, *size)
    return demo.out / "data" / name


def label_frames(recording: Path) -> None:
    """The truth behind the recorded frames, from which the demo's world model learns where they lie."""
    run("label.py", "--data_dir", recording)


def train_world_model(demo: Demo, agent: Path, recording: Path) -> Path:
    """The demo's own world model."""
    name = experiment_name(agent)
    inputs = ("--agent_file", agent, "--data_dir", recording)
    sizes = ("--num_batches", demo.sizes.num_batches, "--batch_size", 8)
    where = ("--gen_mod_exp_name", name, "--out_dir", demo.out / "world_model")
    run("train_gen_model.py", *inputs, *where, "--interpreting_params_name", "tiny", *sizes)
    return latest_checkpoint(demo.out / "world_model" / name)


def simulate(demo: Demo, model: Path, agent: Path, recording: Path | None = None) -> Path:
    """Simulated episodes that start from recorded frames, or from random latents without a recording."""
    start = ("--data_dir", recording) if recording else ("--rand_init",)
    target = demo.out / f"{'informed' if recording else 'random'}_{file_id(model)}"
    inputs = ("--world_model_file", model, "--agent_file", agent)
    run(
        "record_gen_samples.py",
        *inputs,
        *start,
        "--num_samples",
        demo.sizes.num_samples,
        "--out_dir",
        target,
    )
    return target


def map_hidden_states(demo: Demo, recording: Path, simulation: Path) -> None:
    """A t-SNE map of real hidden states, with simulated ones projected onto it."""
    inputs = ("--data_dir", recording, "--sim_data_dir", simulation, "--out_dir", demo.artefacts)
    fits = ("--methods", "pca", "--draws", 0, "--maps", "tsne")
    sizes = ("--points", 4000, "--clusters", 8, "--path_episodes", 8)
    run("-m", "analysis.hidden_analysis_precompute", *inputs, *fits, *sizes)


def compute_gradient_maps(demo: Demo, agent: Path, model: Path, recording: Path) -> None:
    """Gradients of the value with respect to frames, with finite differences."""
    inputs = ("--world_model_file", model, "--agent_file", agent, "--data_dir", recording)
    sizes = ("--num_states", demo.sizes.gradient_states, "--steps", 2)
    run("-m", "analysis.frame_gradients", *inputs, *sizes, "--out_dir", demo.artefacts)


def map_saliency(demo: Demo, agent: Path, model: Path, recording: Path) -> None:
    """Saliency maps through the simulator, with and without gradients of actions, and a page to look through
    them.
    """
    inputs = ("--world_model_file", model, "--agent_file", agent, "--data_dir", recording)
    samples = ("--sample_ids", 0, "to", demo.sizes.saliency_samples, "--draws", 1, "--env_gradients_demo")
    run("saliency_exps.py", *inputs, *samples, "--out_dir", demo.artefacts / SALIENCY)
    found = ("--saliency_dir", demo.artefacts / SALIENCY / LATEST, "--out_file", demo.panel)
    run("-m", "analysis.saliency_panel", *found, "--nmf_components", 3, "--draws", 0)


def check_saliency(demo: Demo, agent: Path, model: Path, recording: Path) -> None:
    """The benchmark of saliency maps, with coarser maps: objects are deleted in the real game."""
    inputs = ("--world_model_file", model, "--agent_file", agent, "--data_dir", recording, "--part", "all")
    maps = ("--smooth_draws", 4, "--ig_steps", 16, "--stride", 8)
    sizes = ("--num_states", demo.sizes.saliency_states, "--randomised_states", 4, "--fork_draws", 2)
    run("-m", "analysis.saliency_truth_precompute", *inputs, *maps, *sizes, "--out_dir", demo.artefacts)


def optimise_latents(demo: Demo, agent: Path, model: Path, recording: Path) -> None:
    """Latents that make the agent go left, against the best of as many simulations."""
    inputs = ("--world_model_file", model, "--agent_file", agent, "--data_dir", recording)
    starts = ("--targets", TARGET, "--num_starts", 5, "--start_pool", 4, "--num_moments", 400)
    iterations = ("--num_iterations", demo.sizes.target_iterations, "--eval_every", 10, "--num_rollouts", 2)
    rollouts = ("--eval_rollouts", 4, "--report_rollouts", 16)
    run(
        "target_function_exps.py",
        *inputs,
        *starts,
        *iterations,
        *rollouts,
        "--out_dir",
        demo.artefacts / TARGET_RUNS,
    )


def probe_hidden_states(demo: Demo, agent: Path, recording: Path) -> None:
    """Concepts of the recorded states, and probes that read them from hidden states."""
    inputs = ("--data_dir", recording, "--out_dir", demo.artefacts)
    run("-m", "analysis.concepts_precompute", *inputs)
    sizes = ("--num_episodes", demo.sizes.probe_episodes, "--epochs", 1)
    run("-m", "analysis.probes_precompute", "--agent_file", agent, *inputs, *sizes)


def delete_hazards(demo: Demo, agent: Path, model: Path, recording: Path) -> None:
    """The check against the game: hazards are deleted in the game and in the simulator."""
    inputs = ("--world_model_file", model, "--agent_file", agent, "--data_dir", recording)
    hazards = ("--num_hazards", demo.sizes.num_hazards, "--hazard_draws", 4)
    forks = ("--num_fork_points", 8, "--draws", 2, "--hold", 1)
    run(
        "-m",
        "analysis.real_check",
        *inputs,
        "--part",
        "all",
        *hazards,
        *forks,
        "--out_dir",
        demo.artefacts,
    )


def push_direction(demo: Demo, agent: Path, model: Path, recording: Path) -> None:
    """The edit of a registered hypothesis at a few states, in the game and in the simulator, with videos."""
    edit = replace(read_hypothesis(HYPOTHESIS).edit, strength=PUSH)
    edits = demo.out / "edits.json"
    demo.out.mkdir(parents=True, exist_ok=True)
    write_json(edits, {"edits": [edit.description()]})
    inputs = ("--world_model_file", model, "--agent_file", agent, "--data_dir", recording)
    what = ("--edits", edits, "--direction_files", HYPOTHESIS.parent / "directions.safetensors")
    sizes = ("--num_fork_points", demo.sizes.pushed_forks, "--choices", "largest")
    run("-m", "analysis.interventions_clips", *inputs, *what, *sizes, "--out_dir", demo.artefacts)


def play_decision_transformer(demo: Demo, agent: Path, recording: Path) -> None:
    """The shipped Decision Transformer, asked for three returns, the shipped clone and the agent."""
    files = ("--dt_file", SHIPPED_DT, "--clone_file", SHIPPED_CLONE, "--agent_file", agent)
    count = demo.sizes.dt_episodes
    levels = ("--data_dir", recording, "--num_levels", count, "--num_episodes", count)
    run("evaluate_dt.py", *files, *levels, "--target_returns", 0, 5, 10, "--out_file", demo.dt_scores)


def run(*command) -> None:
    """Prints and runs one command. A failure ends the demo; a stop signal also reaches the command."""
    words = [str(word) for word in command]
    print(f"\n$ python {' '.join(words)}", flush=True)
    if run_command([sys.executable, *words], f"the demo was in this step: {' '.join(words)}"):
        raise UsageError(
            "the command above failed: fix its cause and run the demo again, which resumes at this command: "
            f"{' '.join(words)}"
        )


def latest_checkpoint(directory: Path) -> Path:
    """The checkpoint with the highest number in the runs of a directory."""
    return max(directory.glob("*/model_*.safetensors"), key=lambda path: int(path.stem.split("_")[-1]))


def experiment_name(agent: Path) -> str:
    """Name of the recording and the world model, which depend on the agent."""
    return f"demo_{file_id(agent)}"
