"""Stored saliency: signed maps of 8 bits and their scale, gradients of hidden states, and the clips they are
of.

A directory holds samples.json (the facts) and one batch_<i>.safetensors per batch of samples, with arrays
[B, ...]:

- `sample`; the clip: `obs` uint8 [B, T, H, W, C], `action` [B, T], `value`, `reward`, `done` [B, T], `logits`
  [B, T, A], and `hidden` [B, T, D] after each frame;
- per function f of the S steps that can matter: `map/<f>` int8 [B, S, H, W], the gradient summed over
  channels, whose largest magnitude in the clip is 127; `scale/<f>` [B], what 127 stands for; `hx/<f>` float16
  [B, S + 1, D], the gradient of the hidden state before each frame and after the last;
- where asked for: `env/<f>` float16 [B, S, Dh], `actions/<f>` float16 [B, S, A], `latent/<f>` [B, Z], and
  `frames/<f>` [B, S, H, W, C], the gradient of the frames in full.
"""

from collections.abc import Mapping
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
import torch

from common.checkpoints import load_checkpoint, save_checkpoint, write_json
from common.descriptions import read_json
from common.runs import UsageError

FACTS = "samples.json"
KIND = "saliency"
VERSION = 1
LEVELS = 127
"""Largest magnitude of a stored map."""
COMMAND = "python saliency_exps.py"
_CLIP = ("obs", "action", "value", "reward", "done", "logits", "hidden")


def quantize(maps: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Maps [B, S, H, W] as int8 with their scale [B]: map = int8 * scale / 127."""
    scale = maps.abs().flatten(1).amax(1)
    share = maps / scale.clamp(min=torch.finfo(maps.dtype).tiny)[:, None, None, None]
    return (LEVELS * share).round().to(torch.int8), scale.float()


def encode_gradients(
    function: str, gradients: Mapping[str, torch.Tensor], keep_float: bool = False
) -> dict[str, torch.Tensor]:
    """The stored arrays of a function.

    Args:
        function: its name.
        gradients: by input, time-major: frames [S, B, H, W, C], hidden [S + 1, B, D], env_state [S, B, Dh],
            actions [S, B, A], latent [B, Z].
        keep_float: store the gradient of the frames in full, too.
    """
    arrays = {}
    if "frames" in gradients:
        frames = gradients["frames"].transpose(0, 1)
        arrays[f"map/{function}"], arrays[f"scale/{function}"] = quantize(frames.sum(-1))
        if keep_float:
            arrays[f"frames/{function}"] = frames.float()
    for name, prefix in (("hidden", "hx"), ("env_state", "env"), ("actions", "actions")):
        if name in gradients:
            arrays[f"{prefix}/{function}"] = _half(gradients[name].transpose(0, 1))
    if "latent" in gradients:
        arrays[f"latent/{function}"] = gradients["latent"].float()
    return arrays


def _half(x: torch.Tensor) -> torch.Tensor:
    largest = torch.finfo(torch.float16).max
    return x.clamp(-largest, largest).to(torch.float16)


def batch_path(directory: Path, index: int) -> Path:
    return Path(directory) / f"batch_{index}.safetensors"


def directions_path(directory: Path, kind: str) -> Path:
    """File of the directions of a kind whose functions a run has maps of."""
    return Path(directory) / f"directions_{kind}.safetensors"


def write_facts(directory: Path, facts: dict) -> None:
    """Writes samples.json. It needs `functions`, `batches` (sample numbers of each batch) and `step`; callers
    add the rest.
    """
    write_json(Path(directory) / FACTS, {"kind": KIND, "version": VERSION, **facts})


def write_batch(directory: Path, index: int, arrays: Mapping[str, torch.Tensor]) -> None:
    """Writes one batch atomically; see the module's description for the arrays."""
    save_checkpoint(batch_path(directory, index), dict(arrays), {"kind": KIND, "batch": index})


class SaliencyStore:
    """Reads a directory of saliency maps; a batch is read when one of its samples is first asked for."""

    def __init__(self, path: Path, facts: dict):
        self.path = Path(path)
        self.facts = facts
        self._place = {
            sample: (batch, row)
            for batch, samples in enumerate(facts["batches"])
            for row, sample in enumerate(samples)
        }
        self._batch = lru_cache(maxsize=2)(self._read)

    def __repr__(self) -> str:
        step = self.facts.get("step")
        return f"SaliencyStore({len(self.samples)} samples, {len(self.functions)} functions at step {step})"

    @classmethod
    def open(cls, path: Path) -> "SaliencyStore":
        """Opens a directory. Raises UsageError for anything else."""
        facts_path = Path(path) / FACTS
        if not facts_path.exists():
            raise UsageError(f"no saliency maps at {path}: {FACTS} is missing; make them with {COMMAND}")
        facts = read_json(facts_path, f"make the maps again with {COMMAND} --new")
        if facts.get("kind") != KIND or facts.get("version") != VERSION:
            raise UsageError(
                f"{facts_path} is not of {KIND} maps of version {VERSION}; make them again with {COMMAND}"
            )
        return cls(path, facts)

    @property
    def functions(self) -> tuple[str, ...]:
        """Names of the functions; <f>@<path> is a part of f's gradient."""
        return tuple(self.facts["functions"])

    @cached_property
    def samples(self) -> tuple[int, ...]:
        """Numbers of the samples, in order."""
        return tuple(self._place)

    @property
    def direction_files(self) -> tuple[Path, ...]:
        """Files of the directions that the run was given, in their order."""
        return tuple(directions_path(self.path, kind) for kind in self.facts.get("directions", {}))

    def clip(self, sample: int) -> dict[str, np.ndarray]:
        """The arrays of a sample as stored, without the batch axis: obs [T, H, W, C], action [T], value [T],
        ..., and of every function map/<f>, scale/<f>, hx/<f>, ...
        """
        batch, row = self._where(sample)
        return {name: array[row] for name, array in self._batch(batch).items()}

    def map(self, sample: int, function: str) -> np.ndarray:
        """The gradient of a function, summed over channels: float32 [S, H, W]."""
        maps = self._array(sample, "map", function).astype(np.float32)
        return maps * (self._array(sample, "scale", function) / LEVELS)

    def hidden_gradient(self, sample: int, function: str) -> np.ndarray:
        """The gradient with respect to the hidden state before each frame and after the last: float32
        [S + 1, D].
        """
        return self._array(sample, "hx", function).astype(np.float32)

    def _array(self, sample: int, prefix: str, function: str) -> np.ndarray:
        batch, row = self._where(sample)
        if function not in self.functions:
            raise UsageError(f"no function {function!r} in {self.path}; it has {', '.join(self.functions)}")
        arrays = self._batch(batch)
        if f"{prefix}/{function}" not in arrays:
            raise UsageError(
                f"{self.path} holds no {prefix} of {function}; make it with {COMMAND} --wrt frames hidden"
            )
        return arrays[f"{prefix}/{function}"][row]

    def _where(self, sample: int) -> tuple[int, int]:
        if sample not in self._place:
            raise UsageError(f"no sample {sample} in {self.path}; it has {_listed(self.samples)}")
        return self._place[sample]

    def _read(self, batch: int) -> dict[str, np.ndarray]:
        path = batch_path(self.path, batch)
        if not path.exists():
            raise UsageError(
                f"{path} is missing: the run is unfinished; the same command of saliency_exps.py resumes it"
            )
        return {name: tensor.numpy() for name, tensor in load_checkpoint(path)[0].items()}


def _listed(samples: tuple[int, ...], most: int = 20) -> str:
    shown = ", ".join(map(str, samples[:most]))
    return f"{shown}, ..." if len(samples) > most else shown
