"""Times the Decision Transformer: training against a plain minGPT-style loop of the same size, and acting
with the key-value cache against recomputing attention over the context.

Wall-clock. The ways of a pair take turns in one process, in an order that alternates; a ratio is the median
over turns, with a 95% interval that resamples turns. Frames are given as features everywhere.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel


@dataclass
class Args:
    param_name: str = "small"
    """Preset of hyperparams/decision.yml that gives the sizes."""
    batches: int = 2
    """Training batches per turn."""
    num_envs: int = 64
    """Environments that act together."""
    num_acting_steps: int = 20
    """Acting steps per turn, all beyond the context."""
    rounds: int = 20
    """Timed turns of each way, after one to warm up."""
    num_threads: int = 2
    """Threads of the processor."""
    device: Device = "auto"
    out_file: Path = Path("benchmarks/results/decision_transformer.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import time
from collections.abc import Callable
from dataclasses import fields

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader

from benchmarks.mingpt import MinGPT, OneByOne
from common.checkpoints import write_json
from common.policy import Policy
from common.progress import progress_bar
from common.runs import UsageError, choose_device, manifest
from common.stats import estimate, level_counts, weighted_quantile
from decision.config import DTConfig, TrainConfig, load_preset
from decision.model import DecisionTransformer
from decision.optim import make_optimizer
from decision.policy import DTPolicy
from decision.windows import DTBatch

NUM_ACTIONS = 15
STORED_STEPS = 20_000
TARGET = 100.0


def stored(config: DTConfig) -> tuple[np.ndarray, ...]:
    """Features, actions, returns-to-go and times of one long recording."""
    rng = np.random.default_rng(0)
    return (
        rng.random((STORED_STEPS, config.feature_size), np.float32).astype(np.float16),
        rng.integers(0, NUM_ACTIONS, STORED_STEPS),
        rng.random(STORED_STEPS, np.float32),
        np.arange(STORED_STEPS) % 200,
    )


def training_rounds(config: DTConfig, train: TrainConfig, batches: int, device) -> dict[str, Callable]:
    """{name: trains on `batches` batches of about the same number of tokens and returns that number}."""
    columns = stored(config)
    ours = DecisionTransformer(config).to(device).train()
    ours_optimizer = make_optimizer(ours, train)
    plain = MinGPT(config).to(device).train()
    plain_optimizer = torch.optim.AdamW(plain.parameters(), lr=1e-3, betas=(0.9, 0.95), foreach=False)
    windows = train.batch_size * train.window_steps // config.context_length
    loader = DataLoader(OneByOne(columns, config.context_length), windows, shuffle=True)
    rng = np.random.default_rng(0)

    def train_ours() -> int:
        for _ in range(batches):
            first = rng.integers(0, STORED_STEPS - train.window_steps, train.batch_size)
            rows = first[:, None] + np.arange(train.window_steps)
            state, action, rtg, time_ = (torch.from_numpy(column[rows]).to(device) for column in columns)
            loss, _ = ours.loss(DTBatch(state, action, rtg, time_, torch.ones_like(action, dtype=torch.bool)))
            ours_optimizer.zero_grad(set_to_none=True)
            loss.backward()
            nn.utils.clip_grad_norm_(ours.parameters(), 1.0)
            ours_optimizer.step()
        return batches * train.batch_size * train.window_steps * 3

    def train_plain() -> int:
        for _, (state, action, rtg, time_) in zip(range(batches), loader):
            logits = plain(*(part.to(device) for part in (state, action, rtg, time_)))
            loss = F.cross_entropy(logits.flatten(0, 1), action.flatten().to(device))
            plain.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(plain.parameters(), 1.0)
            plain_optimizer.step()
        return batches * windows * config.context_length * 3

    return {"worldlens": train_ours, "mingpt": train_plain}


def random_episode(config: DTConfig, num: int, steps: int, device) -> DTBatch:
    """The first `steps` steps of an episode in `num` environments: features, actions, returns-to-go."""
    generator = torch.Generator().manual_seed(0)
    shape = (num, steps)
    reward = torch.randint(0, 2, shape, generator=generator).float()
    batch = DTBatch(
        torch.randn(*shape, config.feature_size, generator=generator),
        torch.randint(0, config.num_actions, shape, generator=generator),
        TARGET - (reward.cumsum(1) - reward),
        torch.arange(steps).expand(shape),
        torch.ones(shape, dtype=torch.bool),
    )
    return batch.to(device)


def steps_of(batch: DTBatch, first: int, last: int) -> DTBatch:
    """Steps `first` to `last`, the latter left out."""
    return DTBatch(*(getattr(batch, field.name)[:, first:last] for field in fields(batch)))


@torch.inference_mode()
def act(policy: Policy, episode: DTBatch, first: int, last: int, state: torch.Tensor):
    """Policy state after the steps `first` to `last` of the episode, and their logits [N, T, A]."""
    logits = []
    for t in range(first, last):
        opens = torch.full_like(episode.mask[:, 0], t == 0)
        gone = episode.return_to_go[:, max(t - 1, 0)] - episode.return_to_go[:, t]
        state = policy.advance(episode.state[:, t], state, opens, gone)
        logits.append(policy.heads(state)[0])
        state = policy.with_action(state, episode.action[:, t])
    return state, torch.stack(logits, 1)


def acting_rounds(model: DecisionTransformer, episode: DTBatch, steps: int) -> dict[str, Callable]:
    """{name: acts for the steps beyond the context and returns their number, over environments}."""
    policy, context = DTPolicy(model, TARGET), model.config.context_length
    num = len(episode.mask)
    full, _ = act(policy, episode, 0, context, policy.initial_state(num))

    def cached() -> int:
        act(policy, episode, context, context + steps, full)
        return steps * num

    @torch.inference_mode()
    def recomputed() -> int:
        for t in range(context, context + steps):
            model(steps_of(episode, t + 1 - context, t + 1))[:, -1]
        return steps * num

    return {"cached": cached, "recomputed": recomputed}


@torch.inference_mode()
def largest_difference(model: DecisionTransformer, episode: DTBatch) -> dict[str, float]:
    """Between the logits of acting with the cache and those of the whole episode at once, up to the context
    and beyond it.
    """
    policy, context = DTPolicy(model, TARGET), model.config.context_length
    num, steps = episode.mask.shape
    _, logits = act(policy, episode, 0, steps, policy.initial_state(num))
    difference = (logits - model(episode)).abs().amax((0, 2))
    return {
        "steps": steps,
        "within_context": float(difference[:context].max()),
        "beyond_context": float(difference[context:].max()),
    }


def take_turns(rounds: dict[str, Callable], turns: int, device) -> dict:
    """Items per second of each way, the median of `turns` after a warm-up, and the ratio of the first way's
    to the second's with its interval.
    """
    speeds = np.zeros((1 + turns, len(rounds)))
    for turn in progress_bar(range(1 + turns), desc=" and ".join(rounds), unit="turn"):
        for way, run in list(enumerate(rounds.values()))[:: 1 if turn % 2 else -1]:
            begun = time.perf_counter()
            items = run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            speeds[turn, way] = items / (time.perf_counter() - begun)
    speeds = speeds[1:]
    ratio = speeds[:, 0] / speeds[:, 1]
    return {
        "per_second": dict(zip(rounds, np.median(speeds, 0).tolist())),
        "ratio": list(estimate(weighted_quantile(level_counts(turns), ratio, 0.5))),
        "turns": turns,
    }


def main(args: Args) -> None:
    for name in ("batches", "num_envs", "num_acting_steps", "rounds", "num_threads"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} must be at least 1, not {getattr(args, name)}")
    device = choose_device(args.device)
    torch.set_num_threads(args.num_threads)
    torch.manual_seed(0)
    config, train = load_preset(args.param_name, {"num_actions": NUM_ACTIONS, "state_embedding": "agent"}, {})
    model = DecisionTransformer(config).to(device).eval()
    context = config.context_length
    episode = random_episode(config, args.num_envs, max(3 * context, context + args.num_acting_steps), device)
    report = {
        "sizes": vars(config),
        "training": take_turns(training_rounds(config, train, args.batches, device), args.rounds, device),
        "acting": take_turns(acting_rounds(model, episode, args.num_acting_steps), args.rounds, device),
        "logits_difference": largest_difference(model, episode),
        "manifest": manifest() | {"threads": args.num_threads},
    }
    write_json(args.out_file, report)
    for name in ("training", "acting"):
        value, low, high = report[name]["ratio"]
        print(f"{name}: {report[name]['per_second']}, ratio {value:.2f} [{low:.2f}, {high:.2f}]")
    print(f"largest difference of logits: {report['logits_difference']}")


if __name__ == "__main__":
    run_main(main, ARGS)
