"""Simulation speed: frames per second by batch, steps, size and with gradients, peak memory, and the cost of
what we do besides the networks.

The alternative is a plain loop: the same networks in the same precision, the default memory layout, PyTorch's
own random numbers, tiles and texels picked by advanced indexing, every tile computed in every step, no modes,
no ends, nothing kept but the frames, actions and values. Both take turns in one process, on one thread, and
are timed in CPU seconds (on a GPU: by the clock), so that whatever else the machine does matters little.

The simulator computes only the textures of tiles that changed, so its speed depends on what the model plays:
the share of those tiles is given with each figure. Random weights change far more than trained ones.
"""

import logging
import time
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import Device, LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path = Path("pretrained/coinrun_easy_200/seed_0_finished/model.safetensors")
    """The agent in the loop."""
    world_model_file: Path = Path("pretrained/coinrun_simulator/model.safetensors")
    """Trained weights for the preset of their size; the other presets have random ones."""
    random_weights: bool = False
    """Random weights for all presets."""
    data_dir: Path | None = None
    """Store of recorded play that the trained model starts from; by default the one it was trained on, in
    data/.
    """
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

from agents.actor_critic import load_agent
from common.checkpoints import write_json
from common.precision import autocast_context, choose_precision, set_precision
from common.progress import progress_bar
from common.runs import choose_device, file_id, manifest
from generative.model.canvas import KNOWN, base_tile
from generative.model.categorical import sample_categorical
from generative.model.config import load_preset
from generative.model.frames import round_frames
from generative.model.player import NEIGHBOURHOOD, Surroundings, phase_features
from generative.model.state import EnvState
from generative.model.texels import texel_of
from generative.model.tile_dynamics import BORDER, CLOSED, TileDynamics, TileFeatures
from generative.model.world_model import WorldModel
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from generative.starts import RandomStarts, Starts, open_starts

TILE_PIXELS = 64 / 13
"""Side of a tile of CoinRun, which a model trained with labels has."""


def ours(simulator: Simulator, z: torch.Tensor, steps: int, grad: bool) -> None:
    out = simulator.simulate(z, steps, NoiseKeys(0, np.arange(len(z))), grad=grad, ends=False)
    if grad:
        torch.autograd.grad(out.value[-1].sum(), z)


def plain(simulator: Simulator, z: torch.Tensor, steps: int, grad: bool) -> None:
    """What one writes first. Straight-through draws, as without them nothing has a gradient."""
    model = simulator.model
    agent = simulator.agent
    columns = model.config.view_shape[1]

    def gumbel(*shape):
        return -torch.log(-torch.log(torch.rand(shape, device=z.device)))

    with torch.set_grad_enabled(grad):
        start = model.start(z)
        kept = []
        env = start.env
        hidden = start.hidden
        nothing = torch.zeros(len(z), device=z.device)
        for _ in range(steps):
            frame = round_frames(env.frame)
            hidden = agent.advance(frame, hidden, nothing.bool(), nothing)
            logits, value = agent.heads(hidden)
            action = (logits + gumbel(*logits.shape)).argmax(-1)
            probabilities = logits.softmax(-1)
            weights = F.one_hot(action, logits.shape[-1]) + probabilities - probabilities.detach()
            env = plain_step(model, env, weights, gumbel(len(z), columns, model.config.classes))
            kept.append((frame, action, value))
        _frames, _actions, values = (torch.stack(parts) for parts in zip(*kept))
        if grad:
            torch.autograd.grad(values[-1].sum(), z)


def plain_step(model: WorldModel, env: EnvState, action: torch.Tensor, noise: torch.Tensor) -> EnvState:
    """`WorldModel.step` with a canvas that is read and written by advanced indexing."""
    c = model.config
    centre = env.position + torch.tensor(c.obs_shape[:2], device=action.device) / 2
    corner = base_tile(centre, c.tile_pixels) - NEIGHBOURHOOD // 2
    tiles = window(env.canvas, corner, (NEIGHBOURHOOD, NEIGHBOURHOOD))
    around = Surroundings(tiles.flatten(1), phase_features(centre / c.tile_pixels), centre)
    motion = model.motion_head(env.vector, around, env.motion, action).choose()
    outcome = model.outcome_head(env, around, motion, action)
    vector, pose = model.vector_gru(env, around, motion, action)
    position = env.position - motion
    base = base_tile(position, c.tile_pixels)
    ahead = model.tile_dynamics(window(env.canvas, base - BORDER, model.tile_dynamics.window_shape), vector)
    logits = model.tile_dynamics.prior(ahead)
    sample = sample_categorical(logits, model.tile_noise(noise))
    codes = plain_codes(model.tile_dynamics, ahead, sample)
    canvas = env.canvas.clone()
    canvas[indices(canvas, base, c.view_shape)] = codes
    frame = plain_frame(model, codes[..., : c.code_size], position, pose)
    return EnvState(vector, canvas, position, motion, pose, logits, sample, outcome, frame)


def plain_codes(dynamics: TileDynamics, tiles: TileFeatures, sample: torch.Tensor) -> torch.Tensor:
    """`TileDynamics.apply_sample` that computes the new codes of all tiles."""
    old, known = tiles.before.split([dynamics.config.code_size, KNOWN], -1)
    gate = torch.sigmoid(dynamics.gate_head(tiles.features) - CLOSED)
    keep = known * (1 - ((gate > 0.5).float() + gate - gate.detach()))
    embedded = dynamics.class_embedding(sample).unflatten(1, tiles.features.shape[1:3])
    with autocast_context(dynamics.precision, sample.device.type):
        updated = dynamics.update(F.silu(tiles.features + embedded))
    codes = keep * old + (1 - keep) * torch.tanh(updated.to(sample.dtype))
    return torch.cat([codes, torch.ones_like(known)], -1)


def indices(canvas: torch.Tensor, base: torch.Tensor, shape: tuple[int, int]) -> tuple[torch.Tensor, ...]:
    """Sample, row and column of the tiles of a window of a canvas, to index it by."""
    rows, columns = (
        (base[:, axis, None] + torch.arange(n, device=base.device)) % canvas.shape[1]
        for axis, n in enumerate(shape)
    )
    samples = torch.arange(len(canvas), device=base.device)
    return samples[:, None, None], rows[:, :, None], columns[:, None, :]


def window(canvas: torch.Tensor, base: torch.Tensor, shape: tuple[int, int]) -> torch.Tensor:
    return canvas[indices(canvas, base, shape)]


def plain_frame(
    model: WorldModel, codes: torch.Tensor, position: torch.Tensor, pose: torch.Tensor
) -> torch.Tensor:
    """The painter, with all textures in one image of which every pixel takes its texel.

    Where the position needs a gradient there is nothing plainer than the painter's own sums of texels.
    """
    if position.requires_grad:
        return model.painter(codes, position, pose)
    c = model.config
    with autocast_context(model.painter.precision, codes.device.type):
        textures = model.painter.texture(codes).unflatten(-1, (c.texels, c.texels, -1))
        image = textures.transpose(2, 3).flatten(1, 2).flatten(2, 3)
        at = []
        for axis, (pixels, count) in enumerate(zip(c.obs_shape, c.view_shape)):
            place = (
                position[:, axis, None] + torch.arange(pixels, device=codes.device) + 0.5
            ) / c.tile_pixels
            place = place - base_tile(position, c.tile_pixels)[:, axis, None]
            tile = place.floor().clamp(0, count - 1)
            at.append(tile.long() * c.texels + texel_of(place - tile, c.texels))
        samples = torch.arange(len(codes), device=codes.device)
        frame = image[samples[:, None, None], at[0][:, :, None], at[1][:, None, :]].to(codes.dtype)
        sprite = model.painter.sprite(pose).view(len(pose), c.sprite_pixels, c.sprite_pixels, -1)
        rows, columns = c.sprite_slices
        opacity = torch.sigmoid(sprite[..., -1:] - 2)
        frame[:, rows, columns] = (1 - opacity) * frame[:, rows, columns] + opacity * sprite[..., :-1]
    return frame + 0.5


def networks(preset: str, args: Args, device) -> tuple[Simulator, dict | None]:
    """A simulator of CoinRun of the preset's size, and the description of its world model's file; None where
    that is of another size and the weights are random.
    """
    agent, _ = load_agent(args.agent_file, device)
    shape = {
        "num_actions": agent.num_actions,
        "obs_shape": agent.config.obs_shape,
        "hidden_size": agent.core.state_size,
        "tile_pixels": TILE_PIXELS,
        "knows_phase": True,
    }
    torch.manual_seed(0)
    model = WorldModel(load_preset(preset, shape, {})[0]).to(device).requires_grad_(False)
    simulator, meta = Simulator(model, agent), None
    if not args.random_weights:
        trained = load_simulator(args.world_model_file, args.agent_file, device=device)
        if weight_shapes(trained[0].model) == weight_shapes(model):
            simulator, meta = trained
    set_precision(args.precision, simulator.model, simulator.agent)
    return simulator, meta


def weight_shapes(model: WorldModel) -> dict[str, torch.Size]:
    return {name: weight.shape for name, weight in model.state_dict().items()}


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


def changed_share(simulator: Simulator, z: torch.Tensor, steps: int, grad: bool) -> float:
    """Share of the tiles in view whose texture `ours` computes in a step, after the first frame."""
    computed = []
    hook = simulator.model.painter.texture.register_forward_hook(
        lambda _, given, textures: computed.append(textures[..., 0].numel())
    )
    ours(simulator, z, steps, grad)
    hook.remove()
    return sum(computed[1:]) / (steps * len(z) * simulator.model.config.num_tiles)


def cell(
    fast: Simulator, slow: Simulator, starts: Starts, batch: int, steps: int, grad: bool, rounds: int, device
) -> dict:
    """Speeds of both, in frames per second, the share of tiles that change, and our peak memory."""
    places = np.arange(batch)
    z = starts.latents(places, NoiseKeys(0, places), device).detach().requires_grad_(grad)
    seconds(plain, slow, z, steps, grad)
    peak_bytes(device, reset=True)
    changed = changed_share(fast, z, steps, grad)
    peak = peak_bytes(device)
    times = np.array(
        [[seconds(ours, fast, z, steps, grad), seconds(plain, slow, z, steps, grad)] for _ in range(rounds)]
    )
    speed = batch * steps / times.mean(0)
    return {
        "changed": changed,
        "ours": speed[0],
        "plain": speed[1],
        "ratio": speed[0] / speed[1],
        "peak_bytes": peak,
    }


def main(args: Args) -> None:
    torch.set_num_threads(1)
    device = choose_device(args.device)
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
        (fast, meta), (slow, _) = (networks(preset, args, device) for _ in range(2))
        for part in (slow.model, slow.agent):
            part.to(memory_format=torch.contiguous_format)
        starts = (
            open_starts(fast, meta, args.data_dir, False, args.agent_file, 0)[0]
            if meta
            else RandomStarts(fast)
        )
        row = {
            "preset": preset,
            "weights": "trained" if meta else "random",
            "batch": batch,
            "steps": steps,
            "grad": grad,
        }
        rows.append(row | cell(fast, slow, starts, batch, steps, grad, args.rounds, device))
    logging.info(
        "preset  weights  batch  steps  gradients  tiles changed  frames/s  plain loop  ratio  peak GB"
    )
    for row in rows:
        logging.info(
            "%-6s  %-7s %6d %6d  %-9s %13.1f%% %9.0f  %10.0f  %5.2f  %7.2f",
            row["preset"],
            row["weights"],
            row["batch"],
            row["steps"],
            "yes" if row["grad"] else "no",
            100 * row["changed"],
            row["ours"],
            row["plain"],
            row["ratio"],
            row["peak_bytes"] / 1e9,
        )
    inputs = {"agent_file": args.agent_file}
    if not args.random_weights:
        inputs["world_model_file"] = args.world_model_file
    write_json(
        args.out_file,
        {
            "device": str(device),
            "rows": rows,
            "manifest": manifest(
                {name: file_id(path) for name, path in inputs.items()},
                choose_precision(args.precision, device).name,
            ),
        },
    )


if __name__ == "__main__":
    run_main(main, ARGS)
