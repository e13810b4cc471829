"""Simulation speed: frames per second by batch, steps, size and with gradients, peak memory, and the cost of
what we do besides the networks.

The alternative is a plain loop: the same networks in float32, PyTorch's own random numbers, no modes, no
ends, nothing kept but the frames, actions and values. Both take turns in one process, on one thread, and are
timed in CPU seconds (on a GPU: by the clock), so that whatever else the machine does matters little.
"""

import logging
import time
from dataclasses import dataclass, replace
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent in the loop; the world models have random weights."""
    presets: tuple[str, ...] = ("tiny", "small")
    """Sizes of world model."""
    batch_sizes: tuple[int, ...] = (1, 256)
    """Samples side by side."""
    horizons: tuple[int, ...] = (8, 32)
    """Simulated steps."""
    rounds: int = 2
    """Timed turns of each, after one to warm up."""
    most_grad_frames: int = 2048
    """Largest number of frames of a cell with gradients, which keep about 2 MB per frame; larger cells are
    skipped.
    """
    device: Device = "auto"
    out_file: Path = Path("benchmarks/results/simulation.json")
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
from common.precision import choose_precision
from common.progress import progress_bar
from common.runs import choose_device, file_id, manifest
from generative.model.config import load_preset
from generative.model.world_model import WorldModel
from generative.simulator import NoiseKeys, Simulator


def ours(simulator: Simulator, z: torch.Tensor, steps: int, grad: bool) -> None:
    out = simulator.simulate(z, steps, NoiseKeys(0, np.arange(len(z))), grad=grad, ends=False)
    if grad:
        torch.autograd.grad(out.value[-1].sum(), z)


def plain(simulator: Simulator, z: torch.Tensor, steps: int, grad: bool) -> None:
    """What one writes first. Straight-through draws, as without them nothing has a gradient."""
    model = simulator.model
    agent = simulator.agent

    def gumbel(shape):
        return -torch.log(-torch.log(torch.rand(shape, device=z.device)))

    with torch.set_grad_enabled(grad):
        start = model.start(z, gumbel((len(z), *model.config.stoch_shape)))
        kept = []
        env = start.env
        hidden = start.hidden
        nothing = torch.zeros(len(z), device=z.device)
        for _ in range(steps):
            frame = model.decode(env)
            hidden = agent.advance(frame, hidden, nothing.bool(), nothing)
            logits, value = agent.heads(hidden)
            action = (logits + gumbel(logits.shape)).argmax(-1)
            probabilities = logits.softmax(-1)
            env = model.step(
                env,
                F.one_hot(action, logits.shape[-1]) + probabilities - probabilities.detach(),
                gumbel(env.logits.shape),
            )
            kept.append((frame, action, value))
        _frames, _actions, values = (torch.stack(parts) for parts in zip(*kept))
        if grad:
            torch.autograd.grad(values[-1].sum(), z)


def networks(preset: str, agent: ActorCritic, precision: str, device) -> Simulator:
    """A simulator with a world model of random weights and a copy of the agent, both in the precision."""
    shape = {
        "num_actions": agent.num_actions,
        "obs_shape": agent.config.obs_shape,
        "hidden_size": agent.core.state_size,
    }
    torch.manual_seed(0)
    model = (
        WorldModel(load_preset(preset, shape | {"precision": precision}, {})[0])
        .to(device)
        .eval()
        .requires_grad_(False)
    )
    copy = ActorCritic(replace(agent.config, precision=precision)).to(device)
    copy.load_state_dict(agent.state_dict())
    return Simulator(model, copy)


def seconds(run, *given) -> float:
    device = given[1].device
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    begun = clock()
    run(*given)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun


def peak_bytes(device, reset: bool = False) -> int:
    """The most memory held since the last reset: GPU memory, or resident memory (Linux) with weights and
    libraries.

    What the process once held and freed may still be resident: cells are timed from the smallest on.
    """
    if device.type == "cuda":
        return (
            torch.cuda.reset_peak_memory_stats(device) or 0
            if reset
            else torch.cuda.max_memory_allocated(device)
        )
    if reset:
        Path("/proc/self/clear_refs").write_text("5")
        return 0
    (line,) = (
        line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith("VmHWM")
    )
    return int(line.split()[1]) * 1024


def cell(fast: Simulator, slow: Simulator, batch: int, steps: int, grad: bool, rounds: int, device) -> dict:
    """Speeds of both, in frames per second, and our peak memory."""
    z = torch.randn(batch, fast.model.config.latent_size, device=device, requires_grad=grad)
    seconds(plain, slow, z, steps, grad)
    peak_bytes(device, reset=True)
    seconds(ours, fast, z, steps, grad)
    peak = peak_bytes(device)
    times = np.array(
        [[seconds(ours, fast, z, steps, grad), seconds(plain, slow, z, steps, grad)] for _ in range(rounds)]
    )
    speed = batch * steps / times.mean(0)
    return {"ours": speed[0], "plain": speed[1], "ratio": speed[0] / speed[1], "peak_bytes": peak}


def main(args: Args) -> None:
    torch.set_num_threads(1)
    device = choose_device(args.device)
    agent = load_agent(args.agent_file, device)[0]
    # memory grows
    asked = [
        (p, b, s, g)
        for g in (False, True)
        for b in args.batch_sizes
        for s in args.horizons
        for p in args.presets
    ]
    asked = [(p, b, s, g) for p, b, s, g in asked if not g or b * s <= args.most_grad_frames]
    rows = []
    for preset, batch, steps, grad in progress_bar(asked, unit="cell", desc="simulation"):
        fast, slow = (networks(preset, agent, precision, device) for precision in (args.precision, "fp32"))
        row = {"preset": preset, "batch": batch, "steps": steps, "grad": grad} | cell(
            fast, slow, batch, steps, grad, args.rounds, device
        )
        rows.append(row)
    logging.info("preset  batch  steps  gradients  frames/s  plain loop  ratio  peak GB")
    for row in rows:
        logging.info(
            "%-6s %6d %6d  %-9s %9.0f  %10.0f  %5.2f  %7.2f",
            row["preset"],
            row["batch"],
            row["steps"],
            "yes" if row["grad"] else "no",
            row["ours"],
            row["plain"],
            row["ratio"],
            row["peak_bytes"] / 1e9,
        )
    write_json(
        args.out_file,
        {
            "device": str(device),
            "rows": rows,
            "manifest": manifest(
                {"agent_file": file_id(args.agent_file)}, choose_precision(args.precision, device).name
            ),
        },
    )


if __name__ == "__main__":
    run_main(main, ARGS)
