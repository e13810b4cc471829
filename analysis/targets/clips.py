"""Clips of a target: simulated rollouts of every arm, and the real moments nearest to the optimised ones."""

from dataclasses import dataclass

import numpy as np

from analysis.rendering.tiles import Tile, tile_clips
from analysis.targets.experiment import Experiment
from analysis.targets.figures import LABELS
from analysis.targets.numbers import NEAR
from common.video import write_video
from interpret.targets.target_rollouts import Reading
from interpret.targets.targets import Target
from rollouts.windows import Windows

ROWS = ("optimised", "best_recorded", "best_random", "start")
"""Of the video, from above; the real moments follow."""
ENDED = 0.35
"""Brightness of frames after the simulator expects the episode to have ended."""
Arrays = dict[str, np.ndarray]


@dataclass(frozen=True)
class Clips:
    """Rollouts of a target and the real moments that are nearest to the optimised ones by hidden state.

    real: frames [T', H, W, C] of each moment, up to the end of its episode. real_values: the function there
    [N], NaN where it has none.
    """

    target: Target
    reading: Reading
    shown: Arrays
    report: Arrays
    real: list[np.ndarray]
    real_values: np.ndarray

    @property
    def steps(self) -> int:
        return len(self.shown["start.obs"])

    def frames(self, arm: str, i: int) -> np.ndarray:
        """The rollout [T, H, W, C] of latent i, darkened after an expected end."""
        frames = self.shown[f"{arm}.obs"][:, i]
        running = np.arange(self.steps) < self.shown[f"{arm}.length"][i]
        return np.where(running[:, None, None, None], frames, ENDED * frames).astype(np.uint8)

    def label(self, arm: str, i: int) -> str:
        return f"{LABELS[arm]} {self.report[f'{arm}.value'][i]:.2f}"

    def real_label(self, i: int) -> str:
        """Words for the nearest real moment of optimised latent i."""
        value = f" {self.real_values[i]:.2f}" if np.isfinite(self.real_values[i]) else ""
        near = self.shown["optimised.hidden.percentile"][i] <= NEAR
        return f"real{value}" if near else f"real{value}, not near"

    def where(self) -> str:
        """Where the function is read, in words."""
        step = self.reading.step
        return "summed over steps" if step == "sum" else f"at step {step}"


def make_clips(experiment: Experiment, target: Target, reading: Reading, parts: dict[str, Arrays]) -> Clips:
    """The clips of a target from its parts."""
    numbers = parts["shown"]["optimised.hidden.moment"]
    values = experiment.moments.values(target, reading)
    real_values = np.full(len(numbers), np.nan) if values is None else values[numbers]
    real = real_frames(experiment, numbers)
    return Clips(target, reading, parts["shown"], parts["report"], real, real_values)


def real_frames(experiment: Experiment, numbers: np.ndarray) -> list[np.ndarray]:
    """Real frames [T', H, W, C] from each of the numbered moments on, to the end of the episode at most."""
    moments = experiment.moments
    table = np.stack([moments.episode[numbers], moments.step[numbers]], 1)
    rollouts = experiment.recorded.windows.rollouts
    segment = Windows(rollouts, experiment.sizes.num_sim_steps, table).batch(np.arange(len(table)))
    return [segment.obs[: int(n), i].numpy() for i, n in enumerate(segment.mask.sum(0))]


def write_clips(clips: Clips, path, num_shown: int, fps: float) -> None:
    """Writes a video: a row of clips per arm, one column per start, the real moments below."""
    count = min(num_shown, len(clips.real))
    tiles = [Tile(clips.frames(arm, i), clips.label(arm, i)) for arm in ROWS for i in range(count)]
    tiles += [Tile(clips.real[i], clips.real_label(i)) for i in range(count)]
    title = f"Simulated · {clips.target.name} {clips.where()}"
    write_video(path, tile_clips(tiles, count, title, scale=2), fps)
