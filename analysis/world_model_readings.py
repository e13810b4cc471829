"""A world model's latents and environment states for recorded windows, whose concepts are known."""

from pathlib import Path

import numpy as np
import torch

from analysis.probe_data import FEWEST_LAYOUTS, Study
from common.precision import set_precision
from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from generative.simulator import Simulator, load_simulator
from rollouts.growth import RECORD_MORE
from rollouts.windows import Windows

AHEAD = 8
"""Steps that an environment state is stepped on with the recorded actions, seeing no further frame."""
MOST_WINDOWS = 20_000
_AT_ONCE = 256


def choose_windows(simulator: Simulator, study: Study, seed: int) -> tuple[Windows, np.ndarray, np.ndarray]:
    """The windows of the store, the numbers [m] of those that are read, and the row of the study [m] that each is of. Raises UsageError where too
    few layouts have one."""
    k = simulator.model.config.num_initializing_steps
    windows = study.rollouts.windows(k + AHEAD, anchor="start", pad="none")
    row_of = np.full(len(study.rollouts), -1)
    row_of[study.episodes] = study.first_step
    here = np.flatnonzero(row_of[windows.table[:, 0]] >= 0)
    here = np.sort(np.random.default_rng([seed, 15]).permutation(here)[:MOST_WINDOWS])
    episode, start = windows.table[here].T
    rows = row_of[episode] + start + k - 1
    if len(np.unique(study.groups[rows])) < 3 * FEWEST_LAYOUTS:
        where = f"too few layouts of {study.rollouts.path} have episodes of {counted(k + AHEAD, 'step')}"
        raise UsageError(f"{where}, on which --sim_model_file is probed: {RECORD_MORE}")
    return windows, here, rows


def world_model_states(
    model_file: Path, agent_file: Path, study: Study, seed: int, device, precision: str = "auto"
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """States [m, F] and the rows of the study [m] that they are of: the latent's mean and the likeliest environment state it gives, at the
    last initialising frame, and that state AHEAD steps on. At most MOST_WINDOWS windows, drawn at random."""
    simulator = load_simulator(model_file, agent_file, device=device)[0]
    set_precision(precision, simulator.model, simulator.agent)
    model = simulator.model
    windows, here, rows = choose_windows(simulator, study, seed)
    k = model.config.num_initializing_steps
    found = {"latent": [], "environment state": [], f"environment state {AHEAD} on": []}
    for batch in progress_bar(np.array_split(here, range(_AT_ONCE, len(here), _AT_ONCE)), desc="world model", unit="batch"):
        segment = windows.batch(batch)
        with torch.inference_mode():
            latent = simulator.encode(segment.obs[:k].to(device)).mean
            state = model.start(latent).env
            later = state
            for action in segment.action[k - 1 : k - 1 + AHEAD].to(device):
                later = model.step(later, action)
        for parts, value in zip(found.values(), (latent, state.features(), later.features())):
            parts.append(value.float().cpu().numpy())
    at = dict(zip(found, (rows, rows, rows + AHEAD)))
    return {name: (np.concatenate(parts), at[name]) for name, parts in found.items()}
