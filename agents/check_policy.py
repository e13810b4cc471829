"""Checks that an agent satisfies the Policy protocol (`python -m agents.check_policy`)."""

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel, PrecisionName


@dataclass
class Args:
    agent_file: Path
    """Checkpoint of the agent."""
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import load_agent
from common.noise import gumbel_noise
from common.policy import Policy
from common.precision import set_precision
from common.runs import UsageError

N = 4
TOLERANCE = 1e-3  # relative to one plus the largest magnitude: room for arithmetic, none for a wrong state
DRAWS = 20_000
SIGMAS = 5


class PolicyError(UsageError):
    """The policy violates the protocol; the message says which rule, and where to look."""


def check_policy(
    policy: Policy,
    obs_shape: tuple[int, int, int],
    differentiable: bool = True,
    device: torch.device | str = "cpu",
) -> list[str]:
    """Runs every check on random frames.

    Args:
        policy: the policy.
        obs_shape: frame shape (H, W, C).
        device: where the policy runs.
        differentiable: whether gradients must reach the frames, as the analyses in the simulator need (a
            random policy has none).

    Returns:
        Names of the checks.

    Raises:
        PolicyError: the first check that fails.
    """
    case = _Case(policy, obs_shape, torch.device(device))
    checks = [check_shapes, check_deterministic, check_first_resets, check_independent, check_frame_types]
    checks += [check_differentiable] if differentiable else []
    checks += [check_choice]
    for check in checks:
        check(case)
    return [check.__name__.removeprefix("check_") for check in checks]


class _Case:
    """A policy, random frames, and a state after two of them."""

    def __init__(self, policy: Policy, obs_shape: tuple[int, int, int], device: torch.device):
        self.policy = policy
        self.device = device
        self.obs_shape = obs_shape
        self.frames = self.random_frames(0)
        self.used = self.advance(self.random_frames(1), self.policy.initial_state(N))

    def random_frames(self, seed: int) -> torch.Tensor:
        frames = np.random.default_rng(seed).integers(0, 256, (N, *self.obs_shape), dtype=np.uint8)
        return torch.from_numpy(frames).to(self.device)

    def advance(self, obs, state, first: bool = False):
        opens = torch.full((len(obs),), first, device=self.device)
        return self.policy.advance(obs, state, opens, torch.zeros(len(obs), device=self.device))

    def outputs(self, obs, state, first: bool = False) -> tuple[torch.Tensor, ...]:
        """Next hidden state, logits and, if there is one, value."""
        with torch.no_grad():
            after = self.advance(obs, state, first)
            logits, value = self.policy.heads(after)
            return (self.policy.hidden(after), logits) + (() if value is None else (value,))


def _differences(one, other) -> Iterator[tuple[str, float]]:
    """Largest difference of each output relative to one plus its magnitude."""
    for name, a, b in zip(("the state", "the logits", "the value"), one, other):
        yield name, ((a - b).abs().max() / (1 + a.abs().max())).item()


def _must_agree(one, other, failure: str) -> None:
    for name, difference in _differences(one, other):
        if not difference <= TOLERANCE:
            raise PolicyError(f"{failure}: {name} differs by {difference:.2g} (relative)")


def _must_have_shape(name: str, tensor, shape: tuple[int | None, ...]) -> None:
    wanted = "[" + ", ".join("any" if size is None else str(size) for size in shape) + "]"
    if not torch.is_tensor(tensor) or not tensor.is_floating_point():
        raise PolicyError(
            f"{name} must be a float tensor {wanted}, not {getattr(tensor, 'dtype', type(tensor).__name__)}"
        )
    if tensor.ndim != len(shape) or any(
        size not in (None, found) for size, found in zip(shape, tensor.shape)
    ):
        raise PolicyError(f"{name} must have shape {wanted}, not {list(tensor.shape)}")
    if not torch.isfinite(tensor).all():
        raise PolicyError(f"{name} holds values that are not finite")


def check_shapes(case: _Case) -> None:
    """State [N, D], logits [N, A], value [N] (or None) are finite floats; actions [N] are int64 below A."""
    initial = case.policy.hidden(case.policy.initial_state(N))
    _must_have_shape("hidden(initial_state(n))", initial, (N, None))
    hidden, logits, *value = case.outputs(case.frames, case.policy.initial_state(N), first=True)
    _must_have_shape("hidden(advance(...))", hidden, (N, initial.shape[1]))
    _must_have_shape("the logits of heads(state)", logits, (N, case.policy.num_actions))
    for v in value:
        _must_have_shape("the value of heads(state)", v, (N,))
    action = case.policy.choose(logits, torch.zeros_like(logits))
    if action.dtype != torch.int64 or action.shape != (N,):
        raise PolicyError(f"choose must give int64 actions [{N}], not {action.dtype} {list(action.shape)}")
    _must_have_shape("log_prob(logits, action)", case.policy.log_prob(logits, action), (N,))


def check_deterministic(case: _Case) -> None:
    """Equal frames and state give equal outputs: no dropout, no sampling, no memory outside the state."""
    runs = [case.outputs(case.frames, case.used) for _ in range(2)]
    _must_agree(
        *runs,
        "two calls with the same frames and state disagree; put the network into eval() and keep"
        " all memory in the state",
    )


def check_first_resets(case: _Case) -> None:
    """`first` resets to the initial state before the frame is processed."""
    fresh = case.outputs(case.frames, case.policy.initial_state(N))
    reset = case.outputs(case.frames, case.used, first=True)
    _must_agree(fresh, reset, "first=True must reset the state to initial_state before the frame is taken in")


def check_independent(case: _Case) -> None:
    """Outputs of one environment do not depend on the frames, states or resets of the others."""
    frames = case.random_frames(2)
    state = case.policy.initial_state(N).clone()
    frames[0], state[0] = case.frames[0], case.used[0]
    opens = torch.arange(N, device=case.device) > 0
    with torch.no_grad():
        after = case.policy.advance(frames, state, opens, torch.zeros(N, device=case.device))
        mixed = case.policy.hidden(after)[:1], *(x[:1] for x in case.policy.heads(after) if x is not None)
    alone = [x[:1] for x in case.outputs(case.frames, case.used)]
    failure = (
        "an environment's outputs depend on the others in the batch (batch normalisation? a shared"
        " state? a reset of all?)"
    )
    _must_agree(alone, mixed, failure)


def check_frame_types(case: _Case) -> None:
    """uint8 frames and equal floats in [0, 1] give equal outputs."""
    pair = [case.outputs(frames, case.used) for frames in (case.frames, case.frames.float() / 255)]
    _must_agree(
        *pair,
        "uint8 frames and the same frames as floats in [0, 1] disagree; is a division by 255"
        " missing or made twice?",
    )


def check_differentiable(case: _Case) -> None:
    """Logits have a finite, nonzero gradient with respect to float frames."""
    frames = (case.frames.float() / 255).requires_grad_()
    logits = case.policy.heads(case.advance(frames, case.used))[0]
    failure = (
        "no gradient reaches the frames from the logits; look for no_grad, detach, numpy or a rounding"
        " inside the policy"
    )
    if not logits.requires_grad:
        raise PolicyError(failure)
    weights = torch.linspace(-1, 1, logits.shape[1], device=case.device)
    (gradient,) = torch.autograd.grad((logits * weights).sum(), frames, allow_unused=True)
    if gradient is None or not gradient.any():
        raise PolicyError(failure)
    if not torch.isfinite(gradient).all():
        raise PolicyError("the gradient of the logits with respect to the frames is not finite")


def check_choice(case: _Case) -> None:
    """With Gumbel noise, `choose` samples actions at the rates that `log_prob` states."""
    num_actions = case.policy.num_actions
    logits = (
        torch.from_numpy(2 * np.random.default_rng(3).standard_normal((1, num_actions)))
        .float()
        .to(case.device)
    )
    every = torch.arange(num_actions, device=case.device)
    probability = case.policy.log_prob(logits.expand(num_actions, -1), every).exp().cpu().numpy()
    if abs(probability.sum() - 1) > TOLERANCE:
        raise PolicyError(f"the probabilities that log_prob gives sum to {probability.sum():.4f}, not to 1")
    noise = torch.from_numpy(gumbel_noise(0, 0, 0, np.arange(DRAWS), num_actions)).to(case.device)
    drawn = case.policy.choose(logits.expand(DRAWS, -1), noise)
    share = np.bincount(drawn.cpu().numpy(), minlength=num_actions) / DRAWS
    allowed = SIGMAS * np.sqrt(probability * (1 - probability) / DRAWS) + 1e-6
    worst = int(np.argmax(np.abs(share - probability) - allowed))
    if abs(share[worst] - probability[worst]) > allowed[worst]:
        found = share[worst]
        said = probability[worst]
        raise PolicyError(
            f"choose and log_prob disagree: action {worst} was drawn {found:.3f} of the time,"
            f" log_prob says {said:.3f}"
        )


def main(args: Args) -> None:
    agent, _ = load_agent(args.agent_file)
    set_precision(args.precision, agent)
    print(f"{args.agent_file} keeps every promise: {', '.join(check_policy(agent, agent.config.obs_shape))}")


if __name__ == "__main__":
    run_main(main, ARGS)
