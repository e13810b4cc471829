"""Prints what a store of rollouts holds and, if asked, checks it: python -m rollouts.inspect_store data/coinrun --check"""

import logging
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.cli import parse, run_main


@dataclass
class Args:
    path: tyro.conf.Positional[Path]
    """The store's directory."""
    check: bool = False
    """Verify every checksum and what must hold in every store."""
    replay: int = 0
    """Replay so many episodes, spread evenly over the store, in the real game; -1 replays all."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from common.runs import UsageError
from common.words import counted
from envs.make import make_env
from envs.procgen import ProcgenConfig
from rollouts.check import check_store
from rollouts.fields import ENDS
from rollouts.replay import SAME, replay
from rollouts.shard import BadStore
from rollouts.store import Rollouts

_REPLAY_SLOTS = 16


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.path)
    for line in describe(rollouts):
        print(line)
    findings = list(check_store(rollouts)) if args.check else []
    if args.check and not findings:
        unverified = "; the manifest is of schema 1 and has no checksum: what it says is unverified" * (rollouts.manifest["schema"] == 1)
        print(f"checks: every checksum and invariant holds{unverified}")
    if args.replay and not findings:
        findings = replay_findings(rollouts, args.replay)
        print(f"replay: {counted(args.replay if args.replay > 0 else len(rollouts), 'episode')} asked, {len(findings)} differ")
    if findings:
        more = f"; and {len(findings) - 5} more" if len(findings) > 5 else ""
        raise BadStore(f"{args.path} is not sound: " + "; ".join(findings[:5]) + more)


def describe(rollouts: Rollouts) -> list[str]:
    """What is in the store, in a few lines."""
    manifest, episodes = rollouts.manifest, rollouts.episodes
    sizes = [entry["data"]["bytes"] for entry in rollouts.entries]
    ends = ", ".join(f"{end} {np.mean(episodes['end'] == end):.1%}" for end in ENDS)
    behaviours = ", ".join(f"{name} {np.mean(episodes['behaviour'] == name):.0%}" for name in np.unique(episodes["behaviour"]))
    lines = [
        f"{rollouts.path}: id {rollouts.id}, schema {manifest['schema']}",
        f"episodes {len(rollouts)}, steps {rollouts.num_steps}, shards {len(sizes)}, {sum(sizes) / rollouts.num_steps:.0f} bytes per step",
        f"levels {_levels(episodes['level_seed'])}",
        f"length {_spread(episodes['length'])}; return {_spread(episodes['return'])}; solved {episodes['complete'].mean():.1%}",
        f"ends: {ends}; behaviours: {behaviours}; policies: {', '.join(np.unique(episodes['policy_id']))}",
        "fields: " + ", ".join(f"{name} {field.dtype}{list(field.shape)}" for name, field in rollouts.step_fields.items()),
    ]
    planned = manifest.get("plan", {}).get("num_episodes", len(rollouts))
    return lines + [f"unfinished: {counted(planned - len(rollouts), 'episode')} yet to record"] * (planned > len(rollouts))


def replay_findings(rollouts: Rollouts, count: int) -> list[str]:
    """Replays `count` episodes (-1: all) and says which differ from the real game, and where."""
    if count < -1:
        raise UsageError(f"--replay is {count}: give how many episodes, or -1 for all")
    if rollouts.simulated or not rollouts.manifest.get("env"):
        lacks = "it holds simulated episodes" if rollouts.simulated else "its manifest has no 'env', which names the game and its options"
        raise UsageError(f"{rollouts.path} cannot be replayed: {lacks}; --check holds without a game")
    count = len(rollouts) if count == -1 else min(count, len(rollouts))
    chosen = np.linspace(0, len(rollouts) - 1, count).round().astype(int)
    try:
        env = make_env(_REPLAY_SLOTS, ProcgenConfig(**rollouts.manifest["env"]))
    except (TypeError, ValueError) as error:
        raise BadStore(f"{rollouts.path} was recorded in a game that this version does not have ({error}): record it again") from error
    differs = replay(rollouts, chosen, env, progress=True)
    env.close()
    return [f"episode {episode} differs from the real game at step {at}" for episode, at in zip(chosen, differs) if at != SAME]


def _levels(seeds: np.ndarray) -> str:
    """How many levels and which; simulated episodes have none."""
    real = seeds[seeds >= 0]
    return f"{len(np.unique(real))}, from {real.min()} to {real.max()}" if len(real) else "none: the episodes are simulated"


def _spread(values: np.ndarray) -> str:
    return f"{values.mean():.1f} (min {values.min():.0f}, median {np.median(values):.0f}, max {values.max():.0f})"


if __name__ == "__main__":
    run_main(main, ARGS)
