"""Optional logging to Weights & Biases; nothing else in the project needs it."""

from pathlib import Path

from common.runs import UsageError, plain


def check_tracker() -> None:
    """Raises UsageError when the package is not installed; before a run is begun."""
    try:
        import wandb  # noqa: F401
    except ImportError as error:
        raise UsageError("--track needs the package wandb: pip install wandb") from error


def open_tracker(project: str, directory: Path, config):
    """A W&B run with `log(row, step)`."""
    import wandb

    return wandb.init(
        project=project, dir=str(directory), config=plain(config), id=directory.name, resume="allow"
    )
