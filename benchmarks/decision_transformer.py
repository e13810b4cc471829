"""Times the Decision Transformer: training against a plain minGPT-style loop of the same size, and acting
with the key-value cache against recomputing attention over the context.

One thread, CPU seconds (on a GPU: wall-clock); the two of a pair alternate, and the fastest round of each
counts. Frames are given as features in all four.
"""

import logging
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel


@dataclass
class Args:
    param_name: str = "small"
    """Preset of hyperparams/decision.yml that gives the sizes."""
    batches: int = 4
    """Training batches per round."""
    num_envs: int = 64
    """Environments that act together."""
    num_acting_steps: int = 30
    """Acting steps per round; those beyond the context are timed."""
    rounds: int = 3
    """Timed rounds after one warm-up."""
    device: Device = "auto"
    out_file: Path = Path("benchmarks/results/decision_transformer.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import math
from dataclasses import replace

import numpy as np
import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, Dataset

from common.checkpoints import write_json
from common.runs import choose_device, manifest
from decision.config import DTConfig, TrainConfig, load_preset
from decision.model import DecisionTransformer
from decision.optim import make_optimizer
from decision.policy import DTPolicy
from decision.windows import DTBatch

NUM_ACTIONS = 15
STORED_STEPS = 20_000


class MinGPTBlock(nn.Module):
    """A block as in minGPT (Karpathy 2020): attention by explicit softmax, dropout 0.1, tanh GELU."""

    def __init__(self, c: DTConfig, tokens: int):
        super().__init__()
        self.heads = c.n_heads
        self.ln1, self.ln2 = nn.LayerNorm(c.d_model), nn.LayerNorm(c.d_model)
        self.qkv = nn.Linear(c.d_model, 3 * c.d_model)
        self.out = nn.Linear(c.d_model, c.d_model)
        self.fc = nn.Linear(c.d_model, c.d_mlp)
        self.proj = nn.Linear(c.d_mlp, c.d_model)
        self.dropout = nn.Dropout(0.1)
        self.register_buffer("mask", torch.ones(tokens, tokens).tril()[None, None])

    def forward(self, x):
        b, t, d = x.shape
        q, k, v = (
            part.view(b, t, self.heads, -1).transpose(1, 2) for part in self.qkv(self.ln1(x)).split(d, 2)
        )
        scores = (q @ k.transpose(-2, -1)) / math.sqrt(k.shape[-1])
        scores = scores.masked_fill(self.mask[:, :, :t, :t] == 0, -torch.inf)
        y = self.dropout(F.softmax(scores, -1)) @ v
        x = x + self.dropout(self.out(y.transpose(1, 2).contiguous().view(b, t, d)))
        h = self.fc(self.ln2(x))
        h = 0.5 * h * (1 + torch.tanh(math.sqrt(2 / math.pi) * (h + 0.044715 * torch.pow(h, 3))))
        return x + self.dropout(self.proj(h))


class MinGPT(nn.Module):
    """The Decision Transformer of the original code's kind: minGPT over interleaved tokens of one context."""

    def __init__(self, c: DTConfig):
        super().__init__()
        self.tokens = 3 * c.context_length
        self.state = nn.Sequential(nn.Linear(c.feature_size, c.d_model), nn.Tanh())
        self.rtg = nn.Sequential(nn.Linear(1, c.d_model), nn.Tanh())
        self.action = nn.Sequential(nn.Embedding(c.num_actions, c.d_model), nn.Tanh())
        self.position = nn.Parameter(torch.zeros(1, self.tokens, c.d_model))
        self.time = nn.Embedding(c.max_timestep + 1, c.d_model)
        self.dropout = nn.Dropout(0.1)
        self.blocks = nn.Sequential(*(MinGPTBlock(c, self.tokens) for _ in range(c.n_layers)))
        self.ln = nn.LayerNorm(c.d_model)
        self.head = nn.Linear(c.d_model, c.num_actions, bias=False)

    def forward(self, state, action, rtg, time):
        tokens = torch.zeros(len(state), self.tokens, self.position.shape[-1], device=state.device)
        tokens[:, 0::3] = self.rtg(rtg[..., None])
        tokens[:, 1::3] = self.state(state.float())
        tokens[:, 2::3] = self.action(action)
        x = self.dropout(tokens + self.position + self.time(time[:, :1]))
        return self.head(self.ln(self.blocks(x)))[:, 1::3]


class OneByOne(Dataset):
    """Windows as the original code's data set gives them: one at a time."""

    def __init__(self, columns: tuple[np.ndarray, ...], context: int):
        self.columns = columns
        self.context = context

    def __len__(self) -> int:
        return len(self.columns[0]) - self.context

    def __getitem__(self, i):
        return tuple(torch.from_numpy(column[i : i + self.context]) for column in self.columns)


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


def acting_rounds(config: DTConfig, num: int, steps: int, device) -> dict[str, Callable]:
    """{name: acts for the steps beyond the context in `num` environments and returns their number}."""
    model = DecisionTransformer(config).to(device).eval()
    policy = DTPolicy(model, 10.0)
    shape = (num, config.context_length)
    features = torch.randn(steps, num, config.feature_size, device=device)
    closed = torch.zeros(num, dtype=torch.bool, device=device)
    zero = torch.zeros(num, device=device)
    window = DTBatch(
        torch.randn(*shape, config.feature_size, device=device),
        torch.zeros(shape, dtype=torch.int64, device=device),
        torch.zeros(shape, device=device),
        torch.arange(config.context_length, device=device).expand(shape),
        torch.ones(shape, dtype=torch.bool, device=device),
    )

    @torch.inference_mode()
    def cached() -> int:
        state = policy.initial_state(num)
        for t in range(steps):
            state = policy.advance(features[t], state, closed | (t == 0), zero)
            state = policy.with_action(state, policy.heads(state)[0].argmax(-1))
        return steps * num

    @torch.inference_mode()
    def recomputed() -> int:
        for t in range(steps):
            state = torch.cat([window.state[:, 1:], features[t][:, None]], 1)
            model(replace(window, state=state))[:, -1].argmax(-1)
        return steps * num

    return {"cached": cached, "recomputed": recomputed}


def measure(rounds: dict[str, Callable], repeats: int, device) -> dict[str, float]:
    """Items per second of each, the fastest of `repeats` rounds after a warm-up, taken in turns."""
    clock = time.perf_counter if device.type == "cuda" else time.process_time
    best = dict.fromkeys(rounds, 0.0)
    for repeat in range(repeats + 1):
        for name, run in rounds.items():
            begun = clock()
            items = run()
            if device.type == "cuda":
                torch.cuda.synchronize()
            if repeat:
                best[name] = max(best[name], items / (clock() - begun))
    return best


def main(args: Args) -> None:
    device = choose_device(args.device)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    config, train = load_preset(
        args.param_name, {"num_actions": NUM_ACTIONS, "state_embedding": "agent", "dropout": 0.0}, {}
    )
    training = measure(training_rounds(config, train, args.batches, device), args.rounds, device)
    acting = measure(acting_rounds(config, args.num_envs, args.num_acting_steps, device), args.rounds, device)
    report = {
        "sizes": vars(config),
        "training_tokens_per_second": training,
        "training_ratio": training["worldlens"] / training["mingpt"],
        "acting_steps_per_second": acting,
        "acting_ratio": acting["cached"] / acting["recomputed"],
        "manifest": manifest(),
    }
    write_json(args.out_file, report)
    print(f"training: {training['worldlens']:,.0f} tokens/s, {report['training_ratio']:.2f} times minGPT's")
    print(f"acting: {acting['cached']:,.0f} steps/s, {report['acting_ratio']:.2f} times recomputing")


if __name__ == "__main__":
    run_main(main, ARGS)
