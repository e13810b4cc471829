"""Reads the tensors of a foreign file without executing anything, and names what is no state dict."""

import pickle
import warnings
import zipfile
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open

from common.checkpoints import BadCheckpoint


def read_state_dict(path: Path, key: str = "") -> dict[str, torch.Tensor]:
    """The tensors of a file. Raises BadCheckpoint if it is damaged, holds code, or holds no state dict."""
    held = _read(Path(path))
    within = held if isinstance(held, dict) else {}
    usual = ("model_state_dict", "state_dict", "model", "agent")
    found = within.get(key) if key else next((within[name] for name in usual if name in within), held)
    if _is_state_dict(found):
        return found
    entries = [name for name, value in within.items() if _is_state_dict(value)]
    remedy = (
        f"name the entry that does with --key: {', '.join(entries)}"
        if entries
        else "save model.state_dict() with torch.save and convert that"
    )
    raise BadCheckpoint(f"{path} holds no state dict{f' under {key!r}' if key else ''}; {remedy}")


def unwrapped(tensors: dict[str, torch.Tensor]) -> dict[str, torch.Tensor]:
    """Removes prefixes of data parallelism (`module.`, if all have it) and torch.compile (`_orig_mod.`)."""
    names = {name: name.replace("_orig_mod.", "") for name in tensors}
    while names and all(name.startswith("module.") for name in names.values()):
        names = {name: short.removeprefix("module.") for name, short in names.items()}
    return (
        {names[name]: tensor for name, tensor in tensors.items()}
        if len(set(names.values())) == len(names)
        else tensors
    )


def check_plain(name: str, tensor: torch.Tensor) -> None:
    """Raises BadCheckpoint for a tensor that is not a dense, contiguous one of real numbers."""
    kinds = {
        "sparse": tensor.layout != torch.strided,
        "quantised": tensor.is_quantized,
        "complex": tensor.is_complex(),
        "without data": tensor.is_meta,
    }
    kind = next((kind for kind, here in kinds.items() if here), None)
    if kind is None and tensor.numel() * tensor.element_size() > tensor.untyped_storage().nbytes():
        kind = f"expanded: its shape {tuple(tensor.shape)} holds more numbers than the file"
    if kind:
        raise BadCheckpoint(
            f"the source's {name} is {kind}; save dense floating-point weights: tensor.to_dense(),"
            " .dequantize(), .contiguous()"
        )


def _is_state_dict(held) -> bool:
    return (
        isinstance(held, dict)
        and bool(held)
        and all(isinstance(name, str) and torch.is_tensor(value) for name, value in held.items())
    )


def _read(path: Path):
    """Content of the file, read without executing anything."""
    kind = _kind(path)
    if kind == "safetensors":
        return _read_safetensors(path)
    if not kind:
        raise BadCheckpoint(
            f"{path} is no file of PyTorch's (nor safetensors): give one that"
            " torch.save(model.state_dict(), ...) wrote"
        )
    if kind == "archive":
        _check_archive(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of what is refused below in any case
            return torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        remedy = "save model.state_dict() alone with torch.save and convert that"
        raise BadCheckpoint(
            f"{path} is refused: it holds more than tensors, and loading that could execute code; {remedy}"
        ) from error
    except Exception as error:  # damaged bytes fail anywhere in the reader, with any exception
        raise _not_whole(path, "PyTorch") from error


def _kind(path: Path) -> str:
    """Kind of a file by its first bytes: archive (torch.save since PyTorch 1.6), pickle (before),
    safetensors, or empty.
    """
    if not path.is_file():
        raise BadCheckpoint(f"no file at {path}; give --source the file to convert")
    with open(path, "rb") as file:
        start = file.read(9)
    kinds = {
        "archive": start.startswith(b"PK"),
        "pickle": start.startswith(b"\x80"),
        "safetensors": start[8:] == b"{",
    }
    return next((kind for kind, here in kinds.items() if here), "")


def _check_archive(path: Path) -> None:
    """Raises BadCheckpoint for a foreign archive, and for bytes that do not match their checksum (torch.load
    would accept them).
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = {Path(name).name for name in archive.namelist()}
            damaged = archive.testzip()
    except (
        Exception
    ) as error:  # also NotImplementedError of an unknown zip version, OSError of an offset before the file
        raise _not_whole(path, "PyTorch") from error
    if damaged:
        raise BadCheckpoint(
            f"{path} is damaged: {damaged} in it does not match its checksum; take another copy"
        )
    if "data.pkl" not in names:
        raise BadCheckpoint(
            f"{path} is an archive, but not one of torch.save: give one that"
            " torch.save(model.state_dict(), ...) wrote"
        )
    if "constants.pkl" in names:
        raise BadCheckpoint(
            f"{path} is a TorchScript program, which is code: save its state_dict() with torch.save"
            " and convert that"
        )


def _read_safetensors(path: Path) -> dict[str, torch.Tensor]:
    try:
        with safe_open(path, framework="pt") as file:
            if "worldlens" in (file.metadata() or {}):
                raise BadCheckpoint(
                    f"{path} is a file of this project already: an agent needs no conversion, give"
                    " it to --agent_file as it is"
                )
            return {name: file.get_tensor(name) for name in file.keys()}
    except (SafetensorError, OSError) as error:
        raise _not_whole(path, "safetensors") from error


def _not_whole(path: Path, kind: str) -> BadCheckpoint:
    return BadCheckpoint(f"{path} is not a whole {kind} file: truncated or damaged; take another copy")
