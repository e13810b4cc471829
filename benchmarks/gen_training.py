"""Training speed of the world model: our loop against a plain one, with the same model, losses and windows.

The plain loop is the straightforward one: float32, the default memory layout, and encoder, decoder, agent and
outcome head called once per time step. The two alternate on the same batches in one process, both with Adam.
The time spent waiting for windows and the peak memory are measured too.
"""

import logging
import math
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """The agent that recorded the data."""
    data_dir: Path = Path("data")
    """Store of recorded rollouts."""
    interpreting_params_name: str = "paper"
    """Preset of hyperparams/generative.yml."""
    rounds: int = 2
    """Timed batches of each loop, after one of each to warm up."""
    batch_size: int = 8
    """Windows per batch."""
    num_sim_steps: int = 32
    """Simulated frames per window."""
    reading_batches: int = 20
    """Batches of the preset's own training step that the reader is timed against; 0 leaves this out."""
    torch_threads: int = 0
    """PyTorch threads; 0 takes what PyTorch takes."""
    seed: int = 0
    """Seed of weights, windows and noise."""
    out_file: Path = Path("benchmarks/results/gen_training.json")
    """Where the figures go."""
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch
from torch.nn import functional as F

from agents.actor_critic import ActorCritic, load_agent
from common.checkpoints import write_json
from common.precision import choose_precision, set_precision
from common.runs import manifest
from generative.model import twohot
from generative.model.categorical import balanced_kl
from generative.model.config import LossScales, TrainConfig, load_preset, window_length
from generative.model.frames import round_frames
from generative.model.latent import agent_burn_in
from generative.model.motion import estimate_motion
from generative.model.rssm import EnvState
from generative.model.world_model import WorldModel
from generative.simulator import freeze
from generative.training.data import WindowSource, prefetch, seeded_generator
from generative.training.errors import kl_to_standard_normal, squared_error
from generative.training.losses import loss_terms, total_loss
from generative.training.progress import ThroughputClock, peak_memory
from generative.training.small_object_weights import small_object_weights
from generative.training.teacher_forcing import Noise, draw_noise
from rollouts.segment import Segment
from rollouts.split import episode_layouts
from rollouts.store import Rollouts

SCALES = LossScales(loss_scale_overshooting=0, loss_scale_deterministic_rollout=0)
"""Both loops omit the losses of rollouts without frames, which a plain loop does not have."""


def ours(model: WorldModel, agent: ActorCritic, segment: Segment, noise: Noise, shown: int) -> torch.Tensor:
    """The loss as the trainer computes it."""
    return total_loss(loss_terms(model, segment, noise, agent, shown, SCALES.free_nats), SCALES)


def plain(model: WorldModel, agent: ActorCritic, segment: Segment, noise: Noise, shown: int) -> torch.Tensor:
    """The same loss, computed one time step at a time; every window must be full."""
    k = model.config.num_initializing_steps
    sums = {}

    def add(name: str, value: torch.Tensor) -> None:
        sums.setdefault(name, []).append(value)

    moved = estimate_motion(segment.obs)
    half = -(-segment.mask.shape[1] // 2)
    latent = model.latent(
        torch.stack([model.embed(segment.obs[t]) for t in range(k)]),
        moved[: k - 1],
        agent_burn_in(agent, segment.obs[:k]),
    )
    start = model.start(latent.sample(noise.z[0]), noise.start[0], detach_agent=False)
    add("bottleneck", kl_to_standard_normal(latent).mean())
    add("init_hidden", (start.hidden - segment.hidden[k - 1]).square().sum(-1).mean())
    add("init_action", F.cross_entropy(start.action_logits, segment.action[k - 2]))
    state = start.env
    ahead = start.env.motion
    frames = None
    prior = None
    for i, t in enumerate(range(k - 1, len(segment.obs))):
        add("motion", F.huber_loss(ahead, moved[t - 1], reduction="none").sum(-1).mean())
        if frames is not None:
            state = model.posterior(
                prior.deter, moved[t - 1], model.embed(segment.obs[t]), noise.posterior[i - 1]
            )
            add("kl_balanced", balanced_kl(state.logits, prior.logits, SCALES.free_nats).mean())
            again = model.decode_next(
                EnvState(*(part[:half] for part in state)), frames[:half].detach()
            ).frame
            add("self_conditioned_recon", squared_error(again, segment.obs[t, :half]).sum((1, 2)).mean())
            state = model.decode_next(state, segment.obs[t - 1] / 255)
        frames = state.frame
        error = squared_error(frames, segment.obs[t])
        add("recon", error.sum((1, 2)).mean())
        add("small_objects", (error * small_object_weights(segment.obs[t])).sum((1, 2)).mean())
        if not i:
            sums |= {"start_recon": sums["recon"][:], "start_small_objects": sums["small_objects"][:]}
        seen = agent.advance(
            round_frames(frames[:shown]),
            segment.hidden[t, :shown],
            segment.first[t, :shown],
            segment.reward[t - 1, :shown],
        )
        logits, value = agent.heads(seen)
        now = torch.log_softmax(logits, -1)
        then = torch.log_softmax(segment.logits[t, :shown], -1)
        add("hx", (seen - segment.hidden[t + 1, :shown]).square().sum(-1).mean())
        add("act_log_probs", (then.exp() * (then - now)).sum(-1).mean())
        add("value", (value - segment.value[t, :shown]).square().mean())
        action = model.action_weights(segment.action[t])
        deter, ahead = model.transition(state, model.embed(segment.obs[t]), action)
        prior = model.prior(deter, ahead, noise.prior[i])
        outcome = model.outcome(deter, ahead, segment.obs[t] / 255)
        add("reward", twohot.cross_entropy(outcome.reward_logits, segment.reward[t], model.bins).mean())
        add(
            "done",
            F.binary_cross_entropy_with_logits(
                model.calibrate_done(outcome.uncalibrated_done_logit.detach()), segment.terminated[t].float()
            ),
        )
        add(
            "uncalibrated_done",
            F.binary_cross_entropy_with_logits(
                outcome.uncalibrated_done_logit, segment.terminated[t].float()
            ),
        )
    return total_loss({name: torch.stack(values).mean() for name, values in sums.items()}, SCALES)


class Loop:
    """One of the two loops: its model and optimiser, and the timing of its steps."""

    def __init__(self, loss, model: WorldModel, agent: ActorCritic, train: TrainConfig):
        self.loss = loss
        self.model = model
        self.agent = agent
        self.optimizer = torch.optim.Adam(model.parameters(), lr=train.lr, fused=loss is ours)
        self.clip = train.grad_clip_norm

    def step(self, segment: Segment, noise: Noise, shown: int) -> tuple[float, float]:
        """One training step: seconds, and the loss before it."""
        begun = time.perf_counter()
        loss = self.loss(self.model, self.agent, segment, noise, shown)
        self.optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip)
        self.optimizer.step()
        return time.perf_counter() - begun, loss.item()


def full_windows(rollouts: Rollouts, length: int, seed: int) -> WindowSource:
    """Windows without padding, because the plain loop has no mask."""
    return WindowSource(rollouts.windows(length, anchor="start", pad="none"), episode_layouts(rollouts), seed)


def loops(args: Args, model_config, train: TrainConfig) -> tuple[Loop, Loop]:
    """Ours and the plain one, from the same weights."""
    made = []
    for loss, precision in ((ours, model_config.precision), (plain, "fp32")):
        torch.manual_seed(args.seed)
        model = WorldModel(replace(model_config, precision=precision))
        agent = load_agent(args.agent_file)[0]
        set_precision(precision, agent)
        freeze(agent)
        if loss is plain:
            model.to(memory_format=torch.contiguous_format)
            agent.to(memory_format=torch.contiguous_format)
        made.append(Loop(loss, model, agent, train))
    return tuple(made)


def paired(args: Args, model_config, train: TrainConfig, source: WindowSource) -> dict:
    """Frames per second of both loops over `rounds` turns, and their losses on the first batch."""
    pair = loops(args, model_config, train)
    seconds = []
    losses = []
    shown = math.ceil(train.agent_loss_fraction * args.batch_size)
    for i in range(args.rounds + 1):
        segment = source.train_batch(i, args.batch_size)
        noise = draw_noise(
            model_config,
            args.num_sim_steps,
            args.batch_size,
            seeded_generator(torch.device("cpu"), args.seed, i),
        )
        turn = [loop.step(segment, noise, shown) for loop in pair]
        seconds.append([spent for spent, _ in turn])
        losses.append([loss for _, loss in turn])
        logging.info("round %d: ours %.1f s, plain %.1f s", i, *seconds[-1])
    timed = np.array(seconds[1:])
    frames = args.batch_size * args.num_sim_steps
    speeds = frames / timed.mean(0)
    return {
        "ours": speeds[0],
        "plain": speeds[1],
        "ratio": timed[:, 1].sum() / timed[:, 0].sum(),
        "ratio_by_round": (timed[:, 1] / timed[:, 0]).tolist(),
        "first_losses": losses[0],
    }


def reading(args: Args, model_config, train: TrainConfig, source: WindowSource) -> dict:
    """Fraction of the time that our loop waits for windows, which a thread prefetches."""
    loop = loops(args, model_config, train)[0]
    clock = ThroughputClock(0.0)
    shown = math.ceil(train.agent_loss_fraction * args.batch_size)
    for i, segment in enumerate(
        clock.timed(prefetch(lambda i: source.train_batch(i, args.batch_size), 0, args.reading_batches))
    ):
        if i == 0:
            clock.reset()  # the first is always waited for
        noise = draw_noise(
            model_config,
            args.num_sim_steps,
            args.batch_size,
            seeded_generator(torch.device("cpu"), args.seed, i),
        )
        loop.step(segment, noise, shown)
    return {"wait_share": clock.read()["wait_share"]}


def main(args: Args) -> None:
    if args.torch_threads:
        torch.set_num_threads(args.torch_threads)
    rollouts = Rollouts.open(args.data_dir)
    agent = load_agent(args.agent_file)[0]
    shape = {"num_actions": agent.num_actions, "hidden_size": agent.core.state_size}
    model_config, train = load_preset(
        args.interpreting_params_name,
        shape | {"precision": args.precision},
        {"num_sim_steps": args.num_sim_steps},
    )
    source = full_windows(rollouts, window_length(model_config, train), args.seed)
    result = paired(args, model_config, train, source)
    result |= reading(args, model_config, train, source) if args.reading_batches else {}
    logging.info(
        "ours %.1f frames/s, plain %.2f frames/s: %.1f times",
        result["ours"],
        result["plain"],
        result["ratio"],
    )
    logging.info("losses of the first batch: ours %.2f, plain %.2f", *result["first_losses"])
    config = {
        name: getattr(args, name)
        for name in ("interpreting_params_name", "batch_size", "num_sim_steps", "rounds")
    }
    write_json(
        args.out_file,
        {
            "config": config,
            **result,
            "peak_memory_bytes": peak_memory(),
            "manifest": manifest(precision=choose_precision(args.precision, "cpu").name),
        },
    )


if __name__ == "__main__":
    run_main(main, ARGS)
