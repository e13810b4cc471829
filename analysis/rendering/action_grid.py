"""One start, every act: a video of what the world model makes of each action held throughout, laid out as the
actions point.
"""

from collections.abc import Sequence

from analysis.rendering.arrows import direction
from analysis.rendering.tiles import Tile, tile_clips
from common.progress import progress_bar
from common.video import write_video
from rollouts.store import Rollouts


def grid_places(names: Sequence[str]) -> tuple[list[int | None], int]:
    """Which action stands where, row by row (None: nothing there), and the number of columns.

    Names that point nine different ways, or fewer, stand where they point: "up-left" top left, "none" in the
    middle. Any others stand in their order, in a square that holds them.
    """
    ways = [direction(name) for name in names]
    if None not in ways and len(set(ways)) == len(ways):
        return [ways.index((x, y)) if (x, y) in ways else None for y in (-1, 0, 1) for x in (-1, 0, 1)], 3
    columns = next(side for side in range(1, len(names) + 1) if side * side >= len(names))
    return list(range(len(names))), columns


def write_grids(store: Rollouts, names: Sequence[str], fps: float = 10) -> None:
    """Writes `videos/grid_manual_actions_<start>.mp4` in the store's directory for every starting place,
    unless it is there.

    store: of `record_samples` with a grid of the actions `names`, whose episodes for a starting place follow
    each other.
    """
    places, columns = grid_places(names)
    for start in progress_bar(range(len(store) // len(names)), unit="video", desc="grid"):
        path = store.path / "videos" / f"grid_manual_actions_{start:05d}.mp4"
        if path.exists():
            continue
        clips = [store.episode(start * len(names) + k)["obs"] for k in range(len(names))]
        tiles = [None if k is None else Tile(clips[k], names[k], direction(names[k])) for k in places]
        write_video(path, tile_clips(tiles, columns, _title(store, start * len(names))), fps)


def _title(store: Rollouts, episode: int) -> str:
    source, step = (int(store.episodes[name][episode]) for name in ("source_episode", "source_step"))
    return "Simulated · " + (f"from episode {source}, step {step}" if source >= 0 else "from a random latent")
