"""Gradients of functions of a trace with respect to everything in it, at every step, whole and by path.

One forward pass serves all functions and samples.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

import torch

from generative.model.world_model import WorldModel
from interpret.attribution.trace import Edge, Trace

INPUTS = ("frames", "hidden", "env_state", "actions", "latent")
PATHS = ("agent", "environment", "mixed")
"""How a function depends on an input: through the agent's memory alone; through what the environment shows
while the actions stay as they are; and through changed actions. They sum to the whole gradient.
"""
_ENV_PARTS = ("vector", "pose", "motion", "position", "canvas")


def gradients(
    trace: Trace, values: torch.Tensor, inputs: Sequence[str], model: WorldModel | None = None
) -> dict[str, torch.Tensor]:
    """Gradients of each function's value with respect to inputs of its own sample.

    Args:
        trace: T steps of B samples.
        values: [F, B], a value per function and sample.
        inputs: of INPUTS.
        model: of the simulator; needed for env_state.

    Returns:
        frames [F, T, B, H, W, C]; hidden [F, T + 1, B, D], before each frame and after the last; env_state
        [F, T, B, Dh], as `WorldModel.flat_state`; actions [F, T, B, A]; latent [F, B, Z]. Zero where an input
        comes too late to matter.
    """
    rows = [value_gradients(trace, value, inputs, model) for value in values]
    return {name: torch.stack([row[name] for row in rows]) for name in rows[0]} if rows else {}


def value_gradients(
    trace: Trace, value: torch.Tensor, inputs: Sequence[str], model: WorldModel | None = None
) -> dict[str, torch.Tensor]:
    """Gradients as in `gradients` of one function's values [B], without the axis F."""
    leaves = {name: _tensors(trace, name) for name in inputs}
    found = iter(_backward(value.sum(), [tensor for tensors in leaves.values() for tensor in tensors]))
    parts = {name: [next(found) for _ in tensors] for name, tensors in leaves.items()}
    stacked = {name: torch.stack(some) for name, some in parts.items() if name not in ("env_state", "latent")}
    if "env_state" in parts:
        stacked["env_state"] = _flat_state_gradients(trace, parts["env_state"], model)
    if "latent" in parts:
        stacked["latent"] = parts["latent"][0]
    return {name: stacked[name] for name in inputs}


def path_gradients(
    trace: Trace, values: torch.Tensor, inputs: Sequence[str], model: WorldModel | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients as in `gradients`, by path: {"total", *PATHS}: {input: gradient}.

    Frames and actions are inputs on the far side of their edge: a frame as the agent sees it, an action as
    the environment takes it. Environment states and actions have no agent path; hidden states and frames have
    no environment path, since they reach the environment through actions alone.
    """
    rows = [value_path_gradients(trace, value, inputs, model) for value in values]
    return {
        path: {name: torch.stack([row[path][name] for row in rows]) for name in inputs}
        for path in ("total", *PATHS)
    }


def value_path_gradients(
    trace: Trace, value: torch.Tensor, inputs: Sequence[str], model: WorldModel | None = None
) -> dict[str, dict[str, torch.Tensor]]:
    """Gradients as in `path_gradients` of one function's values [B], without the axis F."""
    total = value_gradients(trace, value, inputs, model)
    with closed(trace.action_edge):
        held = value_gradients(trace, value, inputs, model)
    with closed(trace.action_edge, trace.frame_edge):
        agent = value_gradients(trace, value, inputs, model)
    return {
        "total": total,
        "agent": agent,
        "environment": {name: held[name] - agent[name] for name in held},
        "mixed": {name: total[name] - held[name] for name in total},
    }


@contextmanager
def closed(*edges: Edge) -> Iterator[None]:
    """Context in which no gradient crosses the edges."""
    before = [edge.open for edge in edges]
    for edge in edges:
        edge.open = False
    try:
        yield
    finally:
        for edge, was in zip(edges, before):
            edge.open = was


def _tensors(trace: Trace, name: str) -> list[torch.Tensor]:
    """The tensors of an input, in the order of time."""
    if name in ("env_state", "actions", "latent") and not trace.simulated:
        raise ValueError(f"a recorded trace has no {name}")
    if name == "env_state":
        return [getattr(env, part) for env in trace.env for part in _ENV_PARTS]
    return [trace.latent] if name == "latent" else list(getattr(trace, name))


def _backward(value: torch.Tensor, inputs: list[torch.Tensor]) -> list[torch.Tensor]:
    """Gradients of a scalar; zero for inputs that it does not depend on, or that ask for none."""
    wanted = [tensor for tensor in inputs if tensor.requires_grad]
    found = iter(torch.autograd.grad(value, wanted, retain_graph=True, materialize_grads=True))
    return [next(found) if tensor.requires_grad else torch.zeros_like(tensor) for tensor in inputs]


def _flat_state_gradients(trace: Trace, parts: list[torch.Tensor], model: WorldModel) -> torch.Tensor:
    """Gradients [T, B, Dh] with respect to flat states, from those of their parts, [B, ...] each."""
    tile = model.config.tile_pixels
    steps = []
    for t, env in enumerate(trace.env):
        vector, pose, motion, position, canvas = parts[t * len(_ENV_PARTS) : (t + 1) * len(_ENV_PARTS)]
        codes = model.codes_in_view(canvas, env.position).flatten(1)
        steps.append(torch.cat([vector, pose, motion * tile, position * tile, codes], -1))
    return torch.stack(steps)
