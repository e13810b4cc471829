"""Converts a state dict (.pth, .pt, .safetensors) of an IMPALA agent trained elsewhere.

    python -m agents.convert --source their.pth --target agent.safetensors

Nothing in the source is executed: it is read with weights_only=True, and a pickle with more than tensors is
refused.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from common.cli import parse, run_main
from common.shared_flags import LogLevel, PrecisionName


@dataclass
class Args:
    source: Path
    """State dict to read: .pth, .pt or .safetensors."""
    target: Path
    """Agent file to write: .safetensors."""
    name_map: str = "auto"
    """auto, train-procgen-pytorch, cleanrl, worldlens (already converted), or a JSON or YAML file {their name
    or prefix: ours, or null to omit}.
    """
    key: str = ""
    """Key of the state dict in the file; the usual ones are found automatically."""
    obs_shape: tuple[int, int, int] = (64, 64, 3)
    """Height, width and channels of the agent's frames."""
    precision: PrecisionName = "fp32"
    env_name: str = "coinrun"
    """Game that the agent was trained on; evaluation and recording use it and the options below by default.
    """
    start_level: int = 0
    """Seed of the first training level."""
    num_levels: int = 0
    """Number of training levels; 0 means all."""
    distribution_mode: str = "easy"
    """easy, hard, extreme, memory or exploration."""
    use_backgrounds: bool = False
    """Whether training used background images."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import torch

from agents.actor_critic import ActorCritic, NetworkConfig, save_agent
from agents.state_dicts import check_plain, read_state_dict, unwrapped
from common.checkpoints import load_module
from common.descriptions import fits, read_json, read_yaml
from common.integrity import SLACK, at_most
from common.runs import UsageError, file_id
from envs.procgen import ProcgenConfig, action_space

NameMap = Mapping[str, str | None]
"""{their name, or its beginning up to a dot: ours}; None omits the tensor. The longest match counts."""


def _impala_names(stage: str, blocks: tuple[str, str], convs: tuple[str, str], first: int) -> dict[str, str]:
    """Name map of three IMPALA stages named stage.format(first), stage.format(first + 1), ..."""
    names = {}
    for i in range(3):
        theirs = stage.format(first + i)
        ours = f"encoder.stages.{i}"
        names[f"{theirs}.conv"] = f"{ours}.conv"
        for b, block in enumerate(blocks, 1):
            names |= {
                f"{theirs}.{block}.{conv}": f"{ours}.block{b}.conv{c}" for c, conv in enumerate(convs, 1)
            }
    return names


NAME_MAPS: dict[str, NameMap] = {
    "train-procgen-pytorch": _impala_names("embedder.block{}", ("res1", "res2"), ("conv1", "conv2"), 1)
    | {"embedder.fc": "encoder.out", "fc_policy": "policy_head", "fc_value": "value_head"}
    | {f"gru.gru.{part}_l0": f"core.cell.{part}" for part in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
    | {"init_hx": None},  # it never acted after an environment's first episode: the state there is zeros
    "cleanrl": _impala_names("network.{}", ("res_block0", "res_block1"), ("conv0", "conv1"), 0)
    | {"network.5": "encoder.out", "actor": "policy_head", "critic": "value_head"},
    "worldlens": {name: name for name in ("encoder", "core", "policy_head", "value_head")},
}


def load_name_map(name: str, tensors: Mapping[str, torch.Tensor]) -> NameMap:
    """A built-in name map, the one that fits (auto), or one from a file. Raises UsageError."""
    if name in NAME_MAPS:
        return NAME_MAPS[name]
    if name == "auto":
        fitting = [names for names in NAME_MAPS.values() if not unknown_names(tensors, names)]
        if fitting:
            return fitting[0]
        closest = min((unknown_names(tensors, names) for names in NAME_MAPS.values()), key=len)
        raise UsageError(
            f"no built-in name map fits (closest leaves {', '.join(closest[:5])}); write one and"
            " give it with --name_map"
        )
    path = Path(name)
    if not path.exists():
        raise UsageError(f"no name map {name!r}: choose auto, {', '.join(NAME_MAPS)}, or a JSON or YAML file")
    names = (read_json if path.suffix == ".json" else read_yaml)(
        path, "a name map says {their name or prefix: ours, or null to leave out}"
    )
    if not fits(names, dict[str, str | None]):
        raise UsageError(f"the name map {path} must be a mapping from their names to ours (or null)")
    return names


def _match(name: str, names: NameMap) -> str | None:
    """The longest key of the map that equals `name` or its beginning up to a dot."""
    return max((key for key in names if name == key or name.startswith(key + ".")), key=len, default=None)


def unknown_names(tensors: Mapping[str, torch.Tensor], names: NameMap) -> list[str]:
    """Tensors that the map does not mention."""
    return [name for name in tensors if _match(name, names) is None]


def rename(tensors: Mapping[str, torch.Tensor], names: NameMap) -> dict[str, torch.Tensor]:
    """Renames tensors to this project's names.

    Raises:
        UsageError: the map misses a tensor, or maps two to the same name.
        BadCheckpoint: a tensor is not a plain one.
    """
    missed = unknown_names(tensors, names)
    if missed:
        raise UsageError(
            f"the name map says nothing about {', '.join(missed[:5])}; add them, with null to leave them out"
        )
    renamed = {}
    for name, tensor in tensors.items():
        key = _match(name, names)
        if names[key] is None:
            continue
        ours = names[key] + name[len(key) :]
        if ours in renamed:
            raise UsageError(f"the name map sends two tensors to {ours}")
        check_plain(name, tensor)
        renamed[ours] = tensor.float()
    return renamed


def network_of(
    tensors: Mapping[str, torch.Tensor], obs_shape: tuple[int, int, int], precision: str
) -> NetworkConfig:
    """Infers the architecture from renamed tensors. Raises UsageError if it is none of this project's."""
    for name in ("policy_head.weight", "encoder.out.weight"):
        if name not in tensors:
            raise UsageError(f"the name map yields no {name}; see the names in agents/convert.py")
        if tensors[name].ndim != 2:
            raise UsageError(
                f"{name} must have two dimensions, outputs and inputs, not the shape"
                f" {tuple(tensors[name].shape)}"
            )
    num_actions, output = tensors["policy_head.weight"].shape
    features = tensors["encoder.out.weight"].shape[0]
    recurrent = tensors.get("core.cell.weight_ih")
    core = "none" if recurrent is None else {3: "gru", 4: "lstm"}.get(len(recurrent) / output)
    if core is None:
        widths = f"{len(recurrent)} rows, and the policy head reads {output} numbers"
        raise UsageError(
            f"core.cell.weight_ih has {widths}: 3 times as many would be a GRU, 4 times an LSTM; no"
            " other core is known here"
        )
    first = {"encoder.stages.0.conv.weight": "impala", "encoder.stages.1.conv.weight": "impala-half"}
    architecture = next((kind for name, kind in first.items() if name in tensors), "nature")
    parts = {"normalize_features": "encoder.norm.weight" in tensors} | (
        {} if recurrent is None else {"hidden_size": output}
    )
    return NetworkConfig(
        num_actions, tuple(obs_shape), architecture, features, core, precision=precision, **parts
    )


def convert(
    tensors: Mapping[str, torch.Tensor],
    names: NameMap,
    obs_shape: tuple[int, int, int] = (64, 64, 3),
    precision: str = "fp32",
) -> ActorCritic:
    """Converts a state dict to an agent. Raises UsageError or BadCheckpoint, naming what does not fit."""
    renamed = rename(tensors, names)
    try:
        config = network_of(renamed, obs_shape, precision)
        with at_most(sum(tensor.numel() for tensor in renamed.values()) + SLACK):
            agent = ActorCritic(config)
    except UsageError:
        raise
    except (
        ValueError,
        RuntimeError,
        ArithmeticError,
    ) as error:  # a size or an option that no network can have
        raise UsageError(
            f"these tensors and options make no network: {str(error).splitlines()[0]}"
        ) from error
    load_module(agent, renamed, "the source")
    return agent.eval()


def main(args: Args) -> None:
    if args.target.suffix != ".safetensors":
        raise UsageError(f"--target must end in .safetensors, not {args.target.suffix!r}")
    env = ProcgenConfig(
        args.env_name, args.num_levels, args.start_level, args.distribution_mode, args.use_backgrounds
    )
    tensors = read_state_dict(args.source, args.key)
    names = load_name_map(args.name_map, unwrapped(tensors))
    # a map of one's own may name the prefixes
    if args.name_map in (*NAME_MAPS, "auto") or unknown_names(tensors, names):
        tensors = unwrapped(tensors)
    agent = convert(tensors, names, args.obs_shape, args.precision)
    left_out = [name for name in tensors if names[_match(name, names)] is None]
    origin = {"converted_from": file_id(args.source), "left_out": left_out}
    meta = {"env": vars(env), "action_names": action_space(args.env_name).names} | origin
    save_agent(args.target, agent, meta)
    logging.info(
        "wrote %s: %s%s", args.target, agent.config, f"; left out: {', '.join(left_out)}" if left_out else ""
    )


if __name__ == "__main__":
    run_main(main, ARGS)
