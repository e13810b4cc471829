"""Effect of one standard deviation along each direction on the agent's value and action log odds.

The heads are linear in the hidden state, so the effect is exact. Reads the agent and the directions that
analysis/hidden_analysis_precompute.py fit.
"""

import logging
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    agent_file: Path
    """The agent."""
    method: str | None = None
    """Method of the directions: pca, ica, nmf or dictionary; default: ica or, if it was not fit, pca."""
    num_directions: int = 24
    """Number of directions drawn: those with the largest effect."""
    precomp_dir: Path | None = None
    """Directory written by the precompute step; default: the latest in <out_dir>/hx_analysis_precomp."""
    out_dir: Path = Path("results")
    """Directory that holds hx_analysis_precomp and receives plot_act_and_val_weights_plots."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import numpy as np
import torch

from agents.actor_critic import ActorCritic, load_agent
from analysis.io.steps import find_step, read_numbers, read_part
from analysis.maps.hidden_state_figures import NAMES
from analysis.maps.map_summary import COMMAND, STEP, VERSION, choose_method
from analysis.plotting.style import add_caption, new_figure, save_figure
from common.checkpoints import write_json
from common.runs import UsageError, file_id
from envs.vecenv import ActionSpace
from generative.action_space import action_space_of
from interpret.directions.directions import Directions, load_directions
from interpret.directions.stability import labels


def main(args: Args) -> None:
    if args.num_directions < 1:
        raise UsageError(f"--num_directions is {args.num_directions}: give 1 or more")
    directory = find_step(args.out_dir, STEP, VERSION, COMMAND, args.precomp_dir)
    numbers = read_numbers(directory)
    method = choose_method(directory, args.method)
    agent, meta = load_agent(args.agent_file)
    if file_id(args.agent_file) not in numbers["stores"]["agents"]:
        raise UsageError(
            f"the directions are of agent {', '.join(numbers['stores']['agents'])} and {args.agent_file} is "
            f"{file_id(args.agent_file)}: give the agent that was recorded"
        )
    directions = load_directions(directory / f"{method}.safetensors")
    spread = read_part(directory, "spread")[method]
    policy, value = head_weights(agent)
    actions = action_space_of(meta | {"action_names": numbers["actions"], "noop": numbers["noop"]})
    rows = {"value": value} | action_rows(policy, actions)
    effects = direction_effects(torch.cat(list(rows.values())), directions, spread)
    path = args.out_dir / "plot_act_and_val_weights_plots" / directory.name / f"act_and_val_weights_{method}"
    names = list(rows)
    write_json(
        path.with_suffix(".json"),
        {"rows": names, "directions": list(directions.names), "effects": effects.tolist()},
    )
    print(draw(effects, names, directions, args.num_directions, numbers, path))


def head_weights(agent: ActorCritic) -> tuple[torch.Tensor, torch.Tensor]:
    """Weights of the logits [A, D] and of the value [1, D] on the hidden state."""
    width = agent.core.state_size
    with torch.no_grad():
        (logits, value), (logits_at_zero, value_at_zero) = (
            agent.heads(torch.eye(width)),
            agent.heads(torch.zeros(1, width)),
        )
    return (logits - logits_at_zero).T.double(), (value - value_at_zero)[None].double()


def action_rows(weight: torch.Tensor, actions: ActionSpace) -> dict[str, torch.Tensor]:
    """The policy head's weights [A, D] by effect class: {name: [1, D]}.

    Each row is the mean over the class minus the mean over all actions, which changes no probability.
    """
    classes = np.asarray(actions.effect_classes)
    centred = weight - weight.mean(0)
    return {
        actions.names[action]: centred[classes == action].mean(0, keepdim=True)
        for action in np.unique(classes)
    }


def direction_effects(weight: torch.Tensor, directions: Directions, spread: np.ndarray) -> np.ndarray:
    """Effect [R, K] of one standard deviation `spread` [K] of each score on the outputs of weights [R, D]."""
    return directions.score_gradients(weight).numpy() * spread


def draw(
    effects: np.ndarray, rows: list[str], directions: Directions, most: int, numbers: dict, path: Path
) -> Path:
    """Heat maps of the value and of the actions over the directions with the largest effect."""
    shown = np.sort(np.argsort(-np.linalg.norm(effects, axis=0), kind="stable")[:most])
    parts = (
        ("value (agent's units)", effects[:1, shown], rows[:1]),
        ("log odds relative to the mean action", effects[1:, shown], rows[1:]),
    )
    figure, axes = new_figure(2, 1, panel=(max(5.0, 0.36 * len(shown) + 2.2), 2.4), height_ratios=[1, 5])
    for axis, (title, part, names) in zip(axes[:, 0], parts):
        size = np.abs(part).max() or 1.0
        image = axis.imshow(part, cmap="RdBu_r", vmin=-size, vmax=size, aspect="auto")
        axis.set(title=title, yticks=range(len(names)), yticklabels=names, xticks=[])
        axis.grid(False)
        figure.colorbar(image, ax=axis, pad=0.02)
    words = labels(directions)
    axes[1, 0].set_xticks(range(len(shown)), [words[i] for i in shown], rotation=60, ha="right", fontsize=7)
    method = NAMES[directions.provenance["method"]]
    text = (
        f"Effect of one standard deviation of each direction ({method}) on the heads. Actions with the same "
        "effect are averaged."
    )
    if len(shown) < len(directions):
        text += f" The {len(shown)} of {len(directions)} directions with the largest effect."
    stores = numbers["stores"]
    add_caption(
        figure,
        text,
        f"{stores['states']} steps in {stores['episodes']} episodes",
        "{}-{}".format(*stores["levels"]),
    )
    return save_figure(figure, path)[0]


if __name__ == "__main__":
    run_main(main, ARGS)
