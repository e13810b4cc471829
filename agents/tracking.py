"""Optional logging to Weights & Biases."""

from pathlib import Path

from common.runs import UsageError, plain


def check_tracker() -> None:
    """Raises UsageError if wandb is not installed, before a run is created."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise UsageError("--track needs the package wandb: pip install wandb") from error


def open_tracker(project: str, directory: Path, config):
    """Opens a W&B run with `log(row, step)`."""
    import wandb

    return wandb.init(
        project=project, dir=str(directory), config=plain(config), id=directory.name, resume="allow"
    )
