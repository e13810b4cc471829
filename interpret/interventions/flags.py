"""Flags of every script that records under interventions. Imports nothing slow, so that --help answers at
once.
"""

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro


@dataclass
class EditFlags:
    """Edits of the agent's hidden state."""

    swap_directions_from: tuple[str, ...] = ()
    """Numbers of directions along which the agent's hidden state is not to move."""
    swap_directions_to: tuple[str, ...] = ()
    """As many directions along which it moves by the same amounts instead; None for nothing (collapse)."""
    direction_files: Annotated[tuple[Path, ...], tyro.conf.arg(aliases=["--directions"])] = ()
    """Directions of the agent's hidden state, one file of each kind (pca, ica, nmf, ...)."""
    direction_kind: str | None = None
    """Kind of the directions of the swap; needed where several files are given."""
    edit_mode: Literal["update", "state"] = "update"
    """Swap in the change of the hidden state at each step, or in the state itself."""
    edit_site: Literal["before_heads", "after_heads"] = "before_heads"
    """Whether the action of a step is already chosen from the edited state, or the memory alone carries it.
    """
    edit_steps: tuple[int, int] | None = None
    """First step of the swap and the one after its last; default: all."""
    edits: Path | None = None
    """JSON file with edits of every kind; they act after the swap."""
