"""Checkpoints: one safetensors file with a JSON description in its header."""

import errno
import glob
import hashlib
import json
import logging
import os
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import save as serialize

from common.descriptions import described, parse_json, read_json
from common.errors import BadCheckpoint
from common.integrity import SLACK, at_most, check_finite, checksum
from common.locks import remove_abandoned, try_lock

_ENTRY = "worldlens"
"""Header entry with checksum and description (safetensors does not keep the order of several).

Files from before checksums have the description alone, which begins with a brace.
"""


def write_atomically(path: Path, write: Callable[[Path], None]) -> None:
    """Calls `write(temporary)` and moves the result into place, so that `path` is complete or unchanged.

    Deletes temporary files that killed processes left for the same path.
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
    """Creates a file next to `path` and locks it, which marks it as in use; returns descriptor and path."""
    while True:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".part")
        # else another process, which takes it for abandoned, is just removing it
        if try_lock(handle) and os.path.exists(name):
            return handle, Path(name)
        os.close(handle)


def check_writable(path: Path) -> None:
    """Raises the OSError that writing `path` would raise, before long work. Creates its directory."""
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
    """Writes named tensors and a JSON-able description to one file with a checksum of both, atomically."""
    whole = _apart(tensors)
    description = json.dumps(meta)
    data = serialize(whole, metadata={_ENTRY: f"{checksum(whole, description)} {description}"})
    write_atomically(path, lambda temporary: temporary.write_bytes(data))


def _apart(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Contiguous CPU copies of tensors that share no memory."""
    apart = {}
    taken = set()
    for name, tensor in tensors.items():
        tensor = tensor.detach().cpu().contiguous()
        memory = tensor.untyped_storage().data_ptr()
        apart[name] = tensor.clone() if memory in taken else tensor
        taken.add(memory)
    return apart


def load_checkpoint(path: Path) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads a file of `save_checkpoint`. Raises BadCheckpoint if it is missing, truncated, damaged or
    foreign.
    """
    path = Path(path)
    if path.is_dir() or not path.exists():
        raise BadCheckpoint(f"no checkpoint file at {path}")
    if path.suffix in (".pth", ".pt"):
        raise BadCheckpoint(
            f"{path} is a PyTorch pickle, which can execute code; turn it into safetensors with:"
            " python -m agents.convert --help"
        )
    try:
        with safe_open(path, framework="pt") as file:
            header = (file.metadata() or {}).get(_ENTRY)
            tensors = {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise BadCheckpoint(
            f"{path} is not a whole safetensors file ({error}); it may be truncated: take another checkpoint"
        ) from error
    if header is None:
        raise BadCheckpoint(
            f"{path} was not written by Worldlens: it lacks the description that says what it holds"
        )
    stated, description = ("", header) if header.startswith("{") else header.partition(" ")[::2]
    whole = stated == checksum(tensors, description) if stated else _published(path)
    if whole is None:
        logging.warning(
            "%s is from before there were checksums: damage to its numbers would not be seen", path
        )
    elif not whole:
        raise BadCheckpoint(f"{path} is damaged: it does not match its checksum; take another checkpoint")
    return tensors, parse_json(
        description, f"the description in {path}", "take another checkpoint", BadCheckpoint
    )


def _published(path: Path) -> bool | None:
    """Whether a file without checksum has the id stated in a provenance.json next to or above it; None if
    none states one.
    """
    for home in (path.parent, path.parent.parent):
        record = home / "provenance.json"
        if record.exists():
            said = read_json(record, "restore it")
            named = (
                said["ids"] if isinstance(said.get("ids"), dict) else {"model.safetensors": said.get("id")}
            )
            stated = named.get(path.relative_to(home).as_posix())
            return None if stated is None else stated == hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    return None


def build(
    make: Callable[[], torch.nn.Module], tensors: dict[str, torch.Tensor], source: object
) -> torch.nn.Module:
    """Builds the network that a checkpoint describes, without loading its tensors.

    Args:
        make: builds the network.
        tensors: the checkpoint's tensors, which limit the network's size.
        source: named in errors.

    Raises:
        BadCheckpoint: the description is invalid, or of a network much larger than the tensors.
    """
    try:
        with at_most(sum(tensor.numel() for tensor in tensors.values()) + SLACK):
            return make()
    except (KeyError, TypeError, ValueError, RuntimeError, ArithmeticError) as error:
        reason = " ".join(str(error).split())
        raise BadCheckpoint(
            f"{source} describes a network that this version does not know ({reason}); take another"
            " checkpoint"
        ) from error


def load_training_state(path: Path, kind: str) -> tuple[dict[str, torch.Tensor], dict]:
    """Reads the state that a run resumes from. Raises BadCheckpoint, with the options left, if it is damaged
    or of another kind.
    """
    with resuming(path):
        tensors, meta = load_checkpoint(path)
        if meta.get("kind") != kind:
            raise BadCheckpoint(f"it holds {described(meta.get('kind', 'something unnamed'))}")
        return tensors, meta


@contextmanager
def resuming(path: Path) -> Iterator[None]:
    """Turns errors in a training state into BadCheckpoint with the options left."""
    try:
        yield
    except (BadCheckpoint, KeyError, TypeError, ValueError, AttributeError, RuntimeError) as error:
        lacks = f"it lacks {error}" if isinstance(error, KeyError) else " ".join(str(error).split())
        raise lost_state(path, lacks.removeprefix(f"{path} is damaged: ")) from error


def lost_state(path: Path, reason: object) -> BadCheckpoint:
    """The error for an unusable training state: restart from the run's last model file, or from the
    beginning.
    """
    last = last_model(path.parent)
    from_last = f"begin a new run from its last checkpoint with --agent_file {last}, or " if last else ""
    return BadCheckpoint(
        f"{path} is damaged ({reason}), so this run cannot be resumed: {from_last}delete"
        f" {path.name} to begin this run again"
    )


def last_model(directory: Path) -> Path | None:
    """The run's model file with the highest number, or None."""
    models = [file for file in directory.glob("model_*.safetensors") if file.stem[6:].isdecimal()]
    return max(models, key=lambda file: int(file.stem[6:]), default=None)


def load_module(module: torch.nn.Module, tensors: dict[str, torch.Tensor], source: str) -> None:
    """Loads tensors into a module of exactly these names and shapes.

    Raises:
        BadCheckpoint: a tensor differs in name, shape or type, or is not finite.
    """
    expected = module.state_dict()
    for name in sorted(expected.keys() | tensors.keys()):
        found = tuple(tensors[name].shape) if name in tensors else "missing"
        wanted = tuple(expected[name].shape) if name in expected else "absent"
        if found == wanted and expected[name].is_floating_point() != tensors[name].is_floating_point():
            found = tensors[name].dtype
            wanted = expected[name].dtype
        if found != wanted:
            difference = f"{name} is {found} in the file and {wanted} in the network"
            remedy = "take another checkpoint, or the settings that this one was made with"
            raise BadCheckpoint(f"{source} is of another architecture: {difference}; {remedy}")
    check_finite(tensors, source)
    module.load_state_dict(tensors)


def with_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Renames tensors to prefix/name."""
    return {f"{prefix}/{name}": tensor for name, tensor in tensors.items()}


def without_prefix(prefix: str, tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Selects the tensors named prefix/..., without the prefix."""
    return {
        name[len(prefix) + 1 :]: tensor for name, tensor in tensors.items() if name.startswith(prefix + "/")
    }


def optimizer_tensors(optimizer: torch.optim.Optimizer) -> dict[str, torch.Tensor]:
    """Flattens an optimiser's per-parameter state to tensors `index/name`."""
    state = optimizer.state_dict()["state"]
    return {
        f"{i}/{name}": torch.as_tensor(value) for i, entry in state.items() for name, value in entry.items()
    }


def load_optimizer(optimizer: torch.optim.Optimizer, tensors: dict[str, torch.Tensor]) -> None:
    """Restores the result of `optimizer_tensors`; hyper-parameters are unchanged. Raises BadCheckpoint if a
    tensor is not finite or does not fit.
    """
    check_finite(tensors, "the optimiser's state")
    state: dict[int, dict[str, torch.Tensor]] = {}
    for key, value in tensors.items():
        index, name = key.split("/", 1)
        state.setdefault(int(index), {})[name] = value
    optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
    for (
        parameter,
        entry,
    ) in optimizer.state.items():  # a fused optimiser needs the memory layout of the weights
        entry |= {
            name: torch.empty_like(parameter).copy_(x)
            for name, x in entry.items()
            if x.shape == parameter.shape
        }
