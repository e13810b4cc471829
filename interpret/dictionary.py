"""A sparse dictionary: more directions than features, of which each state uses a few (a TopK sparse autoencoder)."""

import torch
from torch.nn import functional as F

from common.progress import progress_bar
from common.runs import UsageError
from common.words import counted
from interpret.directions import Directions, keep_largest
from interpret.fitting import Sample, checked

STEPS, BATCH, LEARNING_RATE = 4000, 1024, 3e-3
DEAD_AFTER = 100
"""Batches without being used after which a unit is dead."""


class Dictionary(torch.nn.Module):
    """Standardised states z [B, D] -> scores [B, K], `top` of which are not zero, -> z again. Decoder columns have length 1."""

    def __init__(self, width: int, count: int, top: int, generator: torch.Generator):
        super().__init__()
        self.top = top
        self.decoder = torch.nn.Parameter(F.normalize(torch.randn(width, count, generator=generator), dim=0))
        self.encoder = torch.nn.Parameter(self.decoder.detach().T.clone())
        self.bias = torch.nn.Parameter(torch.zeros(count))
        self.center = torch.nn.Parameter(torch.zeros(width))

    def drive(self, z):
        """What enters the choice of the largest: [B, K]."""
        return (z - self.center) @ self.encoder.T + self.bias

    def decode(self, scores):
        return self.center + scores @ self.decoder.T

    @torch.no_grad()
    def normalise(self) -> None:
        self.decoder.copy_(F.normalize(self.decoder, dim=0))


def fit_dictionary(x, groups, count: int, top: int, seed: int = 0, steps: int = STEPS, batch: int = BATCH, learning_rate: float = LEARNING_RATE) -> Directions:
    """`count` directions for x [n, D] of which each state uses `top`; TopK sparse autoencoder (Gao et al. 2024, "Scaling and evaluating sparse
    autoencoders"), trained on standardised features by Adam in minibatches, the learning rate falling linearly to zero over the second half.

    A unit unused for DEAD_AFTER batches begins again, in the first half, as the error of a state that is badly explained (Bricken et al. 2023,
    "Towards monosemanticity"). Not linear: scores are keep_largest(R x + c); E R is no identity, and units are not orthogonal. Provenance:
    `dead`, the share of units that the last batches did not use. groups [n]: see `fitting.checked`. Raises UsageError for a `top` beyond
    `count`.
    """
    if not 1 <= top <= count:
        raise UsageError(f"each state was to use {top} of {counted(count, 'direction')}: ask for 1 to {count}")
    sample = checked(x, groups, count, at_once=top)
    generator = torch.Generator().manual_seed(seed)
    model = Dictionary(sample.x.shape[1], count, top, generator)
    idle = _train(model, sample, generator, steps, batch, learning_rate)
    dead = float((idle >= DEAD_AFTER).float().mean())
    encoder, decoder, bias, center = (part.detach().double().numpy() for part in (model.encoder, model.decoder, model.bias, model.center))
    caveats = [f"{dead:.0%} of the units are dead: ask for fewer, or train for longer"] if dead > 0.1 else []
    settings = dict(top=top, steps=steps, batch=batch, learning_rate=learning_rate, dead=dead, caveats=caveats)
    names = [f"unit_{i}" for i in range(count)]
    return sample.directions(encoder, bias - encoder @ center, decoder, center, names, "dictionary", seed, **settings)


def _train(model: Dictionary, sample: Sample, generator: torch.Generator, steps: int, batch: int, learning_rate: float) -> torch.Tensor:
    """Trains in place; returns for how many batches each unit has been idle, [K]."""
    optimizer = torch.optim.Adam(model.parameters(), learning_rate, fused=True)
    mean, std = (torch.from_numpy(part).float() for part in (sample.mean, sample.std))
    idle = torch.zeros(model.bias.shape)
    for step in progress_bar(range(steps), desc="dictionary", unit="batch", leave=False):
        optimizer.param_groups[0]["lr"] = learning_rate * min(1.0, 2 * (1 - step / steps))
        rows = torch.randint(len(sample.x), (batch,), generator=generator).numpy()
        z = (torch.from_numpy(sample.x[rows]).float() - mean) / std
        scores = keep_largest(model.drive(z), model.top)
        error = z - model.decode(scores)
        optimizer.zero_grad()
        error.square().mean().backward()
        optimizer.step()
        model.normalise()
        idle = torch.where((scores > 0).any(0), 0.0, idle + 1)
        dead = idle >= DEAD_AFTER
        if step < steps / 2 and dead.any():
            _revive(model, optimizer, error.detach(), dead, generator)
            idle[dead] = 0
    return idle


@torch.no_grad()
def _revive(model: Dictionary, optimizer: torch.optim.Optimizer, error: torch.Tensor, dead: torch.Tensor, generator: torch.Generator) -> None:
    """Dead units [K] take the directions of errors [B, D], drawn with chances as their squares, and forget how they were moving."""
    chosen = torch.multinomial(error.square().sum(1) + 1e-12, int(dead.sum()), replacement=True, generator=generator)
    fresh = F.normalize(error[chosen], dim=1)
    model.decoder[:, dead], model.encoder[dead], model.bias[dead] = fresh.T, fresh, 0.0
    for parameter, units in ((model.decoder, (slice(None), dead)), (model.encoder, dead), (model.bias, dead)):
        for name in ("exp_avg", "exp_avg_sq"):
            optimizer.state[parameter][name][units] = 0
