"""Made-up parts of a memory analysis with known answers, for tests that need neither game nor agent."""

import numpy as np

from analysis.io.shared_args import CONTEXT_FRAMES
from analysis.memory.summary import policy_variants

LEVELS = 30
STEPS = 60
KL = np.array([1.0, 0.3, 0.1, 0.03, 0.01, 0.001, 0.0])
"""By number of last frames, from the initial state on; twice as much after another episode's state, twice as
much in the air.
"""
SOLVED = {"all": 24, "0": 3, "1": 12, "2": 18, "4": 21, "8": 23, "16": 24, "32": 24, "other": 9}
"""Of 30 levels. Who solves fewer solves none that the others do not."""


def made_parts(seed: int = 0) -> tuple[dict, dict]:
    """The parts of a run, and concepts of a store in which every second step is on the ground and every tenth
    frame black.
    """
    rng = np.random.default_rng(seed)
    n = LEVELS * STEPS
    t = np.tile(np.arange(STEPS), LEVELS)
    air = t % 2 == 1
    kl = (
        KL[:, None] * np.array([1, 2]) * np.where(air, 2, 1)[:, None, None] * rng.uniform(0.5, 1.5, (n, 1, 1))
    )
    steps = {"level": 500 + np.repeat(np.arange(LEVELS), STEPS), "t": t, "row": np.arange(n)}
    steps |= {
        "black": np.where(t % 10 == 9, 1 + t // 10, 0),
        "kl": kl,
        "total_variation": kl / 3,
        "value_change": -5 * kl,
    }
    support = ~air
    concepts = {"vy": np.where(air, 0.5, 0.0)}
    concepts |= {"support": support}
    for kind in ("saw", "enemy", "lava", "pit"):
        concepts |= {f"{kind}_ahead": np.zeros(n, bool), f"tiles_to_{kind}": np.full(n, np.nan)}
    return {"steps": steps, "counterfactual_history": _counterfactual_history(rng)} | {
        f"levels_{name}": _levels(SOLVED[name]) for name in policy_variants(CONTEXT_FRAMES)
    }, concepts


def _counterfactual_history(rng, points: int = 200) -> dict:
    """KL is the difference of velocities; with another episode's state it is 2."""
    own = rng.uniform(-0.5, 0.5, (points, 2))
    apart = rng.uniform(0, 1, points)
    kl = np.stack([apart, np.full(points, 2.0), np.full(points, 1.0)], 1)
    about = {
        "level": np.arange(points),
        "same": np.arange(points) % 4 > 0,
        "support": np.arange(points) % 2 == 0,
    }
    about |= {"own_velocity": own, "velocity": own + apart[:, None] * [0.6, 0.8]}
    return about | {"kl": kl, "total_variation": kl / 3, "value_change": kl}


def _levels(solved: int) -> dict:
    outcome = np.where(np.arange(LEVELS) < solved, 0, 1 + np.arange(LEVELS) % 2)
    return {"level": 900 + np.arange(LEVELS), "outcome": outcome, "length": 100 - outcome}
