"""Saliency maps through the simulator: gradients of functions of the agent with respect to frames, hidden
states, environment states, actions and latents, sample by sample.

A sample is a simulated episode that begins at a recorded moment. Its map of a function says, for each pixel
of each frame, how much the function rises per unit of brightness.

    python saliency_exps.py --world_model_file MODEL --agent_file AGENT \\
        --sample_ids 0 to 100 --saliency_func_type value leftwards

Functions: value, value_delta, action (log-probability of the action taken), action_<name>, leftwards and the
other groups of actions, entropy, reward, done, hidden_<unit>, hx_direction_<number>_<kind> and hx_direction
for all directions (with --direction_files).

Results go to <out_dir>/<samples>_<key>/ and are explained in docs/saliency.md; look through them with
python -m analysis.saliency_panel. The same command again resumes.
"""

import logging
import resource
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

from common.cli import parse, run_main
from common.shared_flags import (
    ALONE,
    SEED_DIRECTIONS,
    SEED_MODEL_FILE,
    Device,
    Job,
    JobFlag,
    LogLevel,
    PrecisionName,
)


@dataclass
class Args:
    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model."""
    agent_file: Path
    """The agent that acts in it."""
    data_dir: Path | None = None
    """Store of real rollouts that samples start from; by default the one that the model was trained on,
    searched in data/.
    """
    distribution_mode: str | None = None
    """Mode that the world model's game must have; default: any."""
    sample_ids: tuple[str, ...] = ("0", "to", "10")
    """Numbers of the samples, the starting points of record_gen_samples.py; or a range such as 0 to 100,
    whose end is left out.
    """
    combine_samples_not_iterate: bool = False
    """One sample from the mean of all latents, instead of one sample each."""
    saliency_func_type: tuple[str, ...] = ("value", "action")
    """Functions that gradients are taken of, by name (above); an unknown name prints the whole list."""
    direction_files: Annotated[tuple[Path, ...], SEED_DIRECTIONS] = ()
    """Files of directions of the hidden state. Direction d of kind k is hx_direction_<d>_<k>."""
    step: int | Literal["sum"] = 4
    """Step at which the functions are read, or sum: their sum over all steps."""
    num_sim_steps: int = 10
    """Steps of each sample."""
    wrt: tuple[Literal["frames", "hidden", "env_state", "actions", "latent"], ...] = ("frames", "hidden")
    """What gradients are taken with respect to: pixels, the agent's hidden states, environment states, the
    choice of actions, or the latent that the episode begins from.
    """
    draws: int = 9
    """Copies of each sample that gradients are averaged over (SmoothGrad); the first has no noise, 1 is the
    plain gradient.
    """
    noise: float = 1.25e-4
    """Standard deviation of the noise of the other copies: of the latent, or with --real_frames of pixels in
    [0, 1].
    """
    paths: bool = False
    """Also the parts of each gradient: through the agent's memory, through the environment with the actions
    as they are, and mixed, through changed actions. They are stored as <function>@agent and so on.
    """
    real_frames: bool = False
    """Maps of the agent on the recorded frames, without the simulator."""
    env_gradients_demo: bool = False
    """Draw each map with and without gradients from actions to the environment, and compare them; implies
    --paths.
    """
    gradient_check: Path | None = None
    """gradient_check.json of the same world model and agent: pictures show gradients that fail it without
    colour. By default that of the shipped simulator, where the world model is that one.
    """
    sampling: Literal["stochastic", "modal"] = "stochastic"
    """Sample latents and environment states, or take the mode of each."""
    greedy: bool = False
    """The agent takes its most likely action instead of sampling."""
    batch_size: int = 8
    """Samples per forward pass, each in all its draws; bounds the memory."""
    job: JobFlag = ALONE
    keep_float: bool = False
    """Also store the gradients of frames in full, 48 times as large as the maps."""
    save_videos: bool = False
    """Draw a video and a film strip of each sample and function."""
    out_dir: Path = Path("results/saliency")
    """Where results go."""
    new: bool = False
    """Start another run even if this command already has one."""
    seed: int = 0
    """Seed of the order of starting points and of all noise."""
    device: Device = "auto"
    precision: PrecisionName = "fp32"
    # in bf16 half of the maps have a cosine below 0.86 with those in float32
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from analysis.io.steps import point_latest
from analysis.rendering.path_trust import PathTrust, path_trust
from analysis.rendering.saliency_clips import draw_demo, draw_samples
from common.checkpoints import write_json
from common.precision import choose_precision, set_precision
from common.runs import Run, UsageError, choose_device, file_id, open_run
from common.words import counted
from envs.vecenv import ActionSpace
from generative.action_space import action_space_of
from generative.compatibility import check_recorder
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import open_starts
from interpret.attribution.env_gradients import compare_paths, describe_comparison
from interpret.attribution.functions import choose_functions, known_functions
from interpret.attribution.saliency import SaliencyConfig
from interpret.attribution.saliency_run import (
    check_step,
    facts_of,
    is_whole,
    name_of,
    write_saliency,
)
from interpret.attribution.saliency_store import SaliencyStore, directions_path
from interpret.attribution.sample_saliency import Kind, SampleSaliency
from interpret.directions.by_kind import load_by_kind
from interpret.directions.directions import Directions, save_directions
from interpret.sample_ids import check_ids, parse_sample_ids

FILES = ("world_model_file", "agent_file", "data_dir", "direction_files")
"""Flags that count by the content of their files."""
DRAWN = ("save_videos", "env_gradients_demo", "gradient_check")
"""Flags that change no map; env_gradients_demo enters as paths."""


def main(args: Args) -> None:
    check_flags(args)
    device = choose_device(args.device)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, device=device)
    check_mode(args, meta)
    actions = action_space_of(meta)
    agent_id = file_id(args.agent_file)
    directions = load_by_kind(args.direction_files, simulator.agent.core.state_size, agent_id)
    config = config_of(args, actions, {kind: one.to(device) for kind, one in directions.items()}, simulator)
    modal = args.sampling == "modal"
    starts, rollouts = open_starts(simulator, meta, args.data_dir, False, args.agent_file, args.seed, modal)
    if args.real_frames:
        check_recorder(rollouts, agent_id)
    source = SampleSaliency(simulator, starts, rollouts, config, args.seed, args.greedy, modal, device)
    ids = choose_samples(args, source)
    inputs = {
        "world_model_file": file_id(args.world_model_file),
        "agent_file": agent_id,
        "data_dir": rollouts.id,
    } | {f"directions_{kind}": one.id for kind, one in directions.items()}
    trust = path_trust(inputs, args.real_frames, args.gradient_check)
    kind = kind_of(args)
    run = start_run(args, ids, inputs, kind)
    set_precision(run.precision, simulator.model, simulator.agent)
    if not run.done:
        facts = facts_of(config, actions, directions) | {"env": meta["env"], "inputs": inputs}
        for kind_of_fit, one in directions.items():
            save_directions(directions_path(run.dir, kind_of_fit), one)
        facts = write_saliency(run.dir, facts, source, ids, args.batch_size, kind, Job(*args.job))
        if not is_whole(run.dir, facts):
            logging.info("%s: this job's batches are done; the last job completes the run", run.dir)
            return
        run.finish({"samples": len(facts["samples"]), "functions": len(facts["functions"])})
        point_latest(run)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
        maps = counted(len(facts["functions"]), "function")
        samples = counted(len(facts["samples"]), "sample")
        logging.info("%s of %s in %s; %.1f GiB of memory at most", maps, samples, run.dir, peak)
    draw(args, run, trust)


def kind_of(args: Args) -> Kind:
    """Whether samples are simulated, recorded, or combined into one."""
    if args.real_frames:
        return "recorded"
    return "combined" if args.combine_samples_not_iterate else "simulated"


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied together or at all."""
    for name in ("num_sim_steps", "batch_size", "draws"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}: give 1 or more")
    if not 0 <= args.noise < float("inf"):
        raise UsageError(f"--noise is {args.noise}: give 0 or more")
    if not args.wrt or not args.saliency_func_type:
        raise UsageError("nothing to differentiate: give --saliency_func_type and --wrt, or leave them out")
    if "frames" not in args.wrt and (args.save_videos or args.env_gradients_demo or args.keep_float):
        raise UsageError(
            "--save_videos, --env_gradients_demo and --keep_float are about maps of the frames: "
            "add frames to --wrt"
        )
    if not args.real_frames:
        return
    simulated = [name for name in args.wrt if name not in ("frames", "hidden")]
    if simulated:
        raise UsageError(
            f"on --real_frames there is no {simulated[0]} to differentiate by: leave it out of --wrt"
        )
    for name in ("paths", "env_gradients_demo", "combine_samples_not_iterate", "greedy"):
        if getattr(args, name):
            raise UsageError(
                f"--{name} is about simulated samples, and --real_frames about recorded ones: give one"
            )


def check_mode(args: Args, meta: dict) -> None:
    """Raises UsageError if the world model is of another mode of the game than the flag says."""
    mode = (meta.get("env") or {}).get("distribution_mode")
    if args.distribution_mode not in (None, mode):
        raise UsageError(
            f"--distribution_mode is {args.distribution_mode}, and {args.world_model_file} is a model of "
            f"mode {mode}: leave the flag out, or give another --world_model_file"
        )


def config_of(
    args: Args, actions: ActionSpace, directions: dict[str, Directions], simulator: Simulator
) -> SaliencyConfig:
    """What is computed. Raises UsageError for unknown functions and for steps without a value."""
    known = known_functions(actions, directions, simulator.agent.core.state_size)
    functions = choose_functions(args.saliency_func_type, known)
    predicted = [one.name for one in functions if one.needs_simulator]
    if args.real_frames and predicted:
        raise UsageError(f"{predicted[0]} is predicted by the simulator: leave it out with --real_frames")
    config = SaliencyConfig(
        functions,
        args.num_sim_steps,
        args.step,
        args.wrt,
        args.draws,
        args.noise,
        args.paths or args.env_gradients_demo,
        args.keep_float,
    )
    check_step(config)
    return config


def choose_samples(args: Args, source: SampleSaliency) -> list[int]:
    """Numbers of the samples; recorded ones whose episode ends too early are left out, with a warning."""
    ids = parse_sample_ids(args.sample_ids)
    check_ids(ids, source.starts.count, source.starts.path)
    if not args.real_frames:
        return list(ids)
    long = source.long_enough(ids)
    short = [str(one) for one in ids if one not in long]
    if short:
        episodes = "sample whose recorded episode ends", "samples whose recorded episodes end"
        logging.warning("left out %s too early: %s", counted(len(short), *episodes), ", ".join(short))
    return long


def start_run(args: Args, ids: list[int], inputs: dict[str, str], kind: Kind) -> Run:
    """Finds or starts the run of these flags; files count by content, not by path."""
    asked = {name: value for name, value in vars(args).items() if name not in FILES + DRAWN}
    asked |= {"sample_ids": ids, "paths": args.paths or args.env_gradients_demo}
    precision = choose_precision(args.precision, choose_device(args.device))
    return open_run(args.out_dir, name_of(ids, kind), asked, args.new, inputs, precision, Job(*args.job))


def draw(args: Args, run: Run, trust: PathTrust) -> None:
    """Pictures, where asked for and not there yet, and the comparison with and without gradients through the
    environment.
    """
    store = SaliencyStore.open(run.dir)
    if args.save_videos:
        draw_samples(store, run.dir / "videos", trust)
    if args.env_gradients_demo:
        found = compare_paths(store)
        write_json(run.dir / "env_gradients.json", found)
        draw_demo(store, run.dir / "demo_with_without_env_grads", trust)
        for name, numbers in found.items():
            doubt = "; the mixed path fails the check of gradients" if trust.rejects(f"{name}@mixed") else ""
            logging.info("%s: %s%s", name, describe_comparison(numbers), doubt)


if __name__ == "__main__":
    run_main(main, ARGS)
