"""Weights and training state on disk: one safetensors file whose header also carries a JSON description."""

import errno
import glob
import json
import os
import tempfile
from collections.abc import Callable
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from common.errors import BadCheckpoint
from common.locks import remove_abandoned, try_lock


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(temporary)` and moves the result into place: `path` is either whole or as it was before.

    Temporary files that killed processes left for the same path are removed.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    remove_abandoned(path.parent.glob(f".{glob.escape(path.name)}.*.part"))
    handle, temporary = _temporary(path)
    try:
        write(temporary)
        with open(temporary, "rb") as file:
            os.fsync(file.fileno())
        os.chmod(temporary, 0o644)
        os.replace(temporary, path)
    except OSError as error:  # a failed write or fsync does not know its file
        raise OSError(error.errno, error.strerror or str(error), str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)
        os.close(handle)


def _temporary(path: Path) -> tuple[int, Path]:
    """A new file beside `path`, locked by the descriptor while that is open: it belongs to a process that lives."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        if try_lock(handle) and os.path.exists(name):  # else another process, which takes it for abandoned, is just removing it
            return handle, Path(name)
        os.close(handle)


def check_writable(path: Path) -> None:
    """Raises the OSError that writing `path` would raise: before long work rather than after it. Makes the directory it goes to."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.is_dir():
        raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), str(path))
    with tempfile.TemporaryFile(dir=path.parent):
        pass


def write_text(path: Path, text: str) -> None:
    """Writes a text file atomically."""
    write_atomically(path, lambda temporary: temporary.write_text(text))


def write_json(path: Path, value) -> None:
    """Writes a JSON file atomically, keys in the order given."""
    write_text(path, json.dumps(value, indent=2) + "\n")


def save_checkpoint(path: Path, tensors: dict[str, torch.Tensor], meta: dict) -> None:
    """Writes named tensors and a JSON-able description into one file, atomically."""
    contiguous = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    data = serialize(contiguous, metadata={"worldlens": json.dumps(meta)})
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads what `save_checkpoint` wrote. Raises BadCheckpoint for a missing, truncated or foreign file."""
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise BadCheckpoint(f"no checkpoint file at {path}")
    if path.suffix in (".pth", ".pt"):
        raise BadCheckpoint(f"{path} is a PyTorch pickle, which can execute code; turn it into safetensors with: python -m agents.convert --help")
    try:
        with safe_open(path, framework="pt") as file:
            meta = (file.metadata() or {}).get("worldlens")
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(f"{path} is not a whole safetensors file ({error}); it may be truncated: take another checkpoint") from error
    if meta is None:
        raise BadCheckpoint(f"{path} was not written by Worldlens: it lacks the description that says what it holds")
    try:
        return tensors, json.loads(meta)
    except ValueError as error:
        raise BadCheckpoint(f"{path} has a damaged description ({error}); take another checkpoint") from error


def load_training_state(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """`load_checkpoint` for the state that a run resumes from. Raises BadCheckpoint with the ways on when it is damaged."""
    try:
        return load_checkpoint(path)
    except BadCheckpoint as error:
        raise lost_state(path, "no whole file") from error


def lost_state(path: Path, reason: object) -> BadCheckpoint:
    """The error for a training state that cannot be used, with the ways on: the run's last model file, or its beginning."""
    last = last_model(path.parent)
    from_last = f"begin a new run from its last checkpoint with --model_file {last}, or " if last else ""
    return BadCheckpoint(f"{path} is damaged ({reason}), so this run cannot be resumed: {from_last}delete {path.name} to begin this run again")


def last_model(directory: Path) -> Path | None:
    """The model file of a run with the highest number, if there is one."""
    models = [file for file in directory.glob("model_*.safetensors") if file.stem[6:].isdecimal()]
    return max(models, key=lambda file: int(file.stem[6:]), default=None)


def load_module(module: torch.nn.Module, tensors: dict[str, torch.Tensor], source: str) -> None:
    """Fills a module with tensors of exactly its names and shapes. Raises BadCheckpoint naming the first difference."""
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        wanted = tuple(expected[name].shape) if name in expected else "absent"
        if found != wanted:
            difference = f"{name} is {found} in the file and {wanted} in the network"
            way_out = "take another checkpoint, or the settings that this one was made with"
            raise BadCheckpoint(f"{source} is of another architecture: {difference}; {way_out}")
    module.load_state_dict(tensors)


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The same tensors under prefix/name."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """The tensors whose name begins with prefix/, under the rest of their name."""
    return {name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + "/")}


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """An optimiser's per-parameter state as flat tensors `index/name`."""
    state = optimizer.state_dict()["state"]
    return {f"{i}/{name}": torch.as_tensor(value) for i, entry in state.items() for name, value in entry.items()}


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Puts back what `optimizer_tensors` gave; hyper-parameters stay as they are."""
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for parameter, entry in optimizer.state.items():  # a fused optimiser reads memory as it lies: as the weights', not as the file's
        entry |= {name: torch.empty_like(parameter).copy_(x) for name, x in entry.items() if x.shape == parameter.shape}
