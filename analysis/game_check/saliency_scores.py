"""Maps of all methods on the states of the saliency benchmark, their controls, and the leaderboard."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

import numpy as np
import torch

from agents.actor_critic import ActorCritic
from common.progress import progress_bar
from common.stats import json_estimate, json_number, level_weights, mean
from generative.noise_keys import NoiseKeys
from generative.simulator import Simulator
from interpret.attribution.deletion_scores import within_ranks
from interpret.attribution.frame_functions import (
    FrameFunction,
    agent_log_probs,
    agent_outputs,
    agent_value,
    chosen,
    later_value,
)
from interpret.attribution.leaderboard import Benchmark, box_mass, painted
from interpret.attribution.map_controls import cascading_randomisation, map_similarity
from interpret.attribution.method_config import MethodConfig
from interpret.attribution.methods import METHODS, blur_map, blurred_outputs, path_integral, sarfa_map
from interpret.attribution.perturbation import gaussian_blur

Arrays = dict[str, np.ndarray]
PAIRS = {
    "value": ("value", "return"),
    "action": ("action", "kl"),
    "later": ("return", "value"),
}
"""Functions that maps explain, and the effects that they are scored against, their own first. later: the
value some steps later in the simulator.
"""
LATER_METHODS = ("gradient", "gradient_norm", "gradient_x_input")
"""Methods for the later value, where each evaluation is a rollout."""
SIGNED = tuple(name for name, method in METHODS.items() if method.signed)


class States(NamedTuple):
    """What maps of n states are made from: frames [n, H, W, C] uint8, hidden [n, D] and action class [n]."""

    frames: np.ndarray
    hidden: torch.Tensor
    taken: torch.Tensor
    effect_classes: np.ndarray


def states_of(benchmark: Benchmark, frames: np.ndarray | None = None) -> States:
    """The benchmark's states, with other frames if given."""
    classes = np.asarray(benchmark.about["effect_classes"])
    taken = np.unique(classes, return_inverse=True)[1][benchmark.action]
    frames = benchmark.frames if frames is None else frames
    return States(frames, torch.from_numpy(benchmark.hidden), torch.from_numpy(taken), classes)


def agent_maps(
    agent: ActorCritic, states: States, config: MethodConfig, batch_size: int, desc: str
) -> Arrays:
    """Maps {function/method: [n, H, W] float16} of the agent that sees the frames."""

    def maps(rows: slice, frames: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        hidden, taken = states.hidden[rows], states.taken[rows]
        log_probs = agent_log_probs(agent, hidden, states.effect_classes)
        functions = {"value": agent_value(agent, hidden), "action": chosen(log_probs, taken)}
        for function, compute in functions.items():
            for name, method in METHODS.items():
                if name != "blur":
                    yield f"{function}/{name}", method.compute(compute, frames, config)
        outputs = agent_outputs(agent, hidden, states.effect_classes)
        original, blurred = blurred_outputs(outputs, frames, config)
        yield "value/blur", blur_map(original[..., 0], blurred[..., 0], frames, config)
        log_probs = original[..., 1:], blurred[..., 1:]
        of_action = [x.gather(-1, taken.expand(x.shape[:-1])[..., None])[..., 0] for x in log_probs]
        yield "action/blur", blur_map(*of_action, frames, config)
        yield "action/sarfa", sarfa_map(*log_probs, taken, frames, config)

    return _in_batches(states.frames, maps, batch_size, desc)


def later_maps(
    simulator: Simulator,
    frames: np.ndarray,
    hidden: torch.Tensor,
    keys: list[NoiseKeys],
    steps: int,
    config: MethodConfig,
    batch_size: int,
) -> Arrays:
    """Maps {later/method: [n, H, W] float16} of the value `steps` steps after real frames [K, n, H, W, C] in
    the simulator; keys: of n samples, for each noise draw.
    """

    def maps(rows: slice, shown: torch.Tensor) -> Iterator[tuple[str, torch.Tensor]]:
        earlier = torch.from_numpy(frames[:-1, rows]).float() / 255
        draws = [NoiseKeys(one.seed, one.stream[rows], one.repeat[rows], one.step[rows]) for one in keys]
        value = later_value(simulator, earlier, hidden[rows], draws, steps)
        for name in LATER_METHODS:
            yield f"later/{name}", METHODS[name].compute(value, shown, config)

    return _in_batches(frames[-1], maps, batch_size, "maps, later value")


def _in_batches(
    frames: np.ndarray, maps: Callable[[slice, torch.Tensor], Iterator], batch_size: int, desc: str
) -> Arrays:
    """Maps of all frames, each divided by its largest absolute value: scores depend on ratios alone."""
    parts: dict[str, list[np.ndarray]] = {}
    for at in progress_bar(range(0, len(frames), batch_size), unit="batch", desc=desc):
        rows = slice(at, min(at + batch_size, len(frames)))
        for name, found in maps(rows, torch.from_numpy(frames[rows]).float() / 255):
            largest = found.abs().amax((1, 2), keepdim=True).clamp(min=1e-30)
            parts.setdefault(name, []).append((found / largest).numpy().astype(np.float16))
    return {name: np.concatenate(found) for name, found in parts.items()}


def randomised_similarity(
    agent: ActorCritic, states: States, original: Arrays, config: MethodConfig, batch_size: int
) -> tuple[list[str], Arrays]:
    """Layers from the heads down, and {function/method: [layers, n]}: correlation of the original map with
    that of the agent whose layers down to this one have fresh weights.
    """
    layers, similar = [], {}
    for layer, other in cascading_randomisation(agent, config.seed):
        layers.append(layer)
        for name, maps in agent_maps(other, states, config, batch_size, f"maps, fresh {layer}").items():
            similar.setdefault(name, []).append(map_similarity(original[name], maps))
    return layers, {name: np.stack(rows) for name, rows in similar.items()}


def completeness_gaps(agent: ActorCritic, states: States, config: MethodConfig, batch_size: int) -> Arrays:
    """{method: [n, 2]}: completeness gap of integrated gradients of the value, and change of the value from
    the baseline.
    """
    gaps: dict[str, list[np.ndarray]] = {}
    for at in range(0, len(states.frames), batch_size):
        rows = slice(at, at + batch_size)
        frames = torch.from_numpy(states.frames[rows]).float() / 255
        value = agent_value(agent, states.hidden[rows])
        fills = {
            "integrated_gradients": torch.zeros_like(frames),
            "integrated_gradients_blur": gaussian_blur(frames, config.blur_std),
        }
        for name, fill in fills.items():
            gap = torch.stack(_gap_and_change(value, frames, fill, config.ig_steps), 1)
            gaps.setdefault(name, []).append(gap.numpy())
    return {name: np.concatenate(parts) for name, parts in gaps.items()}


def _gap_and_change(value: FrameFunction, frames, fill, steps: int) -> tuple[torch.Tensor, torch.Tensor]:
    """[B] each."""
    sample = torch.arange(len(frames))
    with torch.no_grad():
        change = value(frames, sample) - value(fill, sample)
    return path_integral(value, frames, fill, steps)[1], change


def box_fill_effects(agent: ActorCritic, benchmark: Benchmark) -> Arrays:
    """Effects [m] on `value` and `action` of painting each object's box in the frame's mean colour."""
    states = states_of(benchmark)
    frames = torch.from_numpy(benchmark.frames).float() / 255
    painted_frames = frames[benchmark.state].clone()
    fill = frames.mean((1, 2))[benchmark.state]
    for frame, (top, left, bottom, right), colour in zip(painted_frames, benchmark.box, fill):
        frame[top:bottom, left:right] = colour
    state = torch.from_numpy(benchmark.state)
    log_probs = agent_log_probs(agent, states.hidden, states.effect_classes)
    functions = {"value": agent_value(agent, states.hidden), "action": chosen(log_probs, states.taken)}
    with torch.no_grad():
        everyone = torch.arange(len(frames))
        return {
            name: (function(frames, everyone)[state] - function(painted_frames, state)).numpy()
            for name, function in functions.items()
        }


def leaderboard(benchmark: Benchmark, maps: Arrays, untrained: Arrays) -> dict[str, dict[str, dict]]:
    """{function/effect: {method: scores}} of maps {function/method: [n, H, W]}, with `above_untrained`:
    spearman minus that of the untrained agent's map, if there is one.
    """
    table: dict[str, dict[str, dict]] = {}
    for name, some in maps.items():
        function, method = name.split("/")
        for effect in PAIRS[function]:
            statistics, n = benchmark.statistics(some.astype(np.float32), effect, method in SIGNED)
            if name in untrained:
                theirs = benchmark.statistics(untrained[name].astype(np.float32), effect)[0]
                statistics["above_untrained"] = statistics["spearman"] - theirs["spearman"]
            scores = {
                key: json_estimate(x, n.get(key, n["spearman"]), benchmark.layouts)
                for key, x in statistics.items()
            }
            table.setdefault(f"{function}/{effect}", {})[method] = scores
    return table


def control_scores(benchmark: Benchmark, fills: Arrays) -> dict[str, dict[str, dict]]:
    """{effect: {control: scores}}: centre prior, edges, the effects themselves, and filling the boxes."""
    table = {}
    for effect, values in benchmark.effects.items():
        maps = benchmark.control_maps | {"effects_painted": painted(benchmark, values)}
        if effect in fills:
            maps["box_fill"] = painted(benchmark, fills[effect])
        table[effect] = {name: benchmark.score(some, effect) for name, some in maps.items()}
    return table


def ranks_by_kind(benchmark: Benchmark, maps: Arrays, function: str, effect: str) -> dict[str, dict]:
    """By kind: number of objects and states, mean size of the effect, and mean place of effect and mass among
    the objects of a state, from 0 (least) to 1 (most).
    """
    place = {"effect": np.abs(benchmark.effects[effect])}
    for name, some in maps.items():
        if name.startswith(f"{function}/"):
            mass = box_mass(np.abs(some.astype(np.float32)), benchmark.state, benchmark.box)
            place[name.split("/")[1]] = mass
    place = {name: within_ranks(values, benchmark.state) + 0.5 for name, values in place.items()}
    found = {}
    for index, kind in enumerate(benchmark.about["kinds"]):
        rows = benchmark.kind == index
        if rows.any():
            layout = benchmark.layout[benchmark.state[rows]]
            weights, layouts = level_weights(layout), len(np.unique(layout))
            found[kind] = {
                "objects": int(rows.sum()),
                "states": len(np.unique(benchmark.state[rows])),
                "effect": float(np.abs(benchmark.effects[effect][rows]).mean()),
                "place": {
                    name: json_estimate(mean(weights, values[rows]), rows.sum(), layouts)
                    for name, values in place.items()
                },
            }
    return found


def similarity_rows(layers: list[str], similar: Arrays, layout: np.ndarray) -> dict[str, list[dict]]:
    """{function/method: [{layer, value, low, high, n}]} of correlations {function/method: [layers, n]}."""
    weights, layouts = level_weights(layout), len(np.unique(layout))
    return {
        name: [
            {"layer": layer} | json_estimate(mean(weights, np.nan_to_num(row)), len(row), layouts)
            for layer, row in zip(layers, rows)
        ]
        for name, rows in similar.items()
    }


def gap_summary(gaps: Arrays) -> dict[str, dict]:
    """Each method's completeness gap relative to the change of the value: the mean size of both divided, and
    the median over states.
    """
    sizes = {name: np.abs(both) for name, both in gaps.items()}
    return {
        name: {
            "share": json_number(gap.mean() / change.mean()),
            "median": json_number(np.median(gap / np.maximum(change, 1e-9))),
        }
        for name, (gap, change) in ((name, both.T) for name, both in sizes.items())
    }
