"""Per-window scores of predicted frames: plain arrays, one number per window and step, before any averaging.

The model's predictions and the baselines go through the same three measures: pixels, the agent's responses
and detected objects. Step 0 is the last frame given to the model. After an episode's end `alive` is False
and nothing counts.
"""

from collections.abc import Sequence

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from analysis.model_eval.agent_view import (
    Whitener,
    cosine_similarity,
    total_variation,
)
from analysis.model_eval.eval_references import EvalReferences
from analysis.model_eval.frame_objects import Scenes
from analysis.model_eval.ground_truth import GroundTruth, baselines, ground_truth
from analysis.model_eval.motion_error import motion_scores
from analysis.model_eval.object_scores import detection_scores, hazard_near
from analysis.model_eval.pixel_kinds import pixel_scores
from analysis.model_eval.predictions import TeacherForced, open_loop, other_actions, teacher_forced
from envs.vecenv import class_probabilities
from generative.simulator import Simulator
from rollouts.segment import Segment

AGENT_VIEWED = ("open_loop", "composite", "posterior", "shifted_copy", "other_episode")
"""Frames that are shown to the agent. composite, the open loop's ceiling: real pixels where a given frame had
shown the place, those of the open-loop rollout where it is new.
"""


@torch.no_grad()
def run_agent(agent: ActorCritic, frames: np.ndarray, hidden: torch.Tensor) -> tuple[np.ndarray, ...]:
    """Encoder features, logits, value and hidden states [S, b, ...] of the agent on given frames.

    Args:
        agent: the agent.
        frames: [S, b, H, W, C] uint8.
        hidden: [b, D], its state before the first of them.
    """
    features = agent.encoder(torch.from_numpy(np.ascontiguousarray(frames)).to(hidden.device))
    no_resets = torch.zeros(frames.shape[:2], dtype=torch.bool, device=hidden.device)
    hidden_after = agent.core.unroll(features, hidden, no_resets)
    logits, value = agent.heads(hidden_after)
    return tuple(x.float().cpu().numpy() for x in (features, logits, value, hidden_after))


def agent_view_scores(
    view: tuple[np.ndarray, ...],
    segment: Segment,
    k: int,
    whitener: Whitener,
    effect_classes: Sequence[int],
) -> dict[str, np.ndarray]:
    """Differences [S, b] between the agent's responses to predicted frames and the recorded responses.

    Args:
        view: logits [S, b, A], value [S, b] and hidden states after the frames [S, b, D].
        segment: the recorded windows.
        k: number of given frames.
        whitener: of hidden states.
        effect_classes: [A].
    """
    logits, value, hidden = view
    real_logits, real_value, real_hidden = _recorded_view(segment, k)
    p = class_probabilities(logits, effect_classes)
    q = class_probabilities(real_logits, effect_classes)
    white, real_white = whitener(hidden), whitener(real_hidden)
    return {
        "tv": total_variation(p, q),
        "agrees": p.argmax(-1) == q.argmax(-1),
        "value_error": np.abs(value - real_value),
        "cosine": cosine_similarity(white, real_white),
        "hidden_error": ((hidden - real_hidden) ** 2).sum(-1),
        "white_error": ((white - real_white) ** 2).sum(-1),
    }


def visible_areas(truth: GroundTruth) -> dict[str, np.ndarray]:
    """Number and share of previously visible pixels, and the area of new places in square tiles: [S, b].

    0 where there is no step.
    """
    pixels = truth.visible.sum((2, 3)) * truth.alive
    size = truth.visible[0, 0].size
    new = (size * truth.alive - pixels) / truth.camera.unit**2
    return {"seen_pixels": pixels, "seen_share": pixels / size, "new_tiles": new}


def score_windows(
    simulator: Simulator,
    segment: Segment,
    scenes: Scenes,
    partner: np.ndarray,
    references: EvalReferences,
    effect_classes: Sequence[int],
    seed: int,
) -> dict[str, np.ndarray]:
    """Every per-window score of a batch.

    Args:
        simulator: the world model with its agent.
        segment: windows [L, b].
        scenes: of their frames.
        partner: [b], for each window another one, of a different level.
        references: mean frame, whitener and detector.
        effect_classes: [A].
        seed: of the simulator's noise.

    Returns:
        Arrays whose last axis is the window, by "measure" or "measure/prediction".
    """
    k = simulator.model.config.num_initializing_steps
    truth = ground_truth(segment, scenes, k)
    rollout = open_loop(simulator, segment, seed)
    forced = teacher_forced(simulator, segment, seed)
    wrong = other_actions(segment.action[k - 1 :], effect_classes, seed)
    predictions = {
        "open_loop": rollout.obs,
        "modal": open_loop(simulator, segment, seed, use_mode=True).obs,
        "posterior": forced.posterior,
        "one_step": forced.one_step,
        "wrong_actions": open_loop(simulator, segment, seed, actions=wrong).obs,
    }
    frames = {name: x.cpu().numpy() for name, x in predictions.items()}
    frames |= baselines(truth, segment.obs[:k].cpu().numpy(), references.mean_frame, partner)
    scores = {"alive": truth.alive, "hazard_near": hazard_near(truth)} | visible_areas(truth)
    scores |= pixel_scores(frames, truth)
    motions = (x.float().cpu().numpy() for x in (rollout.extra["motion"], forced.motion))
    scores |= motion_scores(truth.camera, truth.frames, *motions)
    in_simulator = (rollout.logits, rollout.value, rollout.hidden_after())
    composite = np.where(truth.visible[..., None], truth.frames, frames["open_loop"])
    scores |= agent_scores(
        simulator.agent,
        frames | {"composite": composite},
        truth,
        segment,
        k,
        tuple(x.cpu().numpy() for x in in_simulator),
        references.whitener,
        effect_classes,
    )
    scores |= detection_scores(references.detector, frames | {"real": truth.frames}, truth)
    return scores | outcome_scores(segment, rollout, forced, k)


def agent_scores(
    agent: ActorCritic,
    frames: dict[str, np.ndarray],
    truth: GroundTruth,
    segment: Segment,
    k: int,
    in_simulator: tuple[np.ndarray, ...],
    whitener: Whitener,
    effect_classes: Sequence[int],
) -> dict[str, np.ndarray]:
    """`agent_view_scores` of the AGENT_VIEWED predictions, encoder distances, and the recorded responses.

    Args:
        agent: the agent.
        frames: predictions [S, b, H, W, C] by name.
        truth: the recorded windows.
        segment: the same windows with the recorded responses.
        k: number of given frames.
        in_simulator: logits, value and hidden states of the agent inside the simulator, from the hidden state
            that the simulator decoded; all other predictions start from the recorded hidden state.
        whitener: of hidden states.
        effect_classes: [A].
    """
    scores = {}
    hidden_before = segment.hidden[k - 1]
    real_features, *_ = run_agent(agent, truth.frames, hidden_before)
    for name in AGENT_VIEWED:
        features, *view = run_agent(agent, frames[name], hidden_before)
        view = in_simulator if name == "open_loop" else view
        differences = agent_view_scores(view, segment, k, whitener, effect_classes)
        scores |= {f"{measure}/{name}": x for measure, x in differences.items()}
        scores[f"encoder_distance/{name}"] = ((features - real_features) ** 2).mean(-1)
    return scores | _recorded_responses(segment, k, whitener, effect_classes)


def _recorded_responses(
    segment: Segment, k: int, whitener: Whitener, effect_classes: Sequence[int]
) -> dict[str, np.ndarray]:
    """Recorded effect classes, value and distances of hidden states from their mean, [S, b] each."""
    logits, value, hidden = _recorded_view(segment, k)
    effect = np.unique(effect_classes, return_inverse=True)[1]
    return {
        "real_class": class_probabilities(logits, effect_classes).argmax(-1),
        "taken": effect[segment.action[k - 1 :].cpu().numpy()],
        "hidden_spread": ((hidden - whitener.mean) ** 2).sum(-1),
        "white_spread": (whitener(hidden) ** 2).sum(-1),
        "value": value,
    }


def outcome_scores(
    segment: Segment, rollout: Segment, forced: TeacherForced, k: int
) -> dict[str, np.ndarray]:
    """Recorded and predicted outcomes of each step's action, [S, b]: end of the episode, coin.

    Predictions: open loop, and `one_step`, from states that have seen the frame.
    """
    predicted = {
        "open_loop": (rollout.extra["done_prob"], rollout.extra["reward_prob"]),
        "one_step": (forced.done_prob, forced.reward_prob),
    }
    outcomes = {"done": segment.terminated[k - 1 :], "coin": segment.reward[k - 1 :] > 0}
    for name, (done_prob, reward_prob) in predicted.items():
        outcomes |= {f"done_prob/{name}": done_prob, f"reward_prob/{name}": reward_prob}
    return {name: x.cpu().numpy() for name, x in outcomes.items()}


def _recorded_view(segment: Segment, k: int) -> tuple[np.ndarray, ...]:
    """Recorded logits [S, b, A], value [S, b] and hidden states [S, b, D]."""
    recorded = (segment.logits, segment.value, segment.hidden_after())
    return tuple(x[k - 1 :].cpu().numpy() for x in recorded)
