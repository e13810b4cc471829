"""Constructs about 2,000 pairs of CoinRun scenes: at a recorded step an object is placed ahead of the player;
its twin is the same state without the object.

Scenes start from recorded steps, so the agent's memory of what came before is known. The game restores and
checks every pair (analysis.probing.scene_checks); invalid ones are left out and counted. Writes the bank and
a figure to results/scene_bank_precomp; read it with rollouts.scene_bank.SceneBank.open.
"""

import dataclasses
import logging
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from common.cli import parse, run_main
from common.shared_flags import LogLevel
from envs.scene_kinds import KINDS


@dataclass
class Args:
    data_dir: Path = Path("data")
    """Store of real CoinRun rollouts with concepts (python -m analysis.concepts_precompute)."""
    num_scenes: int = 2000
    """Approximate number of pairs, shared evenly by settings of kind, distance, height and velocity."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of objects."""
    distances: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """Columns between player and object; at 7 only the object's edge is on the screen."""
    heights: tuple[int, ...] = (0, 1, 2)
    """Tiles above the ground; for crates and walls, of the top of a pile. Lava and pits have height 0."""
    velocities: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.25, 0.0), (0.5, 0.0))
    """The player's velocity to the right and upwards, in tiles per step; no single frame shows it."""
    per_layout: int = 1
    """Pairs per layout, at most."""
    seed: int = 0
    """Seed of the choice of steps and settings."""
    out_dir: Path = Path("results")
    """Directory that holds concepts_precomp and receives scene_bank_precomp."""
    new: bool = False
    """Compute again even if it is done."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np

from analysis.io.steps import point_latest
from analysis.probing.scene_bank_figure import draw
from analysis.probing.scene_checks import CheckedPairs, ScenePair, check_pairs
from analysis.probing.store_concepts import VERSION as CONCEPTS_VERSION
from analysis.probing.store_concepts import load_concepts
from common.progress import progress_bar
from common.runs import UsageError, open_run
from common.words import counted
from envs.concepts import CONCEPTS, columns_of
from envs.procgen_body import State, parse
from envs.scenes import ENTITY_KINDS, FLAT, NoRoom, copy, insert, templates
from rollouts.growth import RECORD_MORE
from rollouts.scene_bank import SceneBank
from rollouts.split import episode_layouts
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts

VERSION = 2
BATCH_SIZE = 64
"""Steps replayed, and pairs checked, at a time."""
MAX_TRIES = 12
"""Settings tried at one step."""


class Setting(NamedTuple):
    """Which object is placed where, and the player's velocity."""

    kind: str
    distance: int
    height: int
    velocity: tuple[float, float]


class Pair(NamedTuple):
    """A pair to be checked, its setting, and the recorded step that it starts from."""

    made: ScenePair
    setting: Setting
    episode: int
    step: int


def all_settings(args: Args) -> list[Setting]:
    """Every possible setting: no object overlaps the player, and lava and pits have height 0."""
    found = [
        Setting(kind, distance, height, velocity)
        for kind in args.kinds
        for distance in args.distances
        for height in args.heights
        for velocity in args.velocities
        if not (kind in FLAT and height) and not (distance == 0 and (height < 2 or kind in ("crate", "wall")))
    ]
    if not found:
        raise UsageError(
            "no setting is left: at distance 0 only a height of 2 or more is possible, and lava and pits "
            "have height 0"
        )
    return found


def check_flags(args: Args) -> None:
    """Raises UsageError for flags that cannot be satisfied."""
    unknown = [kind for kind in args.kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"there is no object {unknown[0]!r}; choose from: {', '.join(KINDS)}")
    for name, least in (("num_scenes", 1), ("per_layout", 1)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name} is {getattr(args, name)}: give {least} or more")
    if min(args.distances, default=0) < 0 or min(args.heights, default=0) < 0:
        raise UsageError(
            "--distances and --heights are 0 or more: objects are placed ahead of the player and on the "
            "ground or above"
        )


def candidate_steps(
    rollouts: Rollouts, concepts: dict[str, np.ndarray], layouts: np.ndarray, seed: int, per_layout: int
) -> Iterator[np.ndarray]:
    """Yields batches of random steps (rows of the store) at which the player stands on the ground.

    Args:
        rollouts: the store.
        concepts: its concept columns.
        layouts: [E], the layout of each episode.
        seed: of the order.
        per_layout: pairs per layout; at most four times as many steps of each are tried.
    """
    steps = np.random.default_rng(seed).permutation(
        np.flatnonzero(concepts["support"] & ~concepts["on_crate"])
    )
    layout = np.unique(layouts, return_inverse=True)[1][rollouts.step_table()[steps, 0]]
    order = np.argsort(layout, kind="stable")
    size = np.bincount(layout)
    rank = np.arange(len(steps)) - np.repeat(np.cumsum(size) - size, size)
    kept = order[np.argsort(rank, kind="stable")][: (rank < 4 * per_layout).sum()]
    yield from np.array_split(steps[kept], range(BATCH_SIZE, len(kept), BATCH_SIZE))


class SceneBuilder:
    """Constructs pairs for settings that still lack some, and keeps the valid ones."""

    def __init__(self, args: Args, rollouts: Rollouts, entities: dict[str, np.void]):
        self.args = args
        self.rollouts = rollouts
        self.entities = entities
        self.rng = np.random.default_rng([args.seed, 1])
        self.settings = all_settings(args)
        self.wanted = dict.fromkeys(self.settings, -(-args.num_scenes // len(self.settings)))
        self.kept: list[tuple[Pair, CheckedPairs, int]] = []
        self.faults = Counter()
        self.taken = Counter()

    def pairs(self, steps: np.ndarray, concepts: dict[str, np.ndarray], places: np.ndarray) -> Iterator[Pair]:
        """Yields at most one pair for each step, of a random setting among those that lack most pairs."""
        table = self.rollouts.step_table()[steps]
        for (episode, step), at, state in zip(
            table, steps, (parse(one.data) for one in replay_states(self.rollouts, *table.T))
        ):
            if self.taken[places[episode]] >= self.args.per_layout:
                continue
            order = sorted(
                self.rng.permutation(len(self.settings)), key=lambda i: -self.wanted[self.settings[i]]
            )
            fitting = (
                self.settings[i]
                for i in order
                if self.wanted[self.settings[i]] > 0 and self._is_new(self.settings[i], at, concepts)
            )
            for setting, _ in zip(fitting, range(MAX_TRIES)):
                made = self._make(state, setting, episode, step)
                if made:
                    self.wanted[setting] -= 1
                    self.taken[places[episode]] += 1
                    yield Pair(made, setting, int(episode), int(step))
                    break

    def check(self, pairs: list[Pair], env, places: np.ndarray) -> None:
        """Keeps the valid pairs; the settings of the others lack a pair again."""
        checked = check_pairs([pair.made for pair in pairs], env)
        for i, (pair, fault) in enumerate(zip(pairs, checked.fault)):
            if fault:
                self.faults[str(fault)] += 1
                self.wanted[pair.setting] += 1
                self.taken[places[pair.episode]] -= 1
            else:
                self.kept.append((pair, checked, i))

    def _is_new(self, setting: Setting, at: int, concepts: dict[str, np.ndarray]) -> bool:
        """Whether the recorded step has no such object ahead (of walls: none as near)."""
        there, tiles, _ = (concepts[name][at] for name in columns_of(setting.kind))
        return not there or (setting.kind == "wall" and tiles > setting.distance + 1.5)

    def _make(self, state: State, setting: Setting, episode: int, step: int) -> ScenePair | None:
        twin = copy(state, vx=setting.velocity[0], vy=setting.velocity[1])
        try:
            scene, box = insert(twin, setting.kind, setting.distance, setting.height, self.entities)
        except NoRoom:
            return None
        shard = self.rollouts.shard(self.rollouts.episodes["shard"][episode])
        row = self.rollouts.episodes["offset"][episode] + step
        return ScenePair(setting.kind, scene, twin, box, shard.rows("obs", np.array([row]))[0])


def collect(args: Args, rollouts: Rollouts, concepts: dict[str, np.ndarray]) -> SceneBank:
    """Constructs pairs until every setting has enough, or no step is left."""
    places = episode_layouts(rollouts)
    env = replay_env(rollouts, 2 * BATCH_SIZE)
    args = dataclasses.replace(args, kinds=shown_kinds(rollouts, concepts, args.kinds))
    builder = SceneBuilder(args, rollouts, entity_templates(rollouts, concepts, args.kinds))
    with progress_bar(total=sum(builder.wanted.values()), unit="scene", desc="scenes") as bar:
        for steps in candidate_steps(rollouts, concepts, places, args.seed, args.per_layout):
            pairs = list(builder.pairs(steps, concepts, places))
            if pairs:
                builder.check(pairs, env, places)
            bar.update(len(builder.kept) - bar.n)
            if not any(builder.wanted.values()):
                break
    env.close()
    if not builder.kept:
        raise UsageError(f"no scene could be made at any step of {rollouts.path}: {RECORD_MORE}")
    return make_bank(builder, rollouts, places)


def shown_kinds(
    rollouts: Rollouts, concepts: dict[str, np.ndarray], kinds: tuple[str, ...]
) -> tuple[str, ...]:
    """Kinds that the store shows an object of, to copy; a warning names the others.

    Raises:
        UsageError: if none is left.
    """
    models = {kind: "saw" if kind == "pit" else kind for kind in kinds}  # pits are made with saws
    missing = [
        kind
        for kind, model in models.items()
        if model in ENTITY_KINDS and not concepts[f"{model}_ahead"].any()
    ]
    if len(missing) == len(kinds):
        shown = f"{rollouts.path} shows no {' and no '.join(missing)} to copy"
        raise UsageError(f"{shown}: give other --kinds, or {RECORD_MORE}")
    if missing:
        logging.warning("left out, for %s shows none to copy: %s", rollouts.path, ", ".join(missing))
    return tuple(kind for kind in kinds if kind not in missing)


def entity_templates(
    rollouts: Rollouts, concepts: dict[str, np.ndarray], kinds: tuple[str, ...]
) -> dict[str, np.void]:
    """A recorded entity of each kind that is needed, to copy (pits are made with saws)."""
    needed = [kind for kind in ENTITY_KINDS if kind in kinds or (kind == "saw" and "pit" in kinds)]
    first = [np.flatnonzero(concepts[f"{kind}_ahead"])[:1] for kind in needed]
    table = rollouts.step_table()[np.concatenate(first).astype(int)] if first else np.zeros((0, 2), int)
    return templates(parse(one.data) for one in replay_states(rollouts, *table.T))


def make_bank(builder: SceneBuilder, rollouts: Rollouts, places: np.ndarray) -> SceneBank:
    """The scene bank of all valid pairs, in the order of the settings."""
    kept = sorted(builder.kept, key=lambda one: builder.settings.index(one[0].setting))
    pairs = [pair for pair, _, _ in kept]
    episode = np.array([pair.episode for pair in pairs])
    columns = {
        "kind": np.array([KINDS.index(pair.setting.kind) for pair in pairs], np.uint8),
        "velocity": np.array([pair.setting.velocity for pair in pairs], np.float32),
        "episode": episode,
        "step": np.array([pair.step for pair in pairs]),
        "level": rollouts.episodes["level_seed"][episode],
        "layout": places[episode].astype("S"),
        "box": np.array([pair.made.box for pair in pairs], np.float32),
    }
    columns |= {
        name: np.array([getattr(pair.setting, name) for pair in pairs]) for name in ("distance", "height")
    }
    columns |= {
        name: np.array([getattr(checked, name)[i] for _, checked, i in kept])
        for name in ("survives", "shown")
    }
    columns |= {name: np.array([checked.concepts[name][i] for _, checked, i in kept]) for name in CONCEPTS}
    wanted = {"/".join(map(str, setting)): count for setting, count in builder.wanted.items() if count > 0}
    about = {
        "kinds": list(KINDS),
        "store": rollouts.id,
        "env": rollouts.manifest["env"],
        "left_out": dict(builder.faults),
        "missing": wanted,
    }
    return SceneBank(
        about,
        columns,
        np.stack([checked.frames[i] for _, checked, i in kept]),
        [checked.states[i] for _, checked, i in kept],
    )


def main(args: Args) -> None:
    check_flags(args)
    rollouts = Rollouts.open(args.data_dir)
    concepts = load_concepts(rollouts, args.out_dir)
    asked = {
        name: getattr(args, name)
        for name in ("num_scenes", "kinds", "distances", "heights", "velocities", "per_layout", "seed")
    }
    config = {"version": VERSION, "concepts": CONCEPTS_VERSION} | asked
    run = open_run(args.out_dir / "scene_bank_precomp", "scenes", config, args.new, {"data_dir": rollouts.id})
    if not run.done:
        collect(args, rollouts, concepts).save(run.dir)
        run.finish({"data_dir": rollouts.id})
    point_latest(run)
    made = SceneBank.open(run.dir)
    left_out = ", ".join(f"{name} {count}" for name, count in made.about["left_out"].items()) or "none"
    logging.info(
        "%s on %s; left out: %s; settings short of pairs: %d",
        counted(len(made), "pair"),
        counted(len(np.unique(made.columns["layout"])), "layout"),
        left_out,
        len(made.about["missing"]),
    )
    logging.info("scenes: %s, picture: %s", run.dir, draw(made, run.dir / "scenes.png"))


if __name__ == "__main__":
    run_main(main, ARGS)
