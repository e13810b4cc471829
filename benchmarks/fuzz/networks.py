"""Inputs for the readers of weights and directions, of descriptions in YAML and JSON, and of saved states."""

import json
import random
import shutil
from collections.abc import Callable
from pathlib import Path

import torch
import yaml

from agents.actor_critic import ActorCritic, NetworkConfig, load_agent, save_agent
from agents.convert import convert as convert_agent
from agents.convert import load_name_map
from agents.state_dicts import read_state_dict, unwrapped
from analysis.interventions.registry import read_family
from benchmarks.fuzz.guard import Reader
from benchmarks.fuzz.mutations import DEEP, DIGITS, YAML_BOMBS, change_bytes, change_value, json_text
from common.checkpoints import load_checkpoint, save_checkpoint
from common.csv_log import read_log
from common.descriptions import read_preset
from common.runs import check_finished, read_config
from decision.config import DTConfig
from decision.model import DecisionTransformer
from decision.model_file import load_dt, save_dt
from envs.make import make_env
from envs.procgen import ProcgenConfig
from envs.procgen_body import parse, serialize
from generative.model.config import WorldModelConfig
from generative.model.world_model import WorldModel
from generative.model.world_model_file import load_world_model, save_world_model
from interpret.directions.directions import Directions, load_directions, save_directions
from interpret.interventions.edit import read_edits

SHAPE = (8, 8, 3)
RESIGNED = 0.8
HYPOTHESIS = Path(__file__).parents[2] / "hypotheses" / "saw.yaml"


def readers(seeds: Path) -> list[Reader]:
    """Readers of single files; `seeds` is where sound ones are made."""
    seeds.mkdir(parents=True, exist_ok=True)
    made = [
        ("agent", "agent.safetensors", load_agent, _make_agent),
        ("world model", "model.safetensors", load_world_model, _make_model),
        ("decision transformer", "dt.safetensors", load_dt, _make_dt),
        ("directions", "directions.safetensors", load_directions, _make_directions),
    ]
    listed = []
    for name, file, read, make in made:
        make(seeds / file)
        listed.append(Reader(name, _checkpoint_input(seeds / file), _reading(file, read)))
    torch.save(_make_agent(seeds / "agent.safetensors").state_dict(), seeds / "theirs.pth")
    (seeds / "edits.json").write_text(
        json.dumps({"edits": [{"kind": "add", "directions": [0], "values": [1]}]})
    )
    (seeds / "config.json").write_text(json.dumps({"version": 1, "a": {"b": [1, 2.5, None]}}))
    (seeds / "names.json").write_text(json.dumps({"encoder": "encoder", "core": None}))
    (seeds / "progress.csv").write_text("batch,loss\n1,2.5\n2,2.25\n")
    shutil.copy(HYPOTHESIS, seeds / "saw.yaml")
    presets = {"a": {"n_envs": 4, "gamma": 0.9, "architecture": "nature"}}
    (seeds / "presets.yml").write_text(yaml.safe_dump(presets))
    listed += [
        Reader("state dict", _bytes_input(seeds / "theirs.pth"), _reading("theirs.pth", _convert)),
        Reader(
            "hypothesis", _yaml_input(seeds / "saw.yaml"), _reading("saw.yaml", lambda p: read_family([p]))
        ),
        Reader("presets", _yaml_input(seeds / "presets.yml"), _reading("presets.yml", _read_presets)),
        Reader("edits", _json_input(seeds / "edits.json"), _reading("edits.json", read_edits)),
        Reader("run", _json_input(seeds / "config.json"), _reading("config.json", _read_run)),
        Reader("name map", _json_input(seeds / "names.json"), _reading("names.json", _read_names)),
        Reader("log", _bytes_input(seeds / "progress.csv"), _reading("progress.csv", read_log)),
        Reader("state bytes", _state_input(seeds / "state"), _reading("state", _read_state)),
    ]
    return listed


def _reading(file: str, read: Callable[[Path], object]) -> Callable[[Path], object]:
    return lambda place: read(place / file)


def _make_agent(path: Path) -> ActorCritic:
    torch.manual_seed(0)
    agent = ActorCritic(NetworkConfig(3, SHAPE, feature_size=4, hidden_size=4))
    save_agent(path, agent, {"env": {"env_name": "coinrun"}, "action_names": list("abc")})
    return agent


def _make_model(path: Path) -> None:
    sizes = {"latent_global": 4, "latent_tile": 1, "vector_size": 8, "code_size": 4, "pose_size": 2}
    sizes |= {"texels": 4, "canvas_tiles": 12, "classes": 4, "units": 8, "depth": 4, "sprite_pixels": 4}
    config = WorldModelConfig(num_actions=3, obs_shape=SHAPE, hidden_size=4, tile_pixels=2, **sizes)
    meta = {"agent": {"id": "0"}, "noop": 0, "action_names": list("abc"), "env": {"env_name": "coinrun"}}
    save_world_model(path, WorldModel(config), meta)


def _make_dt(path: Path) -> None:
    config = DTConfig(
        num_actions=3, obs_shape=SHAPE, state_embedding="patches", d_model=8, n_layers=1, n_heads=2, d_mlp=8
    )
    save_dt(path, DecisionTransformer(config), {"action_names": list("abc"), "seed": 0})


def _make_directions(path: Path) -> None:
    eye = torch.eye(3, 4)
    zeros = torch.zeros(3)
    fit = {"method": "pca", "agent": "0"}
    save_directions(path, Directions(eye, zeros, eye.T.contiguous(), torch.zeros(4), tuple("abc"), fit))


def _place(place: Path, source: Path, data: bytes) -> None:
    place.mkdir(parents=True, exist_ok=True)
    (place / source.name).write_bytes(data)


def _bytes_input(source: Path):
    def make(place: Path, draw: random.Random) -> bool:
        _place(place, source, change_bytes(source.read_bytes(), draw))
        return False

    return make


def _checkpoint_input(source: Path):
    """Changed bytes; or, with a checksum that holds, a changed description or tensor."""

    def make(place: Path, draw: random.Random) -> bool:
        if draw.random() > RESIGNED:
            return _bytes_input(source)(place, draw)
        tensors, meta = load_checkpoint(source)
        if draw.random() < 0.7:
            meta = change_value(meta, draw)
        else:
            name = draw.choice(sorted(tensors))
            tensors[name] = _other_tensor(tensors[name], draw)
        _place(place, source, b"")
        description = _plain(meta)
        save_checkpoint(place / source.name, tensors, description)
        return False

    return make


def _plain(meta):
    """A description without what json.dumps cannot write."""
    return json.loads(json.dumps(meta).replace(DEEP, "x").replace(DIGITS, "y"))


def _other_tensor(tensor: torch.Tensor, draw: random.Random) -> torch.Tensor:
    kinds = (
        lambda: tensor.double(),
        lambda: tensor.long(),
        lambda: tensor[:-1] if tensor.ndim else tensor,
        lambda: torch.full_like(tensor, float("nan")) if tensor.is_floating_point() else tensor,
        lambda: tensor.reshape(-1),
        lambda: torch.zeros(0),
        lambda: tensor.bool(),
    )
    return draw.choice(kinds)()


def _json_input(source: Path):
    def make(place: Path, draw: random.Random) -> bool:
        whole = source.read_bytes()
        changed = json_text(change_value(json.loads(whole), draw)).encode()
        _place(place, source, change_bytes(whole, draw) if draw.random() < 0.3 else changed)
        return False

    return make


def _yaml_input(source: Path):
    def make(place: Path, draw: random.Random) -> bool:
        whole = source.read_text()
        kind = draw.random()
        if kind < 0.3:
            data = change_bytes(whole.encode(), draw)
        elif kind < 0.4:
            data = (draw.choice(YAML_BOMBS) + draw.choice(("", whole))).encode()
        else:
            data = json_text(change_value(yaml.safe_load(whole), draw)).encode()  # JSON is YAML
        _place(place, source, data)
        return False

    return make


def _state_input(source: Path):
    """Bytes of a saved state of CoinRun; the reader is the parser, which guards the game."""
    env = make_env(1, ProcgenConfig("coinrun"), 0, 1)
    source.write_bytes(env.snapshot()[0].data)
    env.close()
    return _bytes_input(source)


def _convert(path: Path) -> None:
    tensors = unwrapped(read_state_dict(path))
    convert_agent(tensors, load_name_map("auto", tensors), SHAPE)


def _read_presets(path: Path) -> None:
    read_preset(path, "a", {"n_envs", "gamma", "architecture"})


def _read_run(path: Path) -> None:
    check_finished(path.parent)
    read_config(path.parent)


def _read_names(path: Path) -> None:
    load_name_map(str(path), {})


def _read_state(path: Path) -> None:
    data = path.read_bytes()
    serialize(parse(data))
