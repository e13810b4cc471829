"""What one action does: every effect class tried from the same fork points in both worlds, and the frames
compared.
"""

from typing import NamedTuple

import numpy as np
import torch

from common.stats import mean, ratio
from generative.model.motion import best_shift
from interpret.forks.fork_points import ForkPoints
from interpret.forks.worlds import SimulatedWorld

MOTION_RANGE = 20
"""Largest scroll in pixels in the few steps after one action (a jump rises 1.5 tiles of 4.9 pixels per step).
"""
_PLAYER = slice(
    24, 40
)  # rows and columns of the middle of a frame, where the player is drawn and does not scroll


class ActionOutcomes(NamedTuple):
    """Frames before and after an action that is held for some steps."""

    before: np.ndarray
    """[M, H, W, C] uint8."""
    after: np.ndarray
    """[M, E, H, W, C] uint8."""
    ended: np.ndarray
    """[M, E] bool: whether the episode ended meanwhile, so that there is no later frame."""


def representative_actions(effect_classes) -> np.ndarray:
    """One action of each effect class, [E]."""
    return np.unique(effect_classes)


def real_action_outcomes(env, points: ForkPoints, hold: int) -> ActionOutcomes:
    """Each effect class from each fork point in the real game, held for `hold` steps."""
    acts = representative_actions(env.effect_classes)
    index, action = (x.ravel() for x in np.meshgrid(np.arange(len(points)), acts, indexing="ij"))
    after = np.zeros((len(index), *env.obs_shape), np.uint8)
    ended = np.zeros(len(index), bool)
    for at in range(0, len(index), env.num):
        rows = slice(at, min(at + env.num, len(index)))
        count = rows.stop - at
        env.restore([points.snapshots[i] for i in index[rows]], range(count))
        held = np.full(env.num, env.noop)
        held[:count] = action[rows]
        for _ in range(hold):
            env.act(held)
            _, obs, first = env.observe()
            ended[rows] |= first[:count]
        after[rows] = obs[:count]
    shape = len(points), len(acts)
    return ActionOutcomes(points.frames[-1], after.reshape(*shape, *env.obs_shape), ended.reshape(shape))


def simulated_action_outcomes(
    world: SimulatedWorld, points: ForkPoints, hold: int, acts: np.ndarray, seed: int, batch: int
) -> ActionOutcomes:
    """Each effect class from each fork point in the simulator, held for `hold` steps.

    All actions of a fork point share their noise. The simulator also draws frames after an end.

    Args:
        world: the simulator.
        points: M fork points.
        hold: steps.
        acts: [E], one action of each effect class.
        seed: of the noise.
        batch: runs at a time.
    """
    index, action = (x.ravel() for x in np.meshgrid(np.arange(len(points)), acts, indexing="ij"))
    frames = []
    for at in range(0, len(index), batch):
        batch_points = points.take(index[at : at + batch])
        held = np.repeat(action[None, at : at + batch], hold + 1, axis=0)
        frames.append(world.run(batch_points, hold + 1, batch_points.keys(seed), held).obs[[0, hold]].numpy())
    first, last = np.concatenate(frames, 1).reshape(2, len(points), len(acts), *frames[0].shape[2:])
    return ActionOutcomes(first[:, 0], last, np.zeros((len(points), len(acts)), bool))


class FrameMatch(NamedTuple):
    """Simulated frames compared with the real frames of all E effect classes."""

    error: np.ndarray
    """[M, E, E]: mean squared difference of the simulated frame of class a and the real one of class b."""
    same: np.ndarray
    """[M, E, E] bool: identical real frames."""
    nearest: np.ndarray
    """[M, E]: the class whose real frame is nearest to each simulated one."""


def match_frames(real: ActionOutcomes, simulated: ActionOutcomes) -> FrameMatch:
    """Compares every simulated frame with the real frames of all effect classes from its fork point.

    Frames after an end match nothing.
    """
    flat = [x.after.reshape(*x.after.shape[:2], -1).astype(np.float32) / 255 for x in (real, simulated)]
    real_flat, simulated_flat = flat
    error = np.stack([((s[:, None] - t[None]) ** 2).mean(-1) for s, t in zip(simulated_flat, real_flat)])
    same = (
        np.stack([(t[:, None] == t[None]).all(-1) for t in real_flat])
        & ~real.ended[:, :, None]
        & ~real.ended[:, None, :]
    )
    return FrameMatch(error, same, np.where(real.ended[:, None, :], np.inf, error).argmin(-1))


def matching_accuracy(
    match: FrameMatch, ended: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Accuracy [R] of identifying the action by the nearest real frame, and the accuracy of guessing.

    A nearest frame counts as correct if it equals that of the own action. ended [M, E]; weights [R, M].
    """
    n = np.arange(match.same.shape[1])
    scored = ~ended
    right = np.take_along_axis(match.same[:, n, :], match.nearest[..., None], -1)[..., 0] & scored
    guess = match.same.sum(-1) / np.maximum(scored.sum(-1), 1)[:, None]
    return ratio(weights, right.sum(1), scored.sum(1)), ratio(weights, (guess * scored).sum(1), scored.sum(1))


def confusion_matrix(match: FrameMatch, ended: np.ndarray) -> np.ndarray:
    """[E, E]: share of simulated frames of class a whose nearest real frame is that of class b.

    Identical real frames share the credit.
    """
    n = np.arange(match.same.shape[1])
    scored = ~ended
    credit = np.take_along_axis(match.same, match.nearest[:, :, None].repeat(len(n), 2), 1).astype(np.float64)
    credit /= np.maximum(credit.sum(-1, keepdims=True), 1)
    return (credit * scored[..., None]).sum(0) / np.maximum(scored.sum(0), 1)[:, None]


def psnr_margin(match: FrameMatch, ended: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """PSNR of simulated frames against the real frame of their own action, less that against other actions'
    [R], dB.

    Errors are pooled before the logarithm. Classes with the same real frame are not compared.
    """
    classes = np.arange(match.error.shape[1])
    other = ~match.same & ~ended[:, :, None] & ~ended[:, None, :]
    own = np.broadcast_to(match.error[:, classes, classes][..., None], other.shape)
    others_error, own_error = (
        ratio(weights, (error * other).sum((1, 2)), other.sum((1, 2))) for error in (match.error, own)
    )
    return 10 * np.log10(others_error / own_error)


def effect_products(real: ActionOutcomes, simulated: ActionOutcomes) -> np.ndarray:
    """Mean products over pixels [M, 3] of the effects of actions: real x real, real x simulated, simulated x
    simulated. An effect is a class's frame less the mean over classes.
    """
    effect, shown = (_centred(x.after, ~real.ended) for x in (real, simulated))
    return np.stack([(a * b).mean((1, 2)) for a, b in ((effect, effect), (effect, shown), (shown, shown))], 1)


def effect_regression(product: np.ndarray, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Slope and correlation [R] of simulated on real effects, from their `effect_products`."""
    xx, xy, yy = mean(weights, product).T
    with np.errstate(divide="ignore", invalid="ignore"):
        return xy / xx, xy / np.sqrt(xx * yy)


def player_motion(outcomes: ActionOutcomes) -> np.ndarray:
    """How far the player moved, read from the scrolling of the frame: [M, E, 2] whole pixels, right and up.

    The player itself, which does not scroll, is masked out of the registration.
    """
    before, after = (
        torch.from_numpy(frames).movedim(-1, -3) / 255 - 0.5 for frames in (outcomes.before, outcomes.after)
    )
    visible = torch.ones(before.shape[-2:])
    visible[_PLAYER, _PLAYER] = 0
    down, right = best_shift(before[:, None], after, visible, MOTION_RANGE).numpy().transpose(2, 0, 1)
    return np.stack([-right, down], -1)


def _centred(after: np.ndarray, alive: np.ndarray) -> np.ndarray:
    """Effects [M, E, P]: frames less the mean over the classes that have not ended; 0 for those that have."""
    flat = after.reshape(*after.shape[:2], -1).astype(np.float32) / 255
    weight = alive[..., None].astype(np.float32)
    return (
        flat - (flat * weight).sum(1, keepdims=True) / np.maximum(weight.sum(1, keepdims=True), 1)
    ) * weight
