"""Attribution methods: from a function of frames and frames to maps of what the function depends on.

A signed map's entry is positive where the pixel raises the function. Gradient methods, integrated gradients
and occlusion are captum's (Kokhlikyan et al. 2020).
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from captum.attr import InputXGradient, IntegratedGradients, NoiseTunnel, Occlusion, Saliency

from interpret.attribution.frame_functions import FrameFunction
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.perturbation import (
    blur_masks,
    enlarge,
    gaussian_blur,
    perturbed_outputs,
    sarfa_scores,
)

Compute = Callable[[FrameFunction, torch.Tensor, MethodConfig], torch.Tensor]
"""Function, frames [B, H, W, C] in [0, 1], parameters -> maps [B, H, W]."""


class Method(NamedTuple):
    """A method. signed: the sum of a map over a region estimates what the region contributes to the function.

    slow: it evaluates the function hundreds of times for each frame.
    """

    compute: Compute
    signed: bool = False
    slow: bool = False


def samples(frames: torch.Tensor) -> torch.Tensor:
    """The sample of each frame when there is one of each."""
    return torch.arange(len(frames), device=frames.device)


def gradient(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """The gradient summed over colours, as saliency_exps.py stores it."""
    return _gradient(function, frames).sum(-1)


def gradient_norm(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """The length of the gradient over colours (Simonyan et al. 2014)."""
    return _gradient(function, frames).norm(dim=-1)


def gradient_x_input(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """Gradient times pixel, summed over colours (Shrikumar et al. 2016)."""
    found = InputXGradient(function).attribute(_leaf(frames), additional_forward_args=samples(frames))
    return found.sum(-1).detach()


def smoothgrad(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """The length over colours of the mean gradient of noisy frames (Smilkov et al. 2017)."""
    with torch.random.fork_rng():
        torch.manual_seed(config.seed)
        found = NoiseTunnel(Saliency(function)).attribute(
            _leaf(frames),
            nt_type="smoothgrad",
            nt_samples=config.smooth_draws,
            stdevs=config.smooth_std,
            abs=False,
            additional_forward_args=samples(frames),
        )
    return found.norm(dim=-1).detach()


def integrated_gradients(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """Integrated gradients from a black frame, summed over colours (Sundararajan et al. 2017)."""
    return path_integral(function, frames, torch.zeros_like(frames), config.ig_steps)[0]


def integrated_gradients_blur(
    function: FrameFunction, frames: torch.Tensor, config: MethodConfig
) -> torch.Tensor:
    """Integrated gradients from the blurred frame, summed over colours (Sturmfels et al. 2020)."""
    return path_integral(function, frames, gaussian_blur(frames, config.blur_std), config.ig_steps)[0]


def path_integral(
    function: FrameFunction, frames: torch.Tensor, baseline: torch.Tensor, steps: int
) -> tuple[torch.Tensor, torch.Tensor]:
    """Integrated gradients along the straight line from a baseline [B, H, W, C].

    Returns:
        Maps [B, H, W], and the completeness gap [B]: sum of the map minus the change of the function from
        baseline to frame.
    """
    found, gap = IntegratedGradients(function).attribute(
        _leaf(frames),
        baseline,
        additional_forward_args=samples(frames),
        n_steps=steps,
        return_convergence_delta=True,
    )
    return found.sum(-1).detach(), gap.detach()


def occlusion(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """How much the function falls when a square is painted in the frame's mean colour (Zeiler & Fergus 2014).

    Squares that overlap are averaged. All squares of all frames are one batch.
    """
    channels = frames.shape[-1]
    masks = 1
    for size in frames.shape[1:3]:
        masks *= -(-max(size - config.patch, 0) // config.stride) + 1
    found = Occlusion(function).attribute(
        frames,
        (config.patch, config.patch, channels),
        (config.stride, config.stride, channels),
        frames.mean((1, 2), keepdim=True).expand_as(frames),
        additional_forward_args=samples(frames),
        perturbations_per_eval=masks,
    )
    return found.mean(-1).float()


def blur(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """Half the squared change of the function when a region is blurred (Greydanus et al. 2018)."""
    return blur_map(*blurred_outputs(function, frames, config), frames, config)


def sarfa(function: FrameFunction, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """Specific and relevant feature attribution (Puri et al. 2020) of the most likely action.

    `function` gives log-probabilities [N, J]; see `sarfa_of`.
    """
    with torch.no_grad():
        best = function(frames, samples(frames)).argmax(-1)
    return sarfa_of(function, best, frames, config)


def sarfa_of(
    function: FrameFunction, action: torch.Tensor, frames: torch.Tensor, config: MethodConfig
) -> torch.Tensor:
    """SARFA of given actions [B]: how much less likely a blurred region makes the action, if it leaves the
    relative probabilities of the others alone.
    """
    return sarfa_map(*blurred_outputs(function, frames, config), action, frames, config)


def blurred_outputs(
    function: FrameFunction, frames: torch.Tensor, config: MethodConfig
) -> tuple[torch.Tensor, torch.Tensor]:
    """Outputs [B, ...] of the frames and [M, B, ...] with each of M regions blurred, which `blur_map` and
    `sarfa_map` share.
    """
    masks = blur_masks(frames.shape[1:3], config.stride, config.mask_std).to(frames)
    return perturbed_outputs(function, frames, masks, gaussian_blur(frames, config.blur_std))


def blur_map(original, perturbed, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """`blur` from outputs [B] and [M, B]."""
    return enlarge(0.5 * (perturbed - original).square(), frames, config.stride)


def sarfa_map(original, perturbed, action, frames: torch.Tensor, config: MethodConfig) -> torch.Tensor:
    """`sarfa_of` from log-probabilities [B, J] and [M, B, J]."""
    return enlarge(sarfa_scores(original, perturbed, action), frames, config.stride)


METHODS: dict[str, Method] = {
    "gradient": Method(gradient),
    "gradient_norm": Method(gradient_norm),
    "gradient_x_input": Method(gradient_x_input, signed=True),
    "smoothgrad": Method(smoothgrad),
    "integrated_gradients": Method(integrated_gradients, signed=True),
    "integrated_gradients_blur": Method(integrated_gradients_blur, signed=True),
    "occlusion": Method(occlusion, signed=True, slow=True),
    "blur": Method(blur, slow=True),
}
"""Methods for any function with values [N]. SARFA needs those of all actions, see `sarfa_of`."""


def _gradient(function: FrameFunction, frames: torch.Tensor) -> torch.Tensor:
    return Saliency(function).attribute(_leaf(frames), abs=False, additional_forward_args=samples(frames))


def _leaf(frames: torch.Tensor) -> torch.Tensor:
    """captum marks its inputs as leaves and clears their gradients."""
    return frames.detach().clone().requires_grad_()
