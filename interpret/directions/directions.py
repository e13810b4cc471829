"""A set of directions: scores read from a vector, columns that write to it, and how both were fit.

Every fit returns this object; analyses, saliency and interventions take it.
"""

import hashlib
from dataclasses import dataclass, field, replace
from pathlib import Path

import torch

from common.checkpoints import BadCheckpoint, load_checkpoint, save_checkpoint
from common.descriptions import described
from common.runs import UsageError

KIND = "directions"
VERSION = 1
_TENSORS = ("read", "offset", "write", "origin")


@dataclass(frozen=True, eq=False)
class Directions:
    """K directions in a space of width D, with scores s = read x + offset (a dictionary keeps the largest
    positive ones).

    Tensors are stored in float64 and applied in the precision and on the device of their input. Jointly fit
    linear sets hold read @ write = I: writing one score leaves the others unchanged.
    """

    read: torch.Tensor
    """R [K, D]: row k reads score k (the encoder)."""
    offset: torch.Tensor
    """c [K]."""
    write: torch.Tensor
    """E [D, K]: column k is what one unit of score k adds to x (the decoder)."""
    origin: torch.Tensor
    """[D]: the reconstruction from scores of zero."""
    names: tuple[str, ...]
    provenance: dict = field(default_factory=dict)
    """JSON: method, n, groups, seed and settings of the fit; callers add store and site (`with_provenance`).
    """
    top: int | None = None
    """None if linear; otherwise the number of largest positive scores that are kept (a TopK dictionary)."""

    def __post_init__(self):
        for name in _TENSORS:
            object.__setattr__(self, name, torch.as_tensor(getattr(self, name)).detach().to(torch.float64))
        object.__setattr__(self, "names", tuple(self.names))
        count, width = self.read.shape
        shapes = {"offset": (count,), "write": (width, count), "origin": (width,)}
        for name, shape in shapes.items():
            if tuple(getattr(self, name).shape) != shape:
                raise ValueError(
                    f"{count} directions of width {width} need {name} of shape {shape}, "
                    f"not {tuple(getattr(self, name).shape)}"
                )
        if len(self.names) != count or len(set(self.names)) != count:
            raise ValueError(f"{count} directions need as many different names, not {self.names}")
        if not all(torch.isfinite(getattr(self, name)).all() for name in _TENSORS):
            raise ValueError(
                f"directions by {self.provenance.get('method', 'an unnamed method')} are not finite"
            )

    def __repr__(self) -> str:
        method = self.provenance.get("method", "unnamed method")
        kind = "linear" if self.linear else f"top {self.top}"
        shown = ", ".join(self.names[:4]) + (", ..." if len(self) > 4 else "")
        return f"Directions({len(self)} of width {self.width} by {method}, {kind}: {shown})"

    def __len__(self) -> int:
        return len(self.names)

    @property
    def width(self) -> int:
        return self.read.shape[1]

    @property
    def linear(self) -> bool:
        return self.top is None

    @property
    def id(self) -> str:
        """Short hash of the tensors and names, without the provenance."""
        digest = hashlib.sha256(repr((self.names, self.top, tuple(self.read.shape))).encode())
        for name in _TENSORS:
            digest.update(getattr(self, name).cpu().contiguous().numpy().tobytes())
        return digest.hexdigest()[:16]

    def index(self, name: str) -> int:
        """The number of a direction by its name. Raises UsageError for an unknown name."""
        if name not in self.names:
            raise UsageError(f"no direction {name!r}; this set has: {', '.join(self.names)}")
        return self.names.index(name)

    def scores(self, x: torch.Tensor) -> torch.Tensor:
        """Scores [..., K] of x [..., D]; differentiable, in float32 at least."""
        x = _precise(x)
        scores = x @ self.read.to(x).T + self.offset.to(x)
        return scores if self.linear else keep_largest(scores, self.top)

    def edit(self, x: torch.Tensor, scores: torch.Tensor) -> torch.Tensor:
        """x with the given scores [..., K]: x + E (scores - s(x)), never a reconstruction.

        Exactly x if the scores are its own. A nonlinear set may read other scores from the result than were
        written.
        """
        wide = _precise(x)
        return (wide + (scores.to(wide) - self.scores(x)) @ self.write.to(wide).T).to(x.dtype)

    def score_gradients(self, gradient: torch.Tensor) -> torch.Tensor:
        """Gradient [..., K] of a scalar with respect to the scores, from its gradient g [..., D] with respect
        to x: g E.

        By the chain rule through `edit`, which is linear in the scores even of a nonlinear set: how the
        scalar would change if a score were written, including inactive units of a dictionary.
        """
        gradient = _precise(gradient)
        return gradient @ self.write.to(gradient)

    def reconstruct(self, scores: torch.Tensor) -> torch.Tensor:
        """origin + E scores [..., D]: for measuring a set, not for editing with it."""
        scores = _precise(scores)
        return self.origin.to(scores) + scores @ self.write.to(scores).T

    def to(self, device: torch.device | str) -> "Directions":
        """The same set on a device, so that repeated use there copies nothing."""
        return replace(self, **{name: getattr(self, name).to(device) for name in _TENSORS})

    def with_provenance(self, **facts) -> "Directions":
        """The same directions with further facts in their provenance."""
        return replace(self, provenance=self.provenance | facts)

    def first(self, count: int) -> "Directions":
        """The first `count` directions of a linear set, with their part of the provenance."""

        def cut(value):
            if isinstance(value, dict):
                return {key: cut(one) for key, one in value.items()}
            return value[:count] if isinstance(value, list) and len(value) == len(self) else value

        parts = {"read": self.read[:count], "offset": self.offset[:count], "write": self.write[:, :count]}
        return replace(self, **parts, names=self.names[:count], provenance=cut(self.provenance))

    def within(self, columns, width: int) -> "Directions":
        """The same directions in a space of `width` features, of which they read and write those numbered
        `columns` [D].
        """
        columns = torch.as_tensor(columns)
        read, write, origin = (
            torch.zeros(shape, dtype=torch.float64)
            for shape in ((len(self), width), (width, len(self)), (width,))
        )
        read[:, columns], write[columns], origin[columns] = self.read, self.write, self.origin
        return replace(self, read=read, write=write, origin=origin)


def keep_largest(scores: torch.Tensor, top: int) -> torch.Tensor:
    """The `top` largest of the positive scores along the last axis, others 0 (Makhzani & Frey 2013, "k-sparse
    autoencoders").
    """
    values, index = scores.relu().topk(top, dim=-1)
    return torch.zeros_like(scores).scatter(-1, index, values)


def save_directions(path: Path, directions: Directions) -> None:
    """Writes one safetensors file with names and provenance as JSON in its header."""
    facts = {"names": list(directions.names), "top": directions.top, "provenance": directions.provenance}
    tensors = {name: getattr(directions, name) for name in _TENSORS}
    save_checkpoint(path, tensors, {"kind": KIND, "version": VERSION, "id": directions.id, **facts})


def load_directions(path: Path) -> Directions:
    """Reads a file of `save_directions`. Raises BadCheckpoint for anything else, and for changed numbers."""
    tensors, meta = load_checkpoint(path)
    if meta.get("kind") != KIND:
        raise BadCheckpoint(
            f"{path} holds {described(meta.get('kind', 'something unnamed'))}, not directions; "
            "give a file that a fit has saved"
        )
    if meta.get("version") != VERSION:
        raise BadCheckpoint(
            f"{path} holds directions of version {meta.get('version')} and this version reads {VERSION}; "
            "fit them again"
        )
    try:
        directions = Directions(
            **tensors, names=meta["names"], provenance=meta["provenance"], top=meta["top"]
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise BadCheckpoint(f"{path} does not hold whole directions ({error}); fit them again") from error
    if directions.id != meta.get("id"):
        raise BadCheckpoint(f"{path} is damaged: its numbers are not those that were saved; fit them again")
    return directions


def _precise(x: torch.Tensor) -> torch.Tensor:
    return x if x.dtype == torch.float64 else x.float()
