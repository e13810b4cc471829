"""Read, edit and keep what happens inside a network, by the name of the place: encoder stages, GRU gates,
heads, any submodule.

The verbs are those of TransformerLens (Nanda & Bloom 2022). Nothing of the network changes: hooks see the
outputs of its submodules as they are computed, so that reading them leaves every bit as it was.
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
"""(value [n, ...], rows) -> the value to go on with. rows: which these n are of all that came past the place
since the hooks were set; with N environments stepped together, row t * N + i is environment i at step t,
however the network splits its batches.
"""
GATES = ("reset", "update", "candidate")
"""Of a GRU (Cho et al. 2014): h' = (1 - update) * candidate + update * h, and the candidate sees reset *
(what it reads of h).
"""
_GATE_EDITS: WeakKeyDictionary[nn.GRUCell, dict[str, list[Callable]]] = WeakKeyDictionary()


def sites(model: nn.Module) -> list[str]:
    """The names of all places: submodules as PyTorch names them (those that are called as functions), and the
    gates of GRU cells (`core.cell.update`, ...).
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
    """While it lasts, what comes out of each named place goes through its edit. Contexts may be nested: inner
    ones see what outer ones made.

    An edited gate is put into the GRU's equations, which are those of PyTorch up to rounding. Raises
    UsageError for an unknown place, one whose output is no tensor, one that nothing came past, and for
    gradients through so many frames at a time that the encoder would compute them again without hooks.
    """
    known = set(sites(model))
    for name in edits:
        if name not in known:
            raise UsageError(f"no place {name!r} in this network; it has: {', '.join(sorted(known))}")
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
    silent = [name for name, apply in counters.items() if not apply.past]
    if silent:
        raise UsageError(
            f"nothing came past {', '.join(silent)} while the hooks were on: it is no part of what was computed"
        )


def run_with_hooks(model: nn.Module, edits: Mapping[str, Edit], call: Callable, *args, **named):
    """call(*args, **named), one of the model's methods, with edits on."""
    with hooks(model, edits):
        return call(*args, **named)


def run_with_cache(
    model: nn.Module, names: Sequence[str], call: Callable, *args, **named
) -> tuple[object, dict[str, torch.Tensor]]:
    """What the call gives, and what came past each named place meanwhile: {name: [rows, ...]}, rows as in
    `Edit`.
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
    """The edit at the given time steps only, where `num` environments are stepped together."""
    wanted = np.asarray(steps)

    def edit_then(value, rows):
        chosen = torch.from_numpy(np.isin(np.arange(rows.start, rows.stop) // num, wanted)).to(value.device)
        return (
            torch.where(chosen.view(-1, *[1] * (value.ndim - 1)), edit(value, rows), value)
            if chosen.any()
            else value
        )

    return edit_then


def unroll(
    policy: Policy, obs: torch.Tensor, first: torch.Tensor, state: torch.Tensor | None = None
) -> tuple[torch.Tensor, ...]:
    """Shows any policy frames step by step: obs [T, N, H, W, C], first [T, N], state [N, S] before them
    (default: the initial one).

    Gives the states after each [T, N, S], logits [T, N, A], and values [T, N] of a policy that has them. A
    call for `run_with_cache` and `run_with_hooks`: every place then counts its rows by step and environment.
    """
    state, seen = policy.initial_state(obs.shape[1]) if state is None else state, []
    for frame, opens in zip(obs, first):
        state = policy.advance(frame, state, opens, torch.zeros(len(opens), device=opens.device))
        seen.append((state, *policy.heads(state)))
    states, logits, values = zip(*seen)
    return (torch.stack(states), torch.stack(logits), *(() if values[0] is None else (torch.stack(values),)))


class _Counted:
    """An edit as a function of the value alone, which counts the rows that came past."""

    def __init__(self, edit: Edit, name: str):
        self.edit = edit
        self.name = name
        self.past = 0

    def __call__(self, value):
        if not isinstance(value, torch.Tensor):
            raise UsageError(
                f"what comes out of {self.name!r} is a {type(value).__name__}, not a tensor: take one of its parts"
            )
        rows = slice(self.past, self.past + len(value))
        self.past = rows.stop
        return self.edit(value, rows)


@contextmanager
def _gate_edit(cell: nn.GRUCell, gate: str, apply: Callable) -> Iterator[None]:
    """Adds an edit to those of the cell's gates, which one hook applies together, before any hook on the
    cell's output.
    """
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
    """The cell's output with its gates edited; the very output that it gave where no edit changes anything."""
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
            f"gradients with hooks through {frames} frames at a time, and {KEEP} is the most: split the batch, or run without gradients"
        )
