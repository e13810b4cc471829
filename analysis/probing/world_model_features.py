"""A world model's latents and environment states of recorded windows whose concepts are known."""

from pathlib import Path

import numpy as np
import torch

from analysis.probing.dataset import MIN_LAYOUTS, ProbeDataset
from common.precision import set_precision
from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from generative.simulator import Simulator
from generative.simulator_file import load_simulator
from rollouts.growth import RECORD_MORE
from rollouts.windows import Windows

STEPS_AHEAD = 8
"""Open-loop steps of an environment state along the recorded actions."""
MAX_WINDOWS = 20_000
_WINDOWS_PER_CALL = 256


def choose_windows(
    simulator: Simulator, dataset: ProbeDataset, seed: int
) -> tuple[Windows, np.ndarray, np.ndarray]:
    """Windows of the store, the numbers [m] of a random sample of them, and their rows in the dataset [m].

    The row is that of the last given frame.

    Raises:
        UsageError: if too few layouts have a window.
    """
    k = simulator.model.config.num_initializing_steps
    windows = dataset.rollouts.windows(k + STEPS_AHEAD, anchor="start", pad="none")
    row_of = np.full(len(dataset.rollouts), -1)
    row_of[dataset.episodes] = dataset.first_step
    in_dataset = np.flatnonzero(row_of[windows.table[:, 0]] >= 0)
    in_dataset = np.sort(np.random.default_rng([seed, 15]).permutation(in_dataset)[:MAX_WINDOWS])
    episode, start = windows.table[in_dataset].T
    rows = row_of[episode] + start + k - 1
    if len(np.unique(dataset.groups[rows])) < 3 * MIN_LAYOUTS:
        steps = counted(k + STEPS_AHEAD, "step")
        too_few = f"too few layouts of {dataset.rollouts.path} have episodes of {steps}"
        raise UsageError(f"{too_few}, on which --world_model_file is probed: {RECORD_MORE}")
    return windows, in_dataset, rows


def world_model_states(
    world_model_file: Path,
    agent_file: Path,
    dataset: ProbeDataset,
    seed: int,
    device,
    precision: str = "auto",
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """States [m, F] of up to MAX_WINDOWS random windows, with their rows in the dataset [m], by name.

    The latent's mean; the mode of the environment state that it decodes to, at the last given frame; and that
    state STEPS_AHEAD open-loop steps later.

    Args:
        world_model_file: of the world model.
        agent_file: of the agent.
        dataset: the probed steps.
        seed: of the sample of windows.
        device: where networks run.
        precision: of the networks.
    """
    simulator = load_simulator(world_model_file, agent_file, device=device)[0]
    set_precision(precision, simulator.model, simulator.agent)
    model = simulator.model
    windows, in_dataset, rows = choose_windows(simulator, dataset, seed)
    k = model.config.num_initializing_steps
    found = {"latent": [], "environment state": [], f"environment state {STEPS_AHEAD} on": []}
    for batch in progress_bar(
        np.array_split(in_dataset, range(_WINDOWS_PER_CALL, len(in_dataset), _WINDOWS_PER_CALL)),
        desc="world model",
        unit="batch",
    ):
        segment = windows.batch(batch)
        with torch.inference_mode():
            latent = simulator.encode(segment.obs[:k].to(device)).mean
            state = model.start(latent).env
            later = state
            for action in segment.action[k - 1 : k - 1 + STEPS_AHEAD].to(device):
                later = model.step(later, action)
        for parts, value in zip(found.values(), (latent, model.flat_state(state), model.flat_state(later))):
            parts.append(value.float().cpu().numpy())
    at = dict(zip(found, (rows, rows, rows + STEPS_AHEAD)))
    return {name: (np.concatenate(parts), at[name]) for name, parts in found.items()}
