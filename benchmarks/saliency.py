"""Saliency: samples per second and bytes per map, against a loop with captum that takes one function and one
sample at a time.

The set is that of the original system: value, action and 16 directions of the hidden state at step 4 of 10,
averaged over 9 draws, with respect to frames and hidden states. Ours has one forward pass for all functions
and several samples, gradients for the steps that can matter, and one backward pass per function; its time
includes writing the files. The loop calls captum.attr.Saliency once per function and sample on the 9 draws,
as the original system calls its own; `short` is the same loop, stopped after the step at which the function
is read. Networks, weights and float32 are the same. All take turns in one process, on one thread, and are
timed in CPU seconds.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent."""
    world_model_file: Path = Path("pretrained/coinrun_simulator/model.safetensors")
    """The world model."""
    data_dir: Path | None = None
    """Store of real rollouts that samples start from; by default the one that the model was trained on, in
    data/.
    """
    num_samples: int = 8
    """Samples per turn of ours; the loops have one, a different one each turn."""
    batch_size: int = 4
    """Samples per forward pass of ours."""
    num_directions: int = 16
    """Directions of the hidden state, random ones: their cost is that of fitted ones."""
    num_sim_steps: int = 10
    """Of each sample."""
    function_step: int = 4
    """At which functions are read."""
    draws: int = 9
    """Over which gradients are averaged."""
    rounds: int = 3
    """Timed turns of each, after one to warm up."""
    seed: int = 0
    """Of directions and noise."""
    out_file: Path = Path("benchmarks/results/saliency.json")
    """Where the figures go."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import os
import tempfile
import time

import numpy as np
import torch

from benchmarks.simulation import peak_bytes
from common.checkpoints import write_json
from common.errors import UsageError
from common.policy import PolicyWrapper
from common.precision import set_precision
from common.progress import progress_bar
from common.runs import file_id, manifest
from generative.action_space import action_space_of
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import check_start_count, open_starts
from interpret.attribution.draws import perturbed_latents, repeated_keys
from interpret.attribution.functions import Function, choose_functions, known_functions
from interpret.attribution.saliency import SaliencyConfig
from interpret.attribution.saliency_store import batch_path, write_batch
from interpret.attribution.sample_saliency import SampleSaliency
from interpret.attribution.trace import trace_of
from interpret.directions.directions import Directions

LEAST_SPEED_UP = 4
MOST_BYTES = 0.1
"""Of the original system's bytes per map."""


def original_bytes(steps: int, frame: tuple[int, int, int], hidden: int, env: int = 512) -> int:
    """Bytes that the original system stores per sample and function: gradients of frames, hidden and
    environment states as float32, and a processed map as uint8.
    """
    pixels = int(np.prod(frame))
    return steps * (4 * (pixels + hidden + env) + pixels)


def random_directions(count: int, width: int, seed: int) -> Directions:
    basis, _ = np.linalg.qr(np.random.default_rng(seed).normal(size=(width, count)))
    names = [f"d{k}" for k in range(count)]
    return Directions(basis.T.copy(), np.zeros(count), basis, np.zeros(width), names, {"method": "ica"})


class Nudged(PolicyWrapper):
    """The agent, with offsets [N, T, D] added to its states after each frame."""

    def __init__(self, policy, offsets: torch.Tensor):
        super().__init__(policy)
        self.offsets = iter(offsets.unbind(1))

    def advance(self, obs, state, first, reward):
        return super().advance(obs, state, first, reward) + next(self.offsets)


class FunctionOfFrames(torch.nn.Module):
    """A function of a rollout as captum wants it: offsets of frames [N, T, H, W, C] and of hidden states
    [N, T + 1, D] in, values [N] out.
    """

    def __init__(self, simulator: Simulator, function: Function, step: int, z: torch.Tensor, keys: NoiseKeys):
        super().__init__()
        self.simulator, self.function, self.step, self.z, self.keys = simulator, function, step, z, keys

    def forward(self, frames: torch.Tensor, hidden: torch.Tensor) -> torch.Tensor:
        start = self.simulator.start(self.z, detach_agent=False)
        start = start._replace(hidden=start.hidden + hidden[:, 0])
        offsets = iter(frames.unbind(1))
        walk = list(
            self.simulator.rollout(
                start, frames.shape[1], self.keys, policy=Nudged(self.simulator.agent, hidden[:, 1:]),
                on_frame=lambda frame: frame + next(offsets),
            )
        )  # fmt: skip
        return self.function.at(trace_of(walk, start.hidden), self.step)


def captum_loop(source: SampleSaliency, ids: list[int], steps: int) -> dict[str, torch.Tensor]:
    """Gradients of frames [B, T, H, W, C] and hidden states [B, T + 1, D] of each function, one function and
    one sample at a time.
    """
    config, agent = source.config, source.simulator.agent
    found: dict[str, list[torch.Tensor]] = {}
    for one in ids:
        keys = NoiseKeys(source.seed, np.array([one]))
        z = source.starts.latents(np.array([one]), keys, "cpu").detach()
        z = perturbed_latents(z, keys, config.draws, config.noise, source.simulator.model.spherical)
        shape = source.simulator.model.config.obs_shape
        zeros = torch.zeros(config.draws, steps, *shape, requires_grad=True)
        states = torch.zeros(config.draws, steps + 1, agent.core.state_size, requires_grad=True)
        for function in config.functions:
            module = FunctionOfFrames(
                source.simulator, function, config.step, z, repeated_keys(keys, config.draws)
            )
            frames, hidden = captum_saliency(module).attribute((zeros, states), abs=False)
            found.setdefault(f"frames/{function.name}", []).append(frames.mean(0))
            found.setdefault(f"hx/{function.name}", []).append(hidden.mean(0))
    return {name: torch.stack(parts) for name, parts in found.items()}


def captum_saliency(module: torch.nn.Module):
    try:
        from captum.attr import Saliency
    except ImportError as error:
        raise UsageError("this benchmark compares with captum: pip install captum==0.8.0") from error
    return Saliency(module)


def ours(source: SampleSaliency, ids: list[int], batch_size: int) -> None:
    """As saliency_exps.py computes and stores them."""
    with tempfile.TemporaryDirectory() as directory:
        for index, at in enumerate(range(0, len(ids), batch_size)):
            write_batch(directory, index, source.simulated(ids[at : at + batch_size]))


def bytes_per_map(source: SampleSaliency, batch_size: int) -> float:
    """Bytes on disk per sample and function, the clip's share included."""
    with tempfile.TemporaryDirectory() as directory:
        write_batch(directory, 0, source.simulated(list(range(batch_size))))
        return batch_path(directory, 0).stat().st_size / batch_size / len(source.config.functions)


def timed_call(run, *given) -> float:
    """CPU seconds of a call."""
    begun = time.process_time()
    run(*given)
    return time.process_time() - begun


def make_source(args: Args) -> SampleSaliency:
    """Samples and functions of the benchmark, in float32."""
    simulator, meta = load_simulator(args.world_model_file, args.agent_file)
    set_precision("fp32", simulator.model, simulator.agent)
    width = simulator.agent.core.state_size
    directions = random_directions(args.num_directions, width, args.seed)
    known = known_functions(action_space_of(meta), {"ica": directions}, width)
    functions = choose_functions(["value", "action", "hx_direction"], known)
    config = SaliencyConfig(functions, args.num_sim_steps, args.function_step, draws=args.draws)
    starts, rollouts = open_starts(simulator, meta, args.data_dir, False, args.agent_file, args.seed)
    check_start_count(starts, args.num_samples)
    return SampleSaliency(simulator, starts, rollouts, config, args.seed)


def timed(args: Args, source: SampleSaliency) -> dict[str, list[float]]:
    """Seconds per sample of each contestant in each round; they take turns."""
    config = source.config
    times: dict[str, list[float]] = {"ours": [], "captum": [], "short": []}
    for turn in progress_bar(range(args.rounds + 1), unit="round", desc="saliency"):
        ids = [(turn * args.num_samples + k) % source.starts.count for k in range(args.num_samples)]
        spent = {
            "ours": timed_call(ours, source, ids, args.batch_size) / len(ids),
            "captum": timed_call(captum_loop, source, ids[:1], config.steps),
            "short": timed_call(captum_loop, source, ids[:1], config.grad_steps),
        }
        if turn:  # the first one warms up
            for name, value in spent.items():
                times[name].append(value)
    return times


def main(args: Args) -> None:
    torch.set_num_threads(1)
    source = make_source(args)
    peak_bytes(torch.device("cpu"), reset=True)
    times = timed(args, source)
    width = source.simulator.agent.core.state_size
    original = original_bytes(args.num_sim_steps, source.simulator.model.config.obs_shape, width)
    size = bytes_per_map(source, args.batch_size)
    speed = {name: [1 / value for value in values] for name, values in times.items()}
    ratios = {
        name: [slow / fast for slow, fast in zip(times[name], times["ours"])] for name in ("captum", "short")
    }
    report = {
        "batch_size": args.batch_size,
        "functions": [one.name for one in source.config.functions],
        "samples_per_second": speed,
        "ratio": ratios,
        "bytes_per_map": size,
        "original_bytes_per_map": original,
        "peak_bytes": peak_bytes(torch.device("cpu")),
        "load": os.getloadavg()[0],
    }
    for name, values in speed.items():
        logging.info("%-7s %6.3f samples/s (%s)", name, np.mean(values), listed(values))
    for name, values in ratios.items():
        logging.info("ours against %s: %.1f times (%s)", name, np.mean(values), listed(values))
    logging.info("%.0f bytes per map, %.3f of the original's %d", size, size / original, original)
    logging.info("%.2f GB at most, load %.1f", report["peak_bytes"] / 1e9, report["load"])
    inputs = {name: file_id(getattr(args, name)) for name in ("agent_file", "world_model_file")}
    inputs["data_dir"] = source.rollouts.id
    write_json(args.out_file, report | {"inputs": inputs, "manifest": manifest(inputs, "fp32")})


def listed(values: list[float]) -> str:
    return ", ".join(f"{value:.3g}" for value in values)


if __name__ == "__main__":
    run_main(main, ARGS)
