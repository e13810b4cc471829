"""Command-line flags shared by several analyses. Imports nothing slow, so that --help answers at once."""

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from common.shared_flags import SEED_MODEL_FILE, Device, LogLevel, PrecisionName

DIRECTION_METHODS = ("pca", "ica", "nmf", "dictionary")
"""Methods that fit directions to hidden states."""
CONTEXT_FRAMES = (0, 1, 2, 4, 8, 16, 32)
"""Context lengths, in frames, of the truncated-history policies."""


@dataclass
class PlotArgs:
    precomp_dir: Path | None = None
    """Directory of a finished step; default: the latest one in --out_dir."""
    results: Path | None = None
    """Also write the numbers to this JSON file, for documentation pages to quote."""
    images: Path | None = None
    """Also copy the figures to this directory."""
    out_dir: Path = Path("results")
    """Directory that holds the step's artefacts and receives its figures."""
    log_level: LogLevel = logging.INFO


@dataclass
class MapFitArgs:
    """Flags of every script that clusters and embeds states."""

    clusters: int = 32
    """Number of k-means clusters."""
    draws: int = 20
    """Refits on resampled levels or episodes that estimate stability; 0 skips the estimate."""
    points: int = 10_000
    """Steps in each map: a sample stratified by episode."""
    seed: int = 0
    """Seed of all sampling and fits."""
    num_threads: int = 2
    """Threads of the linear algebra and of t-SNE."""
    new: bool = False
    """Recompute a finished step."""
    out_dir: Path = Path("results")
    """Directory for artefacts."""
    log_level: LogLevel = logging.INFO


@dataclass
class MapArgs(MapFitArgs):
    """Flags of the scripts that map simulated steps."""

    data_dir: Path = Path("results/simulated/informed_init")
    """Store of simulated rollouts, with environment states."""
    num_episodes: int = 2000
    """Episodes, sampled at random; all if the store has fewer."""
    start_step: int = 1
    """First step of each episode that is used. The environment state of step 0 is read from the latent; those
    from step 1 on are outputs of the world model's transition.
    """
    nmf_components: int = 16
    """Components of the NMF whose strongest one colours a map; 0 skips the NMF."""
    maps: tuple[str, ...] = ("tsne",)
    """Embeddings besides PCA: tsne, umap, both, or no word for none."""
    path_episodes: int = 12
    """Episodes whose paths are drawn."""
    frames_per_cluster: int = 12
    """Example frames stored for each cluster."""


@dataclass
class HiddenMapArgs(MapFitArgs):
    """Flags of the analysis of the agent's hidden states."""

    data_dir: Path = Path("data")
    """Store of real rollouts."""
    sim_data_dir: Path | None = None
    """Store of simulated rollouts of the same agent, whose states are projected onto the maps."""
    num_episodes: int = 4000
    """Real episodes, sampled at random; all if the store has fewer."""
    num_sim_episodes: int = 200
    """Simulated episodes, sampled at random; all if the store has fewer."""
    outlier_neighbours: int = 5
    """Number of nearest neighbours whose median distance is a state's outlier score."""
    outlier_sigmas: float = 2.0
    """A state is an outlier if its score is this many standard deviations above the mean. Fits, clusters and
    maps exclude outliers.
    """
    methods: tuple[str, ...] = DIRECTION_METHODS
    """Methods to fit: pca, ica, nmf, dictionary. PCA is always fit."""
    components: int = 16
    """Number of ICA and NMF directions, and of active units of a TopK dictionary 16 times as wide."""
    counts: tuple[int, ...] = (4, 8, 16)
    """Numbers of directions at which the methods are compared by reconstruction."""
    variance_share: float = 0.95
    """Fraction of the variance kept by the principal components that clusters and maps are fit on."""
    maps: tuple[str, ...] = ("tsne", "umap")
    """Embeddings besides PCA: tsne, umap, both, or no word for none. UMAP compiles for one or two minutes on
    first use.
    """
    points: int = 20_000
    """States in the maps and in the checks of directions and clusters: a sample stratified by episode."""
    path_episodes: int = 60
    """Real and simulated episodes, each, whose every step is projected onto the maps and whose every frame is
    stored, for paths and the explorer.
    """
    frames_per_cluster: int = 24
    """Example frames stored for each cluster: random members, from different episodes if possible."""


@dataclass
class MapPlotArgs:
    precomp_dir: Path | None = None
    """Directory written by the precompute step; default: the latest one."""
    clusters: bool = True
    """Draw one figure per cluster."""
    out_dir: Path = Path("results")
    """Directory that holds the step's artefacts and receives its figures."""
    log_level: LogLevel = logging.INFO


@dataclass
class EvalArgs:
    """Flags of every script that scores a world model on recorded windows."""

    world_model_file: Annotated[Path, SEED_MODEL_FILE]
    """The world model to score."""
    agent_file: Path
    """The agent it was trained with."""
    data_dir: Path = Path("data")
    """Store of real rollouts."""
    part: str = "test"
    """Split of the layouts that is scored: test, or validation while a model is still being developed."""
    batch_size: int = 64
    """Windows per batch."""
    seed: int = 0
    """Seed of windows, noise and bootstrap resamples."""
    device: Device = "auto"
    precision: PrecisionName = "auto"
    log_level: LogLevel = logging.INFO
    new: bool = False
    """Start another run even if this command already has one."""
