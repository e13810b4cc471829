"""Directions that an agent's heads read: gradients of its value and its choices, averaged over states."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch

from common.policy import Policy
from common.runs import UsageError
from interpret.directions.directions import Directions
from interpret.directions.fitting import checked_sample, write_columns

_BATCH = 8192


def fit_value_gradient(policy: Policy, x, groups, seed: int = 0, write: str = "pseudo-inverse") -> Directions:
    """The gradient of the value with respect to the state, averaged over states: one direction, named
    "value".

    For a linear value head these are its weights, and the score is the value.

    Args:
        policy: with a value head.
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        seed: recorded; nothing is random.
        write: kind of write columns (`fitting.write_columns`).

    Raises:
        UsageError: for a policy without a value.
    """
    return _fit(policy, x, groups, {"value": _value}, "value gradient", seed, write)


def fit_policy_gradients(
    policy: Policy,
    x,
    groups,
    choices: Mapping[str, Sequence[int]],
    seed: int = 0,
    write: str = "pseudo-inverse",
) -> Directions:
    """For each choice, the gradient of the log odds log(p / (1 - p)) of taking one of its actions, averaged
    over states.

    Args:
        policy: any policy.
        x: [n, D].
        groups: [n], see `fitting.checked_sample`.
        choices: {name: actions}; actions with the same effect belong to one choice.
        seed: recorded; nothing is random.
        write: kind of write columns (`fitting.write_columns`).

    Raises:
        UsageError: for unknown actions, and for choices with linearly dependent gradients (such as all
            actions), which cannot be written one by one.
    """
    actions = set(range(policy.num_actions))
    for name, chosen in choices.items():
        if not 0 < len(set(chosen)) < len(actions) or not set(chosen) <= actions:
            raise UsageError(
                f"choice {name!r} is of actions {list(chosen)}: name some, but not all, "
                f"of 0 to {len(actions) - 1}"
            )
    reads = {name: _log_odds(sorted(set(chosen))) for name, chosen in choices.items()}
    return _fit(
        policy,
        x,
        groups,
        reads,
        "policy gradient",
        seed,
        write,
        choices={name: list(map(int, chosen)) for name, chosen in choices.items()},
    )


def average_gradients(
    policy: Policy, x: np.ndarray, reads: Mapping[str, Callable]
) -> tuple[np.ndarray, np.ndarray]:
    """Mean gradient [K, D] and mean value [K] over states x [n, D] of functions of logits [n, A] and value
    [n].
    """
    device = policy.initial_state(1).device
    gradients = np.zeros((len(reads), x.shape[1]))
    means = np.zeros(len(reads))
    for at in range(0, len(x), _BATCH):
        state = (
            torch.as_tensor(np.ascontiguousarray(x[at : at + _BATCH]), dtype=torch.float32)
            .to(device)
            .requires_grad_()
        )
        with torch.enable_grad():
            heads = policy.heads(state)
            totals = [read(*heads).sum() for read in reads.values()]
        for k, total in enumerate(totals):
            (gradient,) = torch.autograd.grad(total, state, retain_graph=k + 1 < len(totals))
            gradients[k] += gradient.double().sum(0).cpu().numpy()
            means[k] += total.item()
    return gradients / len(x), means / len(x)


def _fit(
    policy: Policy, x, groups, reads: Mapping[str, Callable], method: str, seed: int, write: str, **facts
) -> Directions:
    sample = checked_sample(x, groups, len(reads))
    raw, means = average_gradients(policy, sample.x, reads)
    read = raw * sample.std  # of standardised features
    columns = write_columns(read, sample.correlation, write)
    return sample.directions(
        read, means, columns, -columns @ means, list(reads), method, seed, write_kind=write, **facts
    )


def _value(logits, value):
    if value is None:
        raise UsageError("this policy has no value: take the gradients of its choices (fit_policy_gradients)")
    return value


def _log_odds(chosen: list[int]) -> Callable:
    def read(logits, value):
        others = [a for a in range(logits.shape[-1]) if a not in chosen]
        return torch.logsumexp(logits[..., chosen], -1) - torch.logsumexp(logits[..., others], -1)

    return read
