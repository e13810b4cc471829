"""Pixels of predicted frames by kind: the player, in view all along, back in view, never seen.

Every pixel of a step is of one kind, which the state bytes decide: camera and player of each frame.
"""

import numpy as np

from analysis.model_eval.camera import Camera, pixel_correspondence, x_to_columns, y_to_rows
from analysis.model_eval.ground_truth import GroundTruth, squared_error

SCORED_KINDS = ("player", "in_view", "returned")
"""Kinds whose pixels can be predicted."""
PIXEL_KINDS = (*SCORED_KINDS, "new")
PLAYER_HALF_SIZE = (0.5, 0.5787)
"""Half of the width and of the height in tiles of the box that CoinRun's player is drawn in."""
MARGIN = 2
"""Pixels around the player's box that count as the player: cubic interpolation reaches that far."""


def pixel_kinds(truth: GroundTruth) -> dict[str, np.ndarray]:
    """Masks [S, b, H, W] of PIXEL_KINDS; where there is no step they mean nothing.

    player: within MARGIN of the player's box, or of where a copy leaves it: a copy of the last given frame,
    and a copy of the frame before. in_view: of the rest, pixels whose place was in view in every frame from
    the last given one on. returned: seen in a given frame, out of view in a later one. new: never seen in a
    given frame.
    """
    player = _player_and_ghosts(truth)
    along = np.stack([in_view_all_along(truth.camera, s, truth.frames.shape[2]) for s in _steps(truth)])
    return {
        "player": player,
        "in_view": along & ~player,
        "returned": truth.visible & ~along & ~player,
        "new": ~truth.visible & ~player,
    }


def pixel_scores(frames: dict[str, np.ndarray], truth: GroundTruth) -> dict[str, np.ndarray]:
    """Squared errors and pixel counts [S, b] of predictions [S, b, H, W, C] by kind of pixel.

    Returns:
        "<kind>_pixels": number of pixels of PIXEL_KINDS, 0 where there is no step. "error/<name>": mean over
        all pixels, in [0, 1]. "<kind>_error/<name>": sum over pixels of SCORED_KINDS; "seen_error/<name>":
        over all previously visible ones.
    """
    masks = pixel_kinds(truth)
    scores = {f"{kind}_pixels": masks[kind].sum((2, 3)) * truth.alive for kind in PIXEL_KINDS}
    summed = {"seen": truth.visible} | {kind: masks[kind] for kind in SCORED_KINDS}
    for name, x in frames.items():
        error = squared_error(x, truth)
        scores[f"error/{name}"] = error.mean((2, 3))
        scores |= {f"{kind}_error/{name}": (error * mask).sum((2, 3)) for kind, mask in summed.items()}
    return scores


def in_view_all_along(camera: Camera, step: int, size: int) -> np.ndarray:
    """[b, H, W] bool: pixels of a step whose place was in view in every frame from the first up to the step.

    Args:
        camera: [S, b].
        step: index of the first axis.
        size: height and width of the frames in pixels.
    """
    columns, rows = pixel_correspondence(camera[: step + 1], camera[step], size)
    row_in_view, column_in_view = (((pixels >= 0) & (pixels < size)).all(0) for pixels in (rows, columns))
    return row_in_view[:, :, None] & column_in_view[:, None, :]


def box_mask(camera: Camera, player: np.ndarray, size: int, margin: float = MARGIN) -> np.ndarray:
    """[..., H, W] bool: pixels of frames that a player's box, widened by `margin` pixels, overlaps.

    Args:
        camera: of the frames [...].
        player: centre of the box [..., 2], x and y in tiles.
        size: height and width of the frames in pixels.
        margin: in pixels.
    """
    half_width, half_height = PLAYER_HALF_SIZE
    column = x_to_columns(camera, player[..., :1])
    row = y_to_rows(camera, player[..., 1:])
    unit = np.asarray(camera.unit)[..., None]
    pixel = np.arange(size)
    inside_columns, inside_rows = (
        (pixel + 1 > centre - half * unit - margin) & (pixel < centre + half * unit + margin)
        for centre, half in ((column, half_width), (row, half_height))
    )
    return inside_rows[..., :, None] & inside_columns[..., None, :]


def _player_and_ghosts(truth: GroundTruth) -> np.ndarray:
    steps = _steps(truth)
    size = truth.frames.shape[2]
    places = (truth.player, truth.player[np.zeros_like(steps)], truth.player[np.maximum(steps - 1, 0)])
    return np.any([box_mask(truth.camera, place, size) for place in places], axis=0)


def _steps(truth: GroundTruth) -> np.ndarray:
    return np.arange(len(truth.alive))
