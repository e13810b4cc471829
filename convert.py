"""Converts recordings: a store to MIDT's HDF5 or to Minari, and MIDT's HDF5, Minari or a trajectory pickle to
a store.

The kind of the source is found from the source. A target is complete or not there at all; an existing one is
never overwritten. docs/other_formats.md says what each format keeps.
"""

import logging
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    source: Path
    """A store of rollouts, or a recording of another project: .h5 or .hdf5 of MIDT, a folder of Minari, or
    .pkl, .gz or .xz of DecisionTransformerInterpretability.
    """
    target: Path
    """File or folder to write; of a foreign recording a store."""
    format: Literal["midt", "minari"] | None = None
    """What a store becomes."""
    dataset_id: str = "worldlens/rollouts-v0"
    """Id of a Minari dataset: namespace/name-v0."""
    obs_shape: tuple[int, int, int] | None = None
    """Height, width and channels of frames that a foreign file of MIDT keeps flat."""
    num_actions: int | None = None
    """Actions of the game; default: of MIDT and pickles the highest recorded action and one."""
    noop: int = 0
    """Number of the action that does nothing, in a foreign recording."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

import io
import re
import warnings

import numpy as np
from PIL import Image

from common.errors import UsageError
from common.progress import progress_bar
from common.words import counted
from rollouts.formats.apart import read_apart
from rollouts.formats.episodes import BadRecording, ForeignGame, Recording, check_free, write_store
from rollouts.formats.midt import is_midt, read_midt, write_midt
from rollouts.formats.minari import data_folder, read_minari, write_minari
from rollouts.formats.trajectory_pickle import OPENERS, read_pickle
from rollouts.manifest import KIND
from rollouts.remote import RemotePath, store_path
from rollouts.store import Rollouts

DATASET_ID = r"([-\w]+/)*[-\w]+-v\d+"


def main(args: Args) -> None:
    for path in (args.source, args.target):
        if isinstance(store_path(path), RemotePath):
            raise UsageError(f"{store_path(path)} is not on a disk: other formats are read and written there")
    args = replace(args, source=store_path(args.source), target=store_path(args.target))
    if not args.source.exists():
        raise UsageError(f"there is nothing at {args.source}")
    check_free(args.target)
    if is_store(args.source):
        export(args)
    else:
        bring_in(args)


def is_store(path: Path) -> bool:
    """Whether a folder has the manifest of a store."""
    manifest = path / "manifest.json"
    return manifest.is_file() and KIND in manifest.read_text(errors="replace")


def export(args: Args) -> None:
    """Writes a store in another format."""
    refuse(args, ("obs_shape", "num_actions", "noop"), "of a foreign recording, and this is a store")
    if args.format is None:
        raise UsageError(f"{args.source} is a store: say what it is to become with --format midt or minari")
    if args.format == "midt":
        refuse(args, ("dataset_id",), "of Minari")
    if not re.fullmatch(DATASET_ID, args.dataset_id):
        raise UsageError(f"--dataset_id is {args.dataset_id!r}; Minari's are namespace/name-v0")
    rollouts = Rollouts.open(args.source)
    with progress_bar(total=len(rollouts), unit="episode", desc=f"to {args.format}") as bar:
        if args.format == "midt":
            write_midt(args.target, rollouts, bar.update)
        else:
            write_minari(args.target, rollouts, args.dataset_id, encode_image, bar.update)
    logging.info("wrote %s of %s to %s", counted(len(rollouts), "episode"), args.source, args.target)


def bring_in(args: Args) -> None:
    """Writes a foreign recording as a store."""
    refuse(args, ("format", "dataset_id"), "of what a store becomes, and this is a foreign recording")
    recording = read_apart(lambda: opened(args), str(args.source))
    with progress_bar(total=recording.num_episodes, unit="episode", desc="to a store") as bar:
        write_store(args.target, recording, bar.update)
    logging.info("wrote %s", Rollouts.open(args.target))


def opened(args: Args) -> Recording:
    """The foreign recording. Raises BadRecording if it is of no known kind, or damaged."""
    game = ForeignGame(args.obs_shape, args.num_actions, args.noop)
    if data_folder(args.source):
        refuse(args, ("obs_shape", "num_actions"), "of other formats: Minari names them")
        return read_minari(args.source, game, decode_image)
    if is_midt(args.source):
        return read_midt(args.source, game)
    if args.source.suffix in OPENERS:
        refuse(args, ("obs_shape",), "of MIDT: a pickle names it")
        return read_pickle(args.source, game)
    raise BadRecording(
        f"{args.source} is neither a store, nor HDF5 of MIDT (with the group trajectories), nor a Minari"
        f" dataset (with data/main_data.hdf5), nor a pickle ({', '.join(OPENERS)})"
    )


def refuse(args: Args, names: tuple[str, ...], reason: str) -> None:
    """Raises UsageError for flags that have no effect."""
    given = [f"--{name}" for name in names if getattr(args, name) != getattr(Args, name, None)]
    if given:
        raise UsageError(f"{', '.join(given)} would have no effect, being {reason}: leave it out")


def encode_image(frame: np.ndarray) -> bytes:
    """A frame [H, W, 3] uint8 as a PNG file."""
    file = io.BytesIO()
    Image.fromarray(frame).save(file, "PNG")
    return file.getvalue()


def decode_image(file: bytes) -> np.ndarray:
    """A JPEG or PNG as an array. Raises ValueError if it is none, or implausibly large."""
    with warnings.catch_warnings():
        warnings.simplefilter("error", Image.DecompressionBombWarning)
        try:
            return np.asarray(Image.open(io.BytesIO(file)))
        except Exception as error:  # Pillow's decoders raise many kinds
            raise ValueError(f"a frame is no image ({error})") from error


if __name__ == "__main__":
    run_main(main, ARGS)
