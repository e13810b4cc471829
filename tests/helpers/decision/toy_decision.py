"""Small Decision Transformers and random batches for their tests."""

import torch

from decision.config import DTConfig
from decision.model import DecisionTransformer
from decision.windows import DTBatch

ACTIONS = 5
SIZE = 8
FEATURES = 6
SMALL = dict(
    num_actions=ACTIONS,
    obs_shape=(SIZE, SIZE, 3),
    d_model=16,
    n_heads=2,
    n_layers=3,
    d_mlp=24,
    context_length=4,
    max_timestep=40,
    feature_size=FEATURES,
    patch_channels=4,
    patch_size=4,
    precision="fp32",
)


def small_config(**changed) -> DTConfig:
    return DTConfig(**(SMALL | changed))


def small_model(seed: int = 0, sharp: float = 8.0, **changed) -> DecisionTransformer:
    """An untrained model with weights so large that attention is far from uniform."""
    torch.manual_seed(seed)
    model = DecisionTransformer(small_config(**changed)).eval()
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if not name.startswith("embed.state.encoder"):
                parameter.add_(torch.randn_like(parameter) * 0.02).mul_(sharp if parameter.ndim > 1 else 1)
    return model


def random_batch(windows: int, steps: int, seed: int = 0, padded=(), frames: bool = False) -> DTBatch:
    """Random windows; `padded` [windows] says how many steps are padding on the left of each."""
    g = torch.Generator().manual_seed(seed)
    mask = torch.arange(steps) >= torch.tensor(list(padded) or [0] * windows)[:, None]
    shape = (SIZE, SIZE, 3) if frames else (FEATURES,)
    state = torch.randn(windows, steps, *shape, generator=g)
    if frames:
        state = torch.randint(0, 256, state.shape, generator=g).to(torch.uint8)
    action = torch.randint(0, ACTIONS, (windows, steps), generator=g)
    rtg = 3 * torch.randn(windows, steps, generator=g)
    time = torch.arange(steps) - (~mask).sum(1, keepdim=True)
    return DTBatch(
        torch.where(mask.view(*mask.shape, *[1] * len(shape)), state, torch.zeros_like(state)),
        torch.where(mask, action, ACTIONS),
        rtg * mask,
        time.clamp(min=0) if padded else time.expand(windows, -1),
        mask,
    )
