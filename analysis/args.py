"""Flags that several analyses share, and the names that flags take. Imports nothing slow, so that a command line is read at once."""

import logging
from dataclasses import dataclass
from pathlib import Path

DIRECTION_METHODS = ("pca", "ica", "nmf", "dictionary")
"""Ways of fitting directions to hidden states."""
CONTEXT_FRAMES = (0, 1, 2, 4, 8, 16, 32)
"""Numbers of last frames from which an agent's state is computed again."""


@dataclass
class PlotArgs:
    precomp_dir: Path | None = None
    """Directory of a finished step; left out, the latest one in out_dir."""
    results: Path | None = None
    """Also write the numbers into this JSON file, for pages to quote."""
    images: Path | None = None
    """Also copy the pictures to this directory."""
    out_dir: Path = Path("results")
    """Where the step's numbers are, and its pictures are written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


@dataclass
class MapArgs:
    data_dir: Path = Path("results/simulated/informed_init")
    """Store of simulated rollouts, with their environment states."""
    num_episodes: int = 2000
    """Episodes, drawn at random; all where there are no more."""
    begin: int = 1
    """The first step that counts. At step 0 the environment's state is read from the latent; from 1 on it is one that the model has stepped to."""
    clusters: int = 32
    """How many clusters."""
    draws: int = 20
    """Fits to episodes drawn again, for the stability of clusters; 0 leaves them untested."""
    parts: int = 16
    """Parts of a non-negative factorisation, the strongest of which colours a map; 0 for none."""
    maps: tuple[str, ...] = ("tsne",)
    """Flat maps to make beside the principal axes: tsne, umap, both, or no word for none."""
    points: int = 10_000
    """Steps in the maps: a sample stratified by episode."""
    followed: int = 12
    """Episodes whose paths are drawn."""
    members: int = 12
    """Frames kept of each cluster."""
    seed: int = 0
    """Seed of everything random."""
    num_threads: int = 2
    """Threads of the linear algebra and of t-SNE."""
    new: bool = False
    """Make it again even where it is done."""
    out_dir: Path = Path("results")
    """Where artefacts are written."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""


@dataclass
class MapPlotArgs:
    precomp_dir: Path | None = None
    """Directory that the precompute step wrote; left out, the latest."""
    clusters: bool = True
    """Draw every cluster in a picture of its own."""
    out_dir: Path = Path("results")
    """Where the precompute step wrote to, and the pictures go."""
    log_level: int = logging.INFO
    """Python logging level: 10 debug, 20 info, 30 warnings, 40 errors."""
