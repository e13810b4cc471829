"""Video of a world model's rollouts from one start, one tile per constant action, arranged by direction."""

from collections.abc import Sequence

from analysis.rendering.arrows import arrow_direction
from analysis.rendering.tiles import Tile, tile_clips
from common.progress import progress_bar
from common.video import write_video
from rollouts.store import Rollouts


def grid_layout(names: Sequence[str]) -> tuple[list[int | None], int]:
    """Index of the action in each cell, row by row (None: empty), and the number of columns.

    Names with distinct directions are placed by direction in a 3 x 3 grid: "up-left" top left, "none" in the
    middle. Other names fill a square in order.
    """
    directions = [arrow_direction(name) for name in names]
    if None not in directions and len(set(directions)) == len(directions):
        cells = [(x, y) for y in (-1, 0, 1) for x in (-1, 0, 1)]
        return [directions.index(cell) if cell in directions else None for cell in cells], 3
    columns = next(side for side in range(1, len(names) + 1) if side * side >= len(names))
    return list(range(len(names))), columns


def write_grids(store: Rollouts, names: Sequence[str], fps: float = 10) -> None:
    """Writes videos/grid_manual_actions_<start>.mp4 in the store for every start state that has none.

    Args:
        store: of `record_samples` with a grid of actions; episodes of a start state are consecutive.
        names: of the actions.
        fps: frames per second.
    """
    cells, columns = grid_layout(names)
    for start in progress_bar(range(len(store) // len(names)), unit="video", desc="grid"):
        path = store.path / "videos" / f"grid_manual_actions_{start:05d}.mp4"
        if path.exists():
            continue
        clips = [store.episode(start * len(names) + k)["obs"] for k in range(len(names))]
        tiles = [None if k is None else Tile(clips[k], names[k], arrow_direction(names[k])) for k in cells]
        write_video(path, tile_clips(tiles, columns, _title(store, start * len(names))), fps)


def _title(store: Rollouts, episode: int) -> str:
    source, step = (int(store.episodes[name][episode]) for name in ("source_episode", "source_step"))
    start = f"from episode {source}, step {step}" if source >= 0 else "from a random latent"
    return f"Simulated · {start}"
