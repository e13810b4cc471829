"""Causes of death in forks against the replay of whole episodes."""

import numpy as np
import pytest
import torch

from agents.death_causes import causes
from envs.make import make_env
from envs.procgen import ProcgenConfig
from interpret.forks import fork_deaths
from interpret.forks.fork_deaths import fork_death_causes
from interpret.forks.fork_points import ForkPoints
from rollouts.play import EpisodeSpec

LEVELS = np.arange(40)
STEPS = 90
ACTIONS = np.random.default_rng(0).choice([7, 8], (STEPS, len(LEVELS)))
"""Walking and jumping to the right."""


@pytest.fixture(scope="module")
def played():
    """40 levels played for some steps: fork points, and the step of each death."""
    env = make_env(len(LEVELS), ProcgenConfig(), num_threads=0)
    env.open_levels(range(len(LEVELS)), LEVELS)
    n, frames = np.arange(len(LEVELS)), env.observe()[1][None].copy()
    hidden = torch.zeros(len(LEVELS), 1)
    points = ForkPoints(env.snapshot(n), frames, hidden, LEVELS, 0 * n, 0 * n, n, LEVELS.astype(str))
    died_at = np.full(len(LEVELS), -1)
    running = np.ones(len(LEVELS), bool)
    for t in range(STEPS):
        env.act(ACTIONS[t])
        env.observe()
        info = env.info()
        ended = running & (info["terminated"] | info["truncated"])
        died_at[ended & ~info["level_complete"]] = t
        running &= ~ended
    return env, points, died_at


def expected(env, died_at) -> list[str]:
    died = np.flatnonzero(died_at >= 0)
    jobs = [EpisodeSpec(int(level)) for level in LEVELS]
    found = dict(
        zip(died, causes(env, jobs, [ACTIONS[: 1 + at, i].tolist() for i, at in enumerate(died_at)], died))
    )
    return [found.get(i, "") for i in range(len(LEVELS))]


def test_causes_are_those_of_whole_episodes(played):
    env, points, died_at = played
    wanted = expected(env, died_at)
    assert len(set(wanted)) > 2
    assert fork_death_causes(env, points, ACTIONS, died_at) == wanted


def test_a_mutant_that_is_one_step_early_is_caught(played, monkeypatch):
    env, points, died_at = played
    real = fork_deaths._states_before
    monkeypatch.setattr(
        fork_deaths,
        "_states_before",
        lambda env, snapshots, actions, step: real(env, snapshots, actions, step - 1),
    )
    with pytest.raises(ValueError, match="does not end the episode"):
        fork_death_causes(env, points, ACTIONS, died_at)
