"""Read, edit and cache activations by name: encoder stages, GRU gates, heads, any submodule.

The verbs are those of TransformerLens (Nanda & Bloom 2022). The network itself is unchanged: hooks see the
outputs of its submodules as they are computed, so reading them leaves every bit as it was.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from weakref import WeakKeyDictionary

import numpy as np
import torch
from torch import nn

from agents.encoders import KEEP, Encoder
from common.policy import Policy
from common.runs import UsageError

Edit = Callable[[torch.Tensor, slice], torch.Tensor]
"""(value [n, ...], rows) -> the value to continue with. rows: a slice that numbers these n among all values
at this site since the hooks were set; with N environments stepped together, row t * N + i is environment i
at step t, however the network splits its batches.
"""
GATES = ("reset", "update", "candidate")
"""Of a GRU (Cho et al. 2014): h' = (1 - update) * candidate + update * h; the candidate sees reset * (its
linear map of h).
"""
_GATE_EDITS: WeakKeyDictionary[nn.GRUCell, dict[str, list[Callable]]] = WeakKeyDictionary()


def sites(model: nn.Module) -> list[str]:
    """Names of all sites: submodules as PyTorch names them, and the gates of GRU cells (`core.cell.update`,
    ...).
    """
    modules = dict(model.named_modules())
    gates = [
        f"{name}.{gate}"
        for name, module in modules.items()
        if isinstance(module, nn.GRUCell)
        for gate in GATES
    ]
    return [
        name for name, module in modules.items() if name and type(module).forward is not nn.Module.forward
    ] + gates


@contextmanager
def hooks(model: nn.Module, edits: Mapping[str, Edit]) -> Iterator[None]:
    """Context in which the output of each named site passes through its edit.

    Contexts can be nested: inner edits see the results of outer ones. An edited gate is applied in the GRU's
    equations, which equal PyTorch's up to rounding.

    Args:
        model: the network.
        edits: {site: edit}.

    Raises:
        UsageError: for an unknown site, one whose output is not a tensor, one that was not computed, and for
            gradients through more frames than the encoder keeps, which it would recompute without hooks.
    """
    known = set(sites(model))
    for name in edits:
        if name not in known:
            raise UsageError(f"no site {name!r} in this network; it has: {', '.join(sorted(known))}")
    counters = {name: _Counted(edit, name) for name, edit in edits.items()}
    with ExitStack() as stack:
        for name, apply in counters.items():
            where, _, gate = name.rpartition(".")
            if gate in GATES and isinstance(model.get_submodule(where), nn.GRUCell):
                stack.enter_context(_gate_edit(model.get_submodule(where), gate, apply))
            else:
                stack.callback(
                    model.get_submodule(name)
                    .register_forward_hook(lambda module, args, output, apply=apply: apply(output))
                    .remove
                )
        for module in model.modules():
            if edits and isinstance(module, Encoder):
                stack.callback(module.register_forward_pre_hook(_refuse_recomputation).remove)
        yield
    silent = [name for name, apply in counters.items() if not apply.count]
    if silent:
        raise UsageError(
            f"no value at {', '.join(silent)} while the hooks were on: the call does not compute it"
        )


def run_with_hooks(model: nn.Module, edits: Mapping[str, Edit], call: Callable, *args, **named):
    """Calls a method of the model, call(*args, **named), with edits on."""
    with hooks(model, edits):
        return call(*args, **named)


def run_with_cache(
    model: nn.Module, names: Sequence[str], call: Callable, *args, **named
) -> tuple[object, dict[str, torch.Tensor]]:
    """Calls a method of the model and caches activations.

    Args:
        model: the network.
        names: sites to cache.
        call: the method; it receives *args and **named.

    Returns:
        The result of the call, and {site: [rows, ...]}, rows as in `Edit`.
    """
    kept: dict[str, list[torch.Tensor]] = {name: [] for name in names}

    def keeper(name):
        def keep(value, rows):
            kept[name].append(value)
            return value

        return keep

    output = run_with_hooks(model, {name: keeper(name) for name in names}, call, *args, **named)
    return output, {name: torch.cat(parts) for name, parts in kept.items()}


def at_steps(edit: Edit, steps: Sequence[int], num: int) -> Edit:
    """The edit restricted to given time steps, where `num` environments are stepped together."""
    wanted = np.asarray(steps)

    def edit_at_steps(value, rows):
        chosen = torch.from_numpy(np.isin(np.arange(rows.start, rows.stop) // num, wanted)).to(value.device)
        return (
            torch.where(chosen.view(-1, *[1] * (value.ndim - 1)), edit(value, rows), value)
            if chosen.any()
            else value
        )

    return edit_at_steps


def unroll(
    policy: Policy, obs: torch.Tensor, first: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """Runs a policy on given frames, step by step. To be called by `run_with_cache` or `run_with_hooks`: rows
    then number steps and environments.

    Args:
        policy: any policy.
        obs: [T, N, H, W, C].
        first: [T, N] bool, whether a frame begins an episode.
        state: [N, S], before the first frame; the initial state by default.

    Returns:
        States after each step [T, N, S], logits [T, N, A], and values [T, N] of a policy that has them.
    """
    state = policy.initial_state(obs.shape[1]) if state is None else state
    outputs = []
    for frame, is_first in zip(obs, first):
        state = policy.advance(frame, state, is_first, torch.zeros(len(is_first), device=is_first.device))
        outputs.append((state, *policy.heads(state)))
    states, logits, values = zip(*outputs)
    return (torch.stack(states), torch.stack(logits), *(() if values[0] is None else (torch.stack(values),)))


class _Counted:
    """An edit as a function of the value alone, which counts the rows."""

    def __init__(self, edit: Edit, name: str):
        self.edit = edit
        self.name = name
        self.count = 0

    def __call__(self, value):
        if not isinstance(value, torch.Tensor):
            raise UsageError(
                f"the output of {self.name!r} is a {type(value).__name__}, not a tensor: "
                "take one of its parts"
            )
        rows = slice(self.count, self.count + len(value))
        self.count = rows.stop
        return self.edit(value, rows)


@contextmanager
def _gate_edit(cell: nn.GRUCell, gate: str, apply: Callable) -> Iterator[None]:
    """Adds an edit to a cell's gate; one hook applies all of a cell's edits, before hooks on its output."""
    if cell not in _GATE_EDITS:
        _GATE_EDITS[cell] = {name: [] for name in GATES}
    edits = _GATE_EDITS[cell]
    handle = None if any(edits.values()) else cell.register_forward_hook(_through_gates, prepend=True)
    edits[gate].append(apply)
    try:
        yield
    finally:
        edits[gate].remove(apply)
        if handle is not None:
            handle.remove()


def _through_gates(cell: nn.GRUCell, args, output: torch.Tensor) -> torch.Tensor:
    """The cell's output with edited gates; the unedited output itself if no edit changes anything."""
    features, hidden = args if len(args) == 2 else (*args, torch.zeros_like(output))
    from_input = nn.functional.linear(features, cell.weight_ih, cell.bias_ih).chunk(3, -1)
    from_hidden = nn.functional.linear(hidden, cell.weight_hh, cell.bias_hh).chunk(3, -1)
    edits = _GATE_EDITS[cell]
    changed = False

    def gate(name, value):
        nonlocal changed
        edited = value
        for apply in edits[name]:
            edited = apply(edited)
        changed = changed or edited is not value
        return edited

    reset, update = (
        gate(name, torch.sigmoid(from_input[i] + from_hidden[i])) for i, name in enumerate(GATES[:2])
    )
    candidate = gate("candidate", torch.tanh(from_input[2] + reset * from_hidden[2]))
    return (1 - update) * candidate + update * hidden if changed else output


def _refuse_recomputation(module: Encoder, args) -> None:
    frames = args[0].shape[:-3].numel()
    if torch.is_grad_enabled() and frames > KEEP:
        raise UsageError(
            f"gradients with hooks through {frames} frames at a time, and {KEEP} is the most: "
            "split the batch, or run without gradients"
        )
