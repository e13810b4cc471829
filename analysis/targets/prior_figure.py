"""First frames of recorded latents and of random ones: what a prior holds to be plausible."""

from pathlib import Path

import numpy as np
import torch

from analysis.plotting.style import add_caption, new_figure, save_figure
from analysis.targets.experiment import Experiment
from generative.simulator import Simulator
from interpret.targets.frame_diversity import first_frames
from interpret.targets.latent_prior import SphericalPrior

COUNT = 12
_GAP = 2


def draw_priors(experiment: Experiment, path: Path) -> Path:
    """Rows of first frames: latents of recorded moments, of the prior, and of N(0, I)."""
    simulator = experiment.simulator
    numbers = np.arange(COUNT)
    rows = {"recorded": experiment.draw("recorded")(numbers), "random": experiment.draw("random")(numbers)}
    if not isinstance(experiment.prior, SphericalPrior):
        generator = torch.Generator().manual_seed(experiment.seed)
        noise = torch.randn(rows["random"].shape, generator=generator).to(rows["random"])
        rows["N(0, I)"] = noise
    figure, axes = new_figure(len(rows), 1, panel=(COUNT * 0.72 + 0.55, 0.92))
    for axis, (label, z) in zip(axes[:, 0], rows.items()):
        axis.imshow(_row(simulator, z, experiment.sizes.batch_size))
        axis.set_axis_off()
        axis.text(-4, simulator.model.config.obs_shape[0] / 2, label, ha="right", va="center", fontsize=8)
    levels = experiment.candidate_levels("recorded", numbers)
    text = "First frames of latents: of recorded moments, random of the prior, and random of N(0, I)."
    add_caption(figure, text, f"{COUNT} latents each", f"{levels.min():,}-{levels.max():,} (recorded)")
    return save_figure(figure, path)[0]


def _row(simulator: Simulator, z: torch.Tensor, batch_size: int) -> np.ndarray:
    frames = (255 * first_frames(simulator, z, batch_size)).round().to(torch.uint8).cpu().numpy()
    gap = np.full((frames.shape[1], _GAP, 3), 255, np.uint8)
    return np.concatenate([part for frame in frames for part in (frame, gap)][:-1], 1)
