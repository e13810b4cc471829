"""Segment: a batch of equally long windows of real or simulated episodes, as tensors."""

from dataclasses import dataclass, field, fields

import torch


@dataclass
class Segment:
    """Time-major tensors. Step t: obs[t] is processed with hidden[t], which becomes hidden[t + 1]; action[t]
    earns reward[t].

    Where `mask` is False there is no step: obs is black, action is the no-op, everything else zero.
    `first[t]` marks the first observation of an episode. `extra` holds fields of some stores only (latent,
    env_state, done_prob, ...).
    """

    obs: torch.Tensor  # [T, B, H, W, C] uint8; float in [0, 1] where gradients are kept
    action: torch.Tensor  # [T, B] int64
    reward: torch.Tensor  # [T, B]
    terminated: torch.Tensor  # [T, B] bool
    truncated: torch.Tensor  # [T, B] bool
    first: torch.Tensor  # [T, B] bool
    mask: torch.Tensor  # [T, B] bool
    value: torch.Tensor  # [T, B], the agent's own units
    logits: torch.Tensor  # [T, B, A], the agent's own
    log_prob: torch.Tensor  # [T, B], of the action under the behaviour that took it
    hidden: torch.Tensor  # [T + 1, B, D]
    episode: torch.Tensor  # [B] int64, index into the store's episode table
    start: torch.Tensor  # [B] int64, the episode's step at t = 0 (negative with left padding)
    extra: dict[str, torch.Tensor] = field(default_factory=dict)

    def __repr__(self) -> str:
        length, batch = self.mask.shape
        ended = int((self.terminated | self.truncated).any(0).sum())
        extra = f", extra: {', '.join(self.extra)}" if self.extra else ""
        return f"Segment(T={length}, B={batch}, {int(self.mask.sum())} steps, {ended} ended{extra})"

    def hidden_after(self) -> torch.Tensor:
        """Hidden state after the observation of every step, [T, B, D]: "the hidden state at step t" in all
        analyses.
        """
        return self.hidden[1:]

    def to(self, device) -> "Segment":
        moved = {f.name: getattr(self, f.name).to(device) for f in fields(self) if f.name != "extra"}
        return Segment(**moved, extra={name: value.to(device) for name, value in self.extra.items()})
