"""A rollout whose tensors are parts of one graph, so that gradients can be taken at every step of it.

A simulated trace goes through agent and environment; a recorded one through the agent's memory of given
frames alone. Two edges can be closed while gradients flow back: from each frame to the agent, and from each
action to the environment.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import torch

from common.policy import Policy
from generative.model.state import EnvState
from generative.noise_keys import NoiseKeys
from generative.simulator import SimStep, Simulator
from rollouts.segment import Segment


class Edge:
    """An identity that passes no gradient while it is closed."""

    def __init__(self):
        self.open = True

    def __call__(self, x: torch.Tensor) -> torch.Tensor:
        return _Gated.apply(x, self)


class _Gated(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, edge):
        ctx.edge = edge
        ctx.set_materialize_grads(False)
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return gradient if ctx.edge.open else None, None  # None: nothing beyond the edge is computed


@dataclass(frozen=True)
class Trace:
    """T steps of B samples, step by step; tensors of a step are [B, ...].

    frames are as the agent sees them, beyond their edge, and actions, weights [B, A], as the environment
    takes them, beyond theirs; taken [T, B] are integers. hidden holds T + 1 states: hidden[t] is the agent's
    before frames[t]. env, reward, done, ended and latent [B, Z] are empty or None where no simulator took
    part. done[t], reward[t] and ended[t] are of the action at t: probability of an end, expected reward in
    the game's units, and whether the simulator ends the episode there. The trace goes on all the same.
    """

    frames: list[torch.Tensor]
    hidden: list[torch.Tensor]
    logits: list[torch.Tensor]
    value: list[torch.Tensor]
    actions: list[torch.Tensor]
    taken: torch.Tensor
    env: list[EnvState] = field(default_factory=list)
    reward: list[torch.Tensor] = field(default_factory=list)
    done: list[torch.Tensor] = field(default_factory=list)
    latent: torch.Tensor | None = None
    frame_edge: Edge = field(default_factory=Edge)
    action_edge: Edge = field(default_factory=Edge)
    ended: list[torch.Tensor] = field(default_factory=list)

    def __len__(self) -> int:
        return len(self.frames)

    def until(self, steps: int) -> "Trace":
        """The first steps alone."""
        lists = ("frames", "logits", "value", "actions", "taken", "env", "reward", "done", "ended")
        shortened = {name: getattr(self, name)[:steps] for name in lists}
        return replace(self, hidden=self.hidden[: steps + 1], **shortened)

    @property
    def simulated(self) -> bool:
        return bool(self.env)


def trace_of(walk: Sequence[SimStep], first: torch.Tensor, latent: torch.Tensor | None = None) -> Trace:
    """Steps of `Simulator.rollout` as a trace; first [B, D]: the agent's state before them."""
    return Trace(
        [step.obs for step in walk],
        [first, *(step.state for step in walk)],
        [step.logits for step in walk],
        [step.value for step in walk],
        [step.weights for step in walk],
        torch.stack([step.action for step in walk]),
        [step.env for step in walk],
        [step.reward for step in walk],
        [step.done_prob for step in walk],
        latent,
        ended=[step.terminated for step in walk],
    )


@torch.enable_grad()
def simulated_trace(
    simulator: Simulator,
    z: torch.Tensor,
    steps: int,
    keys: NoiseKeys,
    *,
    mode: str = "hard",
    actions: torch.Tensor | None = None,
    hidden: torch.Tensor | None = None,
    greedy: bool = False,
    use_mode: bool = False,
    detach_agent: bool = True,
    grad_steps: int | None = None,
) -> Trace:
    """Simulates `steps` steps from latents z [B, Z]; arguments as in `Simulator.simulate`. Nothing ends.

    grad_steps: how many of the steps are parts of the graph; by default all.
    """
    leaf = z.detach().requires_grad_()
    start = simulator.start(leaf, mode, detach_agent)
    first = start.hidden if hidden is None else hidden
    first = first if first.requires_grad else first.detach().requires_grad_()
    start.env.vector.requires_grad_()  # zero at the start, whatever the latent
    frame_edge, action_edge = Edge(), Edge()
    seen, acted = [], []
    rollout = simulator.rollout(
        start._replace(hidden=first), steps, keys, actions=actions, greedy=greedy, use_mode=use_mode,
        mode=mode, on_frame=_kept(seen, frame_edge), on_action=_kept(acted, action_edge),
    )  # fmt: skip
    walk = []
    for i in range(steps):
        with torch.set_grad_enabled(grad_steps is None or i < grad_steps):
            walk.append(next(rollout))
    return replace(
        trace_of(walk, first, leaf),
        frames=seen,
        actions=acted,
        frame_edge=frame_edge,
        action_edge=action_edge,
    )


def _kept(tensors: list[torch.Tensor], edge: Edge) -> Callable[[torch.Tensor], torch.Tensor]:
    """The edge, which appends what has crossed it to `tensors`."""

    def cross(x: torch.Tensor) -> torch.Tensor:
        tensors.append(edge(x))
        return tensors[-1]

    return cross


@torch.enable_grad()
def recorded_trace(
    agent: Policy, segment: Segment, steps: int | None = None, grad_steps: int | None = None
) -> Trace:
    """The agent on the recorded frames of a segment [T, B], from its recorded hidden state on.

    steps, grad_steps: how many are processed, and how many of them are parts of the graph; by default all.
    """
    state = segment.hidden[0].detach().clone().requires_grad_()
    frames, hidden, logits, values = [], [state], [], []
    for obs, first, reward in zip(segment.obs[:steps], segment.first, segment.reward):
        frame = (obs.float() / 255 if obs.dtype == torch.uint8 else obs).detach().requires_grad_()
        with torch.set_grad_enabled(grad_steps is None or len(frames) < grad_steps):
            state = agent.advance(frame, state, first & (len(frames) > 0), reward)
            out, value = agent.heads(state)
        frames.append(frame)
        hidden.append(state)
        logits.append(out)
        values.append(torch.full_like(out[:, 0], torch.nan) if value is None else value)
    taken = segment.action[: len(frames)]
    weights = torch.nn.functional.one_hot(taken, logits[0].shape[-1]).to(logits[0].dtype)
    return Trace(frames, hidden, logits, values, list(weights), taken)


def graph_bytes(make_trace: Callable[[], Trace]) -> int:
    """Bytes that a forward pass keeps for the backward pass."""
    kept: dict[int, int] = {}

    def keep(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor):
        trace = make_trace()
    del trace
    return sum(kept.values())
