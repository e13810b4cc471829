"""Times every network in bf16 and float32, forward and backward, and compares with the choice of `auto`.

One thread, CPU seconds (on a GPU: wall-clock). Weights are random, which does not affect time. With
--agent_file and --data_dir it also measures how far the agent's policy, value and memory in float32 are from
those in bf16, over recorded episodes.
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
    presets: tuple[str, ...] = ("tiny", "small", "paper")
    """World model presets."""
    frames: int = 64
    """Frames in a batch."""
    rounds: int = 5
    """Timed rounds per network after one warm-up; the fastest counts."""
    agent_file: Path | None = None
    """Agent whose outputs in both precisions are compared."""
    data_dir: Path | None = None
    """Store of rollouts for that comparison."""
    num_episodes: int = 32
    """Number of episodes of the store."""
    device: Device = "auto"
    out_file: Path = Path("benchmarks/results/precision.json")
    """JSON file for the results."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch
from torch import nn

from agents.actor_critic import load_agent
from agents.encoders import ARCHITECTURES, Encoder
from common.checkpoints import write_json
from common.precision import choose_precision, set_precision
from common.progress import progress_bar
from common.runs import UsageError, choose_device, file_id, manifest
from generative.model.config import load_preset
from generative.model.world_model import View, WorldModel
from interpret.probing.frame_cnn import FrameCNN
from rollouts.store import Rollouts

OBS_SHAPE = (64, 64, 3)
POLICY_TOLERANCE = 0.001
"""Mean KL, in nats, up to which one agent's policies in both precisions count as equal: about twenty times
the measured one (docs/pipeline.md).
"""


def networks(
    presets: tuple[str, ...], frames: int, device
) -> dict[str, tuple[nn.Module, Callable[[nn.Module], torch.Tensor]]]:
    """{name: callable that runs the network on a batch}."""
    obs = torch.randint(0, 256, (frames, *OBS_SHAPE), dtype=torch.uint8, device=device)
    found = {
        f"agent, {name}": (Encoder(name, OBS_SHAPE, 256, "auto"), lambda network: network(obs))
        for name in ARCHITECTURES
    }
    reader = FrameCNN(OBS_SHAPE, torch.zeros(20), torch.ones(20))
    found["frame CNN"] = reader, lambda network: network(obs)
    for preset in presets:
        config, _ = load_preset(preset, {"num_actions": 15, "obs_shape": OBS_SHAPE, "hidden_size": 64}, {})
        z = torch.randn(frames, config.latent_size, device=device)
        action = torch.zeros(frames, dtype=torch.int64, device=device)
        found[f"world model, {preset}"] = (
            WorldModel(config),
            lambda model, z=z, action=action: simulated(model, obs, z, action),
        )
    return {name: (network.to(device), run) for name, (network, run) in found.items()}


def simulated(model: WorldModel, obs: torch.Tensor, z: torch.Tensor, action: torch.Tensor) -> torch.Tensor:
    """A scalar that depends on every convolution: encodes frames, starts from latents, and takes one step."""
    c = model.config
    still = z.new_zeros(c.num_initializing_steps, len(obs), 2)
    encoded = model.encoder(obs, still[0])
    canvas = model.add_frame(model.blank_canvas(len(obs)), encoded, still[0])
    hidden = z.new_zeros(len(obs), c.hidden_size)
    latent = model.latent(canvas, View(still, still[1:], still), encoded.pose, hidden)
    return latent.mean.mean() + model.step(model.start(z).env, action).frame.mean()


def seconds(network: nn.Module, run, precision: str, gradient: bool, device: torch.device) -> float:
    """Seconds of one run in the given precision."""
    set_precision(precision, network)
    clock = time.process_time if device.type == "cpu" else time.perf_counter
    network.zero_grad(set_to_none=True)
    begun = clock()
    with torch.set_grad_enabled(gradient):
        out = run(network).float().sum()
        if gradient:
            out.backward()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return clock() - begun


def compared(
    network: nn.Module, run, chosen: str, gradient: bool, rounds: int, device: torch.device
) -> dict[str, float]:
    """Seconds in both precisions, alternating, and the ratio of the precision that `auto` rejects to its
    choice.
    """
    turns = [
        [seconds(network, run, precision, gradient, device) for precision in ("bf16", "fp32")]
        for _ in range(rounds + 1)
    ]
    best = dict(zip(("bf16", "fp32"), np.min(turns[1:], axis=0).tolist()))
    other = "fp32" if chosen == "bf16" else "bf16"
    return best | {"other_over_chosen": best[other] / best[chosen]}


@torch.inference_mode()
def distances(agent_file: Path, data_dir: Path, num_episodes: int) -> dict[str, float]:
    """Distances between the agent in float32 and in bf16 on recorded episodes, each with its own memory from
    the first frame on.
    """
    agent = load_agent(agent_file)[0]
    rollouts = Rollouts.open(data_dir)
    found = {"kl": [], "same_action": [], "value": [], "hidden": [], "hidden_sd": []}
    for episode in range(min(num_episodes, len(rollouts))):
        obs = torch.from_numpy(rollouts.episode(episode)["obs"])[:, None]
        first = torch.zeros(len(obs), 1, dtype=torch.bool)
        first[0] = True
        states = {}
        answers = {}
        for precision in ("bf16", "fp32"):
            set_precision(precision, agent)
            states[precision] = agent.unroll(obs, agent.initial_state(1), first)[:, 0]
            answers[precision] = agent.heads(states[precision])
        (half, half_value), (whole, whole_value) = answers["bf16"], answers["fp32"]
        p = half.log_softmax(-1)
        q = whole.log_softmax(-1)
        found["kl"].append((p.exp() * (p - q)).sum(-1))
        found["same_action"].append((half.argmax(-1) == whole.argmax(-1)).float())
        found["value"].append((half_value - whole_value).abs())
        found["hidden"].append((states["bf16"] - states["fp32"]).abs().mean(-1))
        found["hidden_sd"].append(states["fp32"].std(0).mean()[None])
    columns = {name: torch.cat(parts) for name, parts in found.items()}
    means = {name: column.mean().item() for name, column in columns.items()}
    return means | {
        "kl_max": columns["kl"].max().item(),
        "steps": len(columns["kl"]),
        "within": means["kl"] <= POLICY_TOLERANCE,
    }


def main(args: Args) -> None:
    if (args.agent_file is None) != (args.data_dir is None):
        raise UsageError(
            "--agent_file and --data_dir say together how far the precisions are apart: give both, or neither"
        )
    torch.set_num_threads(1)
    torch.manual_seed(0)
    device = choose_device(args.device)
    chosen = choose_precision("auto", device).name
    rows = []
    built = networks(args.presets, args.frames, device)
    cells = [(name, gradient) for name in built for gradient in (False, True)]
    for name, gradient in progress_bar(cells, unit="cell", desc="precision"):
        rows.append(
            {"network": name, "gradient": gradient}
            | compared(*built[name], chosen, gradient, args.rounds, device)
        )
    logging.info("auto is %s here%-12s  gradient   bf16 ms   fp32 ms  other / chosen", chosen, "")
    for row in rows:
        logging.info(
            "%-24s %-9s %9.1f %9.1f %9.2f",
            row["network"],
            "yes" if row["gradient"] else "no",
            1000 * row["bf16"],
            1000 * row["fp32"],
            row["other_over_chosen"],
        )
    found = {
        "chosen": chosen,
        "frames": args.frames,
        "rows": rows,
        "least": min(row["other_over_chosen"] for row in rows),
    }
    found |= {"cpu": torch.backends.cpu.get_cpu_capability(), "device": str(device)}
    inputs = {}
    if args.agent_file:
        inputs = {"agent_file": file_id(args.agent_file), "data_dir": Rollouts.open(args.data_dir).id}
        found["distance"] = distances(args.agent_file, args.data_dir, args.num_episodes)
        far = found["distance"]
        logging.info(
            "float32 from bf16, %d steps: KL mean %.2g and at most %.2g nats, the same likeliest"
            " action %.2f%%, value %.2g, hidden "
            "%.2g of %.2g",
            far["steps"],
            far["kl"],
            far["kl_max"],
            100 * far["same_action"],
            far["value"],
            far["hidden"],
            far["hidden_sd"],
        )
    write_json(args.out_file, found | {"manifest": manifest(inputs)})


if __name__ == "__main__":
    run_main(main, ARGS)
