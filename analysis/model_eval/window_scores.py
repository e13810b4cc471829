"""What the report card measures on one batch of recorded windows: plain arrays, a number per window and step,
no averages yet.

Every prediction, the model's and the floors' alike, goes through the same three measures: pixels, the agent's
view and things. Step 0 is the last frame that the model is given. Where an episode is over, `alive` is False
and nothing counts.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.model_eval.agent_view import (
    HAZARD_RADIUS,
    Whitener,
    class_probabilities,
    cosine_similarity,
    total_variation,
)
from analysis.model_eval.camera import Camera, shifted_copy, visible_before
from analysis.model_eval.frame_objects import HAZARDS, KINDS, Objects, Scenes
from analysis.model_eval.object_detector import Detector, detect, object_pixels
from analysis.model_eval.object_matching import match_objects
from analysis.model_eval.predictions import open_loop, other_actions, teacher_forced
from generative.simulator import Simulator
from rollouts.segment import Segment

OBJECT_RADIUS = 6.0
"""Tiles from the player, in x and in y, within which things are scored; the picture ends at 6.5."""
AGENT_VIEWED = ("open_loop", "posterior", "shifted_copy", "other_episode")
"""Predictions that are shown to the agent."""
DETECTOR_SEARCHED = ("real", "open_loop", "posterior", "shifted_copy")
"""Frames in which things are looked for."""


class EvalReferences(NamedTuple):
    """What is fit once, on real frames of training levels. mean_frame [H, W, C] in 0-255."""

    mean_frame: np.ndarray
    whitener: Whitener
    detector: Detector


class GroundTruth(NamedTuple):
    """What really happened in windows after their first K - 1 frames: [S, b, ...].

    camera of [S, b], shown: cameras of the K given frames [K, b]; visible [S, b, H, W]: places that those had
    shown. objects.frame counts step * b + window.
    """

    frames: np.ndarray
    alive: np.ndarray
    camera: Camera
    shown: Camera
    visible: np.ndarray
    player: np.ndarray
    objects: Objects


def ground_truth(segment: Segment, scenes: Scenes, k: int) -> GroundTruth:
    """scenes: of the frames [L, b] in that order; where there is no frame, of any other."""
    batch = segment.mask.shape[1]
    camera = Camera(*(field.reshape(-1, batch) for field in scenes.camera))
    size = segment.obs.shape[2]
    objects = scenes.objects.take(scenes.objects.frame >= (k - 1) * batch)
    objects = objects._replace(frame=objects.frame - (k - 1) * batch)
    alive = segment.mask[k - 1 :].cpu().numpy()
    objects = objects.take(alive.ravel()[objects.frame])
    later = camera[k - 1 :]
    shown = camera[:k]
    visible = np.stack([visible_before(shown, later[s], size) for s in range(len(alive))])
    player = scenes.player.reshape(-1, batch, 2)[k - 1 :]
    return GroundTruth(segment.obs[k - 1 :].cpu().numpy(), alive, later, shown, visible, player, objects)


def baselines(
    truth: GroundTruth, given: np.ndarray, mean_frame: np.ndarray, partner: np.ndarray
) -> dict[str, np.ndarray]:
    """The simplest predictions [S, b, H, W, C] uint8. given [K, b, H, W, C]; partner [b]: a window of another
    level for each.
    """
    steps = np.arange(len(truth.alive))
    last = truth.alive.sum(0) - 1
    shape = truth.frames.shape
    return {
        "copy": np.broadcast_to(given[-1], shape),
        "mean_frame": np.broadcast_to(np.round(mean_frame).astype(np.uint8), shape),
        "shifted_copy": np.stack([shifted_copy(given, truth.shown, truth.camera[s]) for s in steps]),
        "other_episode": truth.frames[np.minimum(steps[:, None], last[partner]), partner],
    }


def pixel_errors(frames: np.ndarray, truth: GroundTruth) -> tuple[np.ndarray, np.ndarray]:
    """Squared error in [0, 1] units: mean over all pixels, and sum over those whose place had been shown; [S,
    b] each.
    """
    error = np.stack(
        [((f.astype(np.float32) - r) / 255) ** 2 for f, r in zip(frames, truth.frames.astype(np.float32))]
    ).mean(-1)
    return error.mean((2, 3)), (error * truth.visible).sum((2, 3))


@torch.no_grad()
def run_agent(agent: ActorCritic, frames: np.ndarray, hidden: torch.Tensor) -> tuple[np.ndarray, ...]:
    """The agent shown frames [S, b, H, W, C] from state hidden [b, D] on: encoder features, logits, value,
    hidden states after.
    """
    features = agent.encoder(torch.from_numpy(np.ascontiguousarray(frames)).to(hidden.device))
    after = agent.core.unroll(
        features, hidden, torch.zeros(frames.shape[:2], dtype=torch.bool, device=hidden.device)
    )
    logits, value = agent.heads(after)
    return tuple(x.float().cpu().numpy() for x in (features, logits, value, after))


def agent_view_scores(
    seen_by_agent: tuple, segment: Segment, k: int, whitener: Whitener, effect_classes: Sequence[int]
) -> dict[str, np.ndarray]:
    """A view (logits [S, b, A], value [S, b], hidden after [S, b, D]) against the recorded one: arrays [S,
    b].
    """
    logits, value, hidden = seen_by_agent
    real_logits, real_value, real_hidden = (
        x[k - 1 :].cpu().numpy() for x in (segment.logits, segment.value, segment.hidden_after())
    )
    p = class_probabilities(logits, effect_classes)
    q = class_probabilities(real_logits, effect_classes)
    white = whitener(hidden)
    real_white = whitener(real_hidden)
    return {
        "tv": total_variation(p, q),
        "agrees": p.argmax(-1) == q.argmax(-1),
        "value_error": np.abs(value - real_value),
        "cosine": cosine_similarity(white, real_white),
        "hidden_error": ((hidden - real_hidden) ** 2).sum(-1),
        "white_error": ((white - real_white) ** 2).sum(-1),
    }


def object_scores(found: Objects, truth: GroundTruth) -> dict[str, np.ndarray]:
    """Counts by kind, step and window [kinds, S, b] of things within REACH whose place had been shown, and of
    new ones.

    real: that stand there; hit: that were found; distance: of these, summed, in tiles; found, right: what was
    found there, and what of it is real; new: what was found at places that had not been shown.
    """
    shape = truth.alive.shape
    found = found.take(truth.alive.ravel()[found.frame])
    matches = match_objects(truth.objects, found)
    wanted, counted = (
        _in_reach(things, truth) & _at_shown_place(things, truth) for things in (truth.objects, found)
    )
    hit = wanted & ~np.isnan(matches.error)
    return {
        "real": _count(truth.objects, wanted, shape),
        "hit": _count(truth.objects, hit, shape),
        "distance": _count(truth.objects, hit, shape, matches.error),
        "found": _count(found, counted, shape),
        "right": _count(found, counted & matches.found, shape),
        "new": _count(found, ~_at_shown_place(found, truth), shape),
    }


def visible_areas(truth: GroundTruth) -> dict[str, np.ndarray]:
    """[S, b]: pixels that show places already shown, their share, and the area of new places in square tiles;
    0 where no step is.
    """
    pixels = truth.visible.sum((2, 3)) * truth.alive
    size = truth.visible[0, 0].size
    new = (size * truth.alive - pixels) / truth.camera.unit**2
    return {"seen_pixels": pixels, "seen_share": pixels / size, "new_tiles": new}


def hazard_near(truth: GroundTruth, reach: float = HAZARD_RADIUS) -> np.ndarray:
    """[S, b] bool: whether any hazard is within `reach` tiles of the player, in x and in y."""
    hazards = truth.objects.of_kinds(HAZARDS)
    near = hazards.take(_in_reach(hazards, truth, reach))
    return np.bincount(near.frame, minlength=truth.alive.size).reshape(truth.alive.shape) > 0


def score_windows(
    simulator: Simulator,
    segment: Segment,
    scenes: Scenes,
    partner: np.ndarray,
    yardsticks: EvalReferences,
    effect_classes: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Every measure of one batch of windows [L, b], as arrays whose last axis is the window. Keys: measure,
    or measure/prediction.
    """
    k = simulator.model.config.num_initializing_steps
    truth = ground_truth(segment, scenes, k)
    run = open_loop(simulator, segment, seed)
    forced = teacher_forced(simulator, segment, seed)
    wrong = other_actions(segment.action[k - 1 :], effect_classes, seed)
    predicted = {
        "open_loop": run.obs,
        "modal": open_loop(simulator, segment, seed, modal=True).obs,
        "posterior": forced.posterior,
        "one_step": forced.one_step,
        "wrong_actions": open_loop(simulator, segment, seed, actions=wrong).obs,
    }
    frames = {name: x.cpu().numpy() for name, x in predicted.items()}
    frames |= baselines(truth, segment.obs[:k].cpu().numpy(), yardsticks.mean_frame, partner)
    out = {"alive": truth.alive, "hazard_near": hazard_near(truth)} | visible_areas(truth)
    for name, x in frames.items():
        out[f"error/{name}"], out[f"seen_error/{name}"] = pixel_errors(x, truth)
    own = (run.logits, run.value, run.hidden_after())
    out |= agent_scores(
        simulator.agent,
        frames,
        truth,
        segment,
        k,
        tuple(x.cpu().numpy() for x in own),
        yardsticks.whitener,
        effect_classes,
    )
    for name in DETECTOR_SEARCHED:
        shown = truth.frames if name == "real" else frames[name]
        found = detect(yardsticks.detector, shown.reshape(-1, *shown.shape[2:]), flatten_camera(truth.camera))
        out |= {f"things_{measure}/{name}": x for measure, x in object_scores(found, truth).items()}
    return out | outcome_scores(segment, run, forced, k)


def agent_scores(
    agent,
    frames,
    truth: GroundTruth,
    segment: Segment,
    k: int,
    own: tuple,
    whitener: Whitener,
    effect_classes,
) -> dict[str, np.ndarray]:
    """The agent's view of the VIEWED predictions, and how far their encoder features lie from those of the
    real frames.

    own: the view that the agent had inside the simulator, with the hidden state that the simulator started it
    with; the other predictions are shown to it from its real hidden state on.
    """
    out = {}
    before = segment.hidden[k - 1]
    real_features, *_ = run_agent(agent, truth.frames, before)
    for name in AGENT_VIEWED:
        features, *view = run_agent(agent, frames[name], before)
        scores = agent_view_scores(own if name == "open_loop" else view, segment, k, whitener, effect_classes)
        out |= {f"{measure}/{name}": x for measure, x in scores.items()}
        out[f"encoder_distance/{name}"] = ((features - real_features) ** 2).mean(-1)
    logits, value, hidden = (
        x[k - 1 :].cpu().numpy() for x in (segment.logits, segment.value, segment.hidden_after())
    )
    effect = np.unique(effect_classes, return_inverse=True)[1]
    spread = (whitener(hidden) ** 2).sum(-1)
    return out | {
        "real_class": class_probabilities(logits, effect_classes).argmax(-1),
        "taken": effect[segment.action[k - 1 :].cpu().numpy()],
        "hidden_spread": ((hidden - whitener.mean) ** 2).sum(-1),
        "white_spread": spread,
        "value": value,
    }


def outcome_scores(segment: Segment, run: Segment, forced, k: int) -> dict[str, np.ndarray]:
    """What each step's action really led to and what was foretold, open loop and (one_step) after seeing the
    frame; [S, b].
    """
    done = segment.terminated[k - 1 :]
    coin = segment.reward[k - 1 :] > 0
    foretold = {
        "open_loop": (run.extra["done_prob"], run.extra["reward_prob"]),
        "one_step": (forced.done_prob, forced.reward_prob),
    }
    out = {"done": done, "coin": coin}
    for name, (done_prob, reward_prob) in foretold.items():
        out |= {f"done_prob/{name}": done_prob, f"reward_prob/{name}": reward_prob}
    return {name: x.cpu().numpy() for name, x in out.items()}


def flatten_camera(camera: Camera) -> Camera:
    """Cameras [S, b] as [S * b]."""
    return Camera(*(field.reshape(-1) for field in camera))


def _in_reach(things: Objects, truth: GroundTruth, reach: float = OBJECT_RADIUS) -> np.ndarray:
    player = truth.player.reshape(-1, 2)[things.frame]
    return (np.abs(things.x - player[:, 0]) <= reach) & (np.abs(things.y - player[:, 1]) <= reach)


def _at_shown_place(things: Objects, truth: GroundTruth) -> np.ndarray:
    size = truth.frames.shape[2]
    row, column = (pixels.clip(0, size - 1) for pixels in object_pixels(things, flatten_camera(truth.camera)))
    return truth.visible.reshape(-1, size, size)[things.frame, row, column]


def _count(
    things: Objects, which: np.ndarray, shape: tuple[int, int], amount: np.ndarray | None = None
) -> np.ndarray:
    """How many things, or how much of an amount, by kind, step and window: [kinds, S, b]."""
    size = shape[0] * shape[1]
    index = things.kind[which] * size + things.frame[which]
    return np.bincount(index, None if amount is None else amount[which], minlength=len(KINDS) * size).reshape(
        len(KINDS), *shape
    )
