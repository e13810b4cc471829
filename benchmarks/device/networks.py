"""The networks of benchmarks/gpu.py: one step of each, forward or with gradients."""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
import torch

from agents.actor_critic import load_agent
from benchmarks.device.cells import Cell, Place
from common.precision import set_precision
from decision.config import load_preset
from decision.model import DecisionTransformer
from decision.windows import DTBatch
from generative.noise_keys import NoiseKeys
from generative.simulator_file import load_simulator
from generative.starts import RandomStarts

STEPS = 16
"""Of an unrolled agent, and of a Decision Transformer's windows."""


def network_cells(place: Place) -> Iterator[Cell]:
    """All cells."""
    for name, (unit, prepare) in NETWORKS.items():
        for batch in place.args.batch_sizes:
            for precision in place.args.precisions:
                for mode in place.args.modes:
                    yield Cell(
                        name,
                        f"batch {batch}",
                        unit,
                        partial(_in_mode, mode, place, partial(prepare, place, batch, precision)),
                        {"batch": batch, "precision": precision, "mode": mode},
                    )


def _in_mode(
    mode: str, place: Place, prepare: Callable[[], tuple[Callable[[], None], float]]
) -> Callable[[], float]:
    """A step that runs eagerly, compiled, or compiled with CUDA graphs; it returns its units."""
    if mode == "graphs" and place.device.type != "cuda":
        raise ValueError("CUDA graphs need a GPU")
    step, units = prepare()
    if mode != "eager":
        torch._dynamo.reset()
        step = torch.compile(step, mode="reduce-overhead" if mode == "graphs" else None)

    def work() -> float:
        step()
        return units

    return work


def agent_acts(place: Place, batch: int, precision: str) -> tuple[Callable[[], None], float]:
    """The agent sees a frame each and chooses; frames per second."""
    agent, _ = load_agent(place.args.agent_file, place.device)
    set_precision(precision, agent)
    frames = torch.randint(0, 256, (batch, *agent.config.obs_shape), dtype=torch.uint8, device=place.device)
    state, nothing = agent.initial_state(batch), torch.zeros(batch, device=place.device)

    def step() -> None:
        with torch.no_grad():
            agent.heads(agent.advance(frames, state, nothing.bool(), nothing))

    return step, batch


def agent_learns(place: Place, batch: int, precision: str) -> tuple[Callable[[], None], float]:
    """Gradients through STEPS steps of batch / STEPS environments; frames per second."""
    agent, _ = load_agent(place.args.agent_file, place.device)
    set_precision(precision, agent.requires_grad_(True))
    environments = max(batch // STEPS, 1)
    shape = (STEPS, environments, *agent.config.obs_shape)
    frames = torch.randint(0, 256, shape, dtype=torch.uint8, device=place.device)
    first = torch.zeros(STEPS, environments, dtype=torch.bool, device=place.device)
    state = agent.initial_state(environments)

    def step() -> None:
        logits, value = agent.heads(agent.unroll(frames, state, first))
        agent.zero_grad(set_to_none=True)
        (logits.square().mean() + value.square().mean()).backward()

    return step, STEPS * environments


def world_model_steps(place: Place, batch: int, precision: str) -> tuple[Callable[[], None], float]:
    """One simulated step of the world model, with its frame; frames per second."""
    simulator, _ = load_simulator(place.args.world_model_file, place.args.agent_file, device=place.device)
    set_precision(precision, simulator.model, simulator.agent)
    model, numbers = simulator.model, np.arange(batch)
    with torch.no_grad():
        z = RandomStarts(simulator).latents(numbers, NoiseKeys(0, numbers), place.device)
        state = model.start(z).env
    action = model.action_weights(torch.zeros(1, batch, dtype=torch.int64, device=place.device))[0]

    def step() -> None:
        with torch.no_grad():
            model.step(state, action, None)

    return step, batch


def dt_learns(place: Place, batch: int, precision: str) -> tuple[Callable[[], None], float]:
    """Gradients of the Decision Transformer `paper` on batch / STEPS windows; steps per second."""
    windows = max(batch // STEPS, 1)
    shape = {"num_actions": 15, "obs_shape": (64, 64, 3), "precision": precision}
    model = DecisionTransformer(load_preset("paper", shape, {})[0]).to(place.device).train()

    def random(*more: int, high: int, dtype: torch.dtype) -> torch.Tensor:
        return torch.randint(0, high, (windows, STEPS, *more), device=place.device).to(dtype)

    data = DTBatch(
        random(64, 64, 3, high=256, dtype=torch.uint8),
        random(high=15, dtype=torch.int64),
        random(high=10, dtype=torch.float32),
        torch.arange(STEPS, device=place.device).expand(windows, STEPS),
        torch.ones(windows, STEPS, dtype=torch.bool, device=place.device),
    )

    def step() -> None:
        loss, _ = model.loss(data)
        model.zero_grad(set_to_none=True)
        loss.backward()

    return step, windows * STEPS


NETWORKS = {
    "agent, acting": ("frame", agent_acts),
    "agent, learning": ("frame", agent_learns),
    "world model, one step": ("frame", world_model_steps),
    "decision transformer, learning": ("step", dt_learns),
}
"""Unit and preparation of each network."""
