"""About 2,000 made scenes: at a real moment of CoinRun an object is put some tiles ahead of the player, at
some height and velocity; its twin is the same moment without it.

Moments come from a store of real rollouts, so the agent's memory of what came before is known. The game
restores and judges every pair (analysis.probing.scene_checks); what fails is left out and counted. Written to
results/scene_bank_precomp, with a picture of some of them; read it with rollouts.scene_bank.SceneBank.open.
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
    """Store of real CoinRun rollouts, whose concepts are there (python -m analysis.concepts_precompute)."""
    num_scenes: int = 2000
    """About how many pairs: they are shared evenly by the settings of kind, distance, height and velocity."""
    kinds: tuple[str, ...] = KINDS
    """Kinds of objects."""
    distances: tuple[int, ...] = (0, 1, 2, 3, 4, 5, 6, 7)
    """Columns from the player's to the object's; at 7 no more than an edge of it is on the screen."""
    heights: tuple[int, ...] = (0, 1, 2)
    """Tiles above the ground; of crates and walls the height of the topmost of a pile. Lava and pits lie in
    the ground: height 0.
    """
    velocities: tuple[tuple[float, float], ...] = ((0.0, 0.0), (0.25, 0.0), (0.5, 0.0))
    """The player's velocity to the right and upwards, in tiles per step. It is not on the screen."""
    per_layout: int = 1
    """The most pairs from one layout."""
    seed: int = 0
    """Seed of the choice of moments and settings."""
    out_dir: Path = Path("results")
    """Where concepts_precomp is, and scene_bank_precomp is written."""
    new: bool = False
    """Make them again even where they are done."""
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
from generative.training.data import episode_layouts
from rollouts.growth import RECORD_MORE
from rollouts.scene_bank import SceneBank
from rollouts.states import replay_env, replay_states
from rollouts.store import Rollouts

VERSION = 1
AT_ONCE = 64
"""Moments that are replayed, and pairs that are judged, at a time."""
TRIES = 12
"""Settings that are tried at one moment before it is given up."""


class Setting(NamedTuple):
    """What is put where, and how fast the player is."""

    kind: str
    distance: int
    height: int
    velocity: tuple[float, float]


class Pair(NamedTuple):
    """A pair to be judged, its setting and its moment."""

    made: ScenePair
    setting: Setting
    episode: int
    step: int


def settings_of(args: Args) -> list[Setting]:
    """Every setting that can be: an object is not put into the player, and what lies in the ground has no
    height.
    """
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
            "no setting is left: at distance 0 only a height of 2 or more is possible, and lava and pits have height 0"
        )
    return found


def check_asked(args: Args) -> None:
    """Raises UsageError for what makes no sense."""
    unknown = [kind for kind in args.kinds if kind not in KINDS]
    if unknown:
        raise UsageError(f"there is no object {unknown[0]!r}; choose from: {', '.join(KINDS)}")
    for name, least in (("num_scenes", 1), ("per_layout", 1)):
        if getattr(args, name) < least:
            raise UsageError(f"--{name} is {getattr(args, name)}: give {least} or more")
    if min(args.distances, default=0) < 0 or min(args.heights, default=0) < 0:
        raise UsageError(
            "--distances and --heights are 0 or more: objects stand ahead of the player and on the ground or above"
        )


def moments(
    rollouts: Rollouts, concepts: dict[str, np.ndarray], layouts: np.ndarray, seed: int, per_layout: int
) -> Iterator[np.ndarray]:
    """Steps [n] (of the whole store) at which the player stands on the ground, in chunks; layouts in random
    order, no more than 4 * per_layout of each.
    """
    steps = np.random.default_rng(seed).permutation(
        np.flatnonzero(concepts["support"] & ~concepts["on_crate"])
    )
    layout = np.unique(layouts, return_inverse=True)[1][rollouts.step_table()[steps, 0]]
    order = np.argsort(layout, kind="stable")
    size = np.bincount(layout)
    rank = np.arange(len(steps)) - np.repeat(np.cumsum(size) - size, size)
    kept = order[np.argsort(rank, kind="stable")][: (rank < 4 * per_layout).sum()]
    yield from np.array_split(steps[kept], range(AT_ONCE, len(kept), AT_ONCE))


class Maker:
    """Finds for moments the settings that are still short of pairs, and keeps what passes its judges."""

    def __init__(self, args: Args, rollouts: Rollouts, looks: dict[str, np.void]):
        self.args = args
        self.rollouts = rollouts
        self.looks = looks
        self.rng = np.random.default_rng([args.seed, 1])
        self.settings = settings_of(args)
        self.wanted = dict.fromkeys(self.settings, -(-args.num_scenes // len(self.settings)))
        self.kept: list[tuple[Pair, CheckedPairs, int]] = []
        self.faults = Counter()
        self.taken = Counter()

    def pairs(self, steps: np.ndarray, concepts: dict[str, np.ndarray], places: np.ndarray) -> Iterator[Pair]:
        """At most one pair of each moment, for settings in random order, of which those come first that most
        are wanted of.
        """
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
            for setting, _ in zip(fitting, range(TRIES)):
                made = self._make(state, setting, episode, step)
                if made:
                    self.wanted[setting] -= 1
                    self.taken[places[episode]] += 1
                    yield Pair(made, setting, int(episode), int(step))
                    break

    def judge(self, pairs: list[Pair], env, places: np.ndarray) -> None:
        """Keeps the pairs that are as they should be; the others' settings are wanted again."""
        judged = check_pairs([pair.made for pair in pairs], env)
        for i, (pair, fault) in enumerate(zip(pairs, judged.fault)):
            if fault:
                self.faults[str(fault)] += 1
                self.wanted[pair.setting] += 1
                self.taken[places[pair.episode]] -= 1
            else:
                self.kept.append((pair, judged, i))

    def _is_new(self, setting: Setting, at: int, concepts: dict[str, np.ndarray]) -> bool:
        """Whether the moment has no such object ahead (of walls: none that is as near)."""
        there, tiles, _ = (concepts[name][at] for name in columns_of(setting.kind))
        return not there or (setting.kind == "wall" and tiles > setting.distance + 1.5)

    def _make(self, state: State, setting: Setting, episode: int, step: int) -> ScenePair | None:
        twin = copy(state, vx=setting.velocity[0], vy=setting.velocity[1])
        try:
            scene, box = insert(twin, setting.kind, setting.distance, setting.height, self.looks)
        except NoRoom:
            return None
        shard = self.rollouts.shard(self.rollouts.episodes["shard"][episode])
        row = self.rollouts.episodes["offset"][episode] + step
        return ScenePair(setting.kind, scene, twin, box, shard.rows("obs", np.array([row]))[0])


def collect(args: Args, rollouts: Rollouts, concepts: dict[str, np.ndarray]) -> SceneBank:
    """Goes through the moments until every setting has its pairs, or no moment is left."""
    places = episode_layouts(rollouts)
    env = replay_env(rollouts, 2 * AT_ONCE)
    args = dataclasses.replace(args, kinds=shown_kinds(rollouts, concepts, args.kinds))
    maker = Maker(args, rollouts, looks(rollouts, concepts, args.kinds))
    with progress_bar(total=sum(maker.wanted.values()), unit="scene", desc="scenes") as bar:
        for steps in moments(rollouts, concepts, places, args.seed, args.per_layout):
            pairs = list(maker.pairs(steps, concepts, places))
            if pairs:
                maker.judge(pairs, env, places)
            bar.update(len(maker.kept) - bar.n)
            if not any(maker.wanted.values()):
                break
    env.close()
    if not maker.kept:
        raise UsageError(f"no scene could be made at any moment of {rollouts.path}: {RECORD_MORE}")
    return bank(maker, rollouts, places)


def shown_kinds(
    rollouts: Rollouts, concepts: dict[str, np.ndarray], kinds: tuple[str, ...]
) -> tuple[str, ...]:
    """The kinds of which the store shows one to copy; a warning names the others. Raises UsageError where
    none is left.
    """
    models = {kind: "saw" if kind == "pit" else kind for kind in kinds}  # pits are made with saws
    missing = [
        kind
        for kind, model in models.items()
        if model in ENTITY_KINDS and not concepts[f"{model}_ahead"].any()
    ]
    if len(missing) == len(kinds):
        raise UsageError(
            f"{rollouts.path} shows no {' and no '.join(missing)} to copy: give other --kinds, or {RECORD_MORE}"
        )
    if missing:
        logging.warning("left out, for %s shows none to copy: %s", rollouts.path, ", ".join(missing))
    return tuple(kind for kind in kinds if kind not in missing)


def looks(rollouts: Rollouts, concepts: dict[str, np.ndarray], kinds: tuple[str, ...]) -> dict[str, np.void]:
    """A real entity of each kind that is needed (pits are made with saws)."""
    needed = [kind for kind in ENTITY_KINDS if kind in kinds or (kind == "saw" and "pit" in kinds)]
    first = [np.flatnonzero(concepts[f"{kind}_ahead"])[:1] for kind in needed]
    table = rollouts.step_table()[np.concatenate(first).astype(int)] if first else np.zeros((0, 2), int)
    return templates(parse(one.data) for one in replay_states(rollouts, *table.T))


def bank(maker: Maker, rollouts: Rollouts, places: np.ndarray) -> SceneBank:
    """What was kept, in the order of the settings."""
    kept = sorted(maker.kept, key=lambda one: maker.settings.index(one[0].setting))
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
        name: np.array([getattr(judged, name)[i] for _, judged, i in kept]) for name in ("survives", "shown")
    }
    columns |= {name: np.array([judged.concepts[name][i] for _, judged, i in kept]) for name in CONCEPTS}
    wanted = {"/".join(map(str, setting)): count for setting, count in maker.wanted.items() if count > 0}
    about = {
        "kinds": list(KINDS),
        "store": rollouts.id,
        "env": rollouts.manifest["env"],
        "left_out": dict(maker.faults),
        "missing": wanted,
    }
    return SceneBank(
        about,
        columns,
        np.stack([judged.frames[i] for _, judged, i in kept]),
        [judged.states[i] for _, judged, i in kept],
    )


def main(args: Args) -> None:
    check_asked(args)
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
