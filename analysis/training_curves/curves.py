"""Training logs as curves: reads and joins runs, smooths, averages over seeds, reads published results."""

import json
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from agents.evaluate import first_unseen_level
from common.checkpoints import load_checkpoint
from common.csv_log import read_log
from common.descriptions import read_json
from common.runs import UsageError, file_id

PUBLISHED = Path(__file__).with_name("published.json")
NEEDED = ("timesteps", "mean_episode_rewards")


@dataclass(frozen=True)
class TrainingRun:
    """A training run.

    Args:
        dir: of the run.
        columns: {name: float [rows]} of log.csv, NaN where the log has no number.
        config: config.json, or empty.
        begun_from: id of the checkpoint that initialised the weights, if any.
        before: the run with that checkpoint, once the two are joined; columns then start with its rows.
        begins: step at which this run's own rows start.
    """

    dir: Path
    columns: dict[str, np.ndarray]
    config: dict
    begun_from: str | None = None
    before: "TrainingRun | None" = None
    begins: float = 0

    @property
    def last_step(self) -> float:
        return float(self.columns["timesteps"][-1])

    def curve(self, name: str) -> tuple[np.ndarray, np.ndarray]:
        """(environment steps, values) of a column, without missing values; empty if the column is missing."""
        values = self.columns.get(name, np.full_like(self.columns["timesteps"], np.nan))
        finite = np.isfinite(values)
        return self.columns["timesteps"][finite], values[finite]

    def parts(self) -> list["TrainingRun"]:
        """The runs it was joined from, in order."""
        return [*(self.before.parts() if self.before else ()), self]

    def joints(self) -> list[float]:
        """The steps at which one run continues another."""
        return [part.begins for part in self.parts()[1:]]

    def experiment(self) -> str:
        """Key that is equal for runs that differ only in seed, length and directory.

        The key of a run without a config is its parent directory.
        """
        if not self.config:
            return str(self.dir.parent)
        kept = {name: self.config.get(name) for name in ("env", "network", "ppo")}
        kept["network"] = {
            name: value for name, value in (kept["network"] or {}).items() if name != "precision"
        }  # precision depends on the machine
        begun = self.before.experiment() if self.before else self.config.get("args", {}).get("agent_file")
        return json.dumps(kept | {"begun": begun}, sort_keys=True)


def find_runs(paths: Sequence[Path]) -> list[Path]:
    """Every directory with a log.csv at or below the given ones. Raises UsageError if there is none."""
    for path in paths:
        if not path.is_dir():
            raise UsageError(
                f"{path} is not a directory; give --datapath a run directory, or a directory of runs"
            )
        if not any(path.rglob("log.csv")):
            raise UsageError(f"no log.csv in {path} or below; give --datapath a run that train.py wrote")
    return sorted({log.parent for path in paths for log in path.rglob("log.csv")})


def load_run(directory: Path) -> TrainingRun:
    """Reads log.csv and, if present, config.json and manifest.json.

    Raises:
        UsageError: log.csv is empty, damaged or no training log.
    """
    path = directory / "log.csv"
    rows = read_log(path)
    missing = [name for name in NEEDED if rows and name not in rows[0]]
    if missing:
        raise UsageError(
            f"{path} is not a training log: it has no column {missing[0]!r}; give --datapath a run that "
            "train.py wrote"
        )
    if not rows:
        raise UsageError(f"{path} has no rows yet; wait for the first iteration of train.py to end")
    columns = {
        name: _numbers([row[name] for row in rows], name, path) for name in rows[0] if name is not None
    }
    if not (np.diff(columns["timesteps"]) > 0).all():
        raise UsageError(
            f"{path} is damaged: its steps go back or are missing; give --datapath a run that train.py wrote"
        )
    begun_from = _read_description(directory / "manifest.json").get("inputs", {}).get("agent_file")
    return TrainingRun(directory, columns, _read_description(directory / "config.json"), begun_from)


def join_runs(runs: Sequence[TrainingRun]) -> list[TrainingRun]:
    """The runs, each one that continues another's checkpoint appended to it, with steps from its start.

    Rows of the earlier run after that checkpoint are dropped.
    """
    parents = {run.dir: _parent(run, runs) for run in runs}

    def whole(run: TrainingRun) -> TrainingRun:
        if parents[run.dir] is None:
            return run
        earlier, checkpoint = parents[run.dir]
        return _appended(whole(earlier), load_checkpoint(checkpoint)[1]["timesteps"], run)

    continued = {parent[0].dir for parent in parents.values() if parent}
    return [whole(run) for run in runs if run.dir not in continued]


def _parent(run: TrainingRun, runs: Sequence[TrainingRun]) -> tuple[TrainingRun, Path] | None:
    """The run with the checkpoint that initialised this one, and the checkpoint."""
    if run.begun_from is None:
        return None
    checkpoints = (
        (other, path)
        for other in runs
        if other is not run
        for path in sorted(other.dir.rglob("model*.safetensors"))
    )
    return next(((other, path) for other, path in checkpoints if file_id(path) == run.begun_from), None)


def _appended(earlier: TrainingRun, steps: int, run: TrainingRun) -> TrainingRun:
    """`run`, appended to the first `steps` steps of the earlier run."""
    begins = earlier.begins + steps
    kept = earlier.columns["timesteps"] <= begins
    none = np.full(len(kept), np.nan)
    own = run.columns | {"timesteps": run.columns["timesteps"] + begins}
    columns = {
        name: np.concatenate([earlier.columns.get(name, none)[kept], values]) for name, values in own.items()
    }
    return replace(run, columns=columns, before=earlier, begins=begins)


def _read_description(path: Path) -> dict:
    remedy = "remove it to draw the run without it"
    config = read_json(path, remedy) if path.exists() else {}
    for part in ("args", "env", "network", "ppo"):
        if not isinstance(config.get(part, {}), dict):
            raise UsageError(f"{path} is damaged: {part} is not a mapping; {remedy}")
    return config


def _numbers(cells: list[str | None], name: str, path: Path) -> np.ndarray:
    try:
        return np.array([float(cell) if cell else np.nan for cell in cells])
    except ValueError as error:
        raise UsageError(f"{path} is damaged: column {name!r}: {error}") from error


def group_runs(runs: Sequence[TrainingRun]) -> list[list[TrainingRun]]:
    """The runs by experiment, in order of first appearance; a group has each seed once."""
    groups: dict[tuple[str, int], list[TrainingRun]] = {}
    seen: Counter = Counter()
    for run in runs:
        experiment = run.experiment()
        seed = run.config.get("args", {}).get("seed", str(run.dir))
        groups.setdefault((experiment, seen[experiment, seed]), []).append(run)
        seen[experiment, seed] += 1
    return list(groups.values())


def smooth(steps: np.ndarray, values: np.ndarray, window: float) -> np.ndarray:
    """Centred moving average: at each step, the mean of the values within window / 2 steps on either side.

    Args:
        steps: ascending [n].
        values: [n].
        window: in steps, truncated at the ends; 0 changes nothing.
    """
    low = np.searchsorted(steps, steps - window / 2, side="left")
    high = np.searchsorted(steps, steps + window / 2, side="right")
    offset = values[:1].sum()  # subtracted before summing, so that a constant stays exact
    total = np.concatenate([[0.0], np.cumsum(values - offset)])
    return offset + (total[high] - total[low]) / (high - low)


def common_curves(curves: Sequence[tuple[np.ndarray, np.ndarray]]) -> tuple[np.ndarray, np.ndarray]:
    """Steps [n] that all (steps, values) curves cover, and the interpolated values [curves, n]."""
    first = max(steps[0] for steps, _ in curves)
    last = min(steps[-1] for steps, _ in curves)
    grid = np.unique(np.concatenate([steps for steps, _ in curves]))
    grid = grid[(grid >= first) & (grid <= last)]
    return grid, np.stack([np.interp(grid, steps, values) for steps, values in curves])


def published_for(runs: Sequence[TrainingRun]) -> dict | None:
    """The entry of published.json on the game and mode of all runs, if any; None with blanked frames or moved
    coins.
    """
    games = [run.config.get("env", {}) for run in runs]
    if any(game.get("blink") or game.get("random_coin") for game in games):
        return None
    trained_on = {(game.get("env_name"), game.get("distribution_mode")) for game in games}
    for entry in json.loads(PUBLISHED.read_text()):
        if trained_on == {(entry["env_name"], entry["distribution_mode"])}:
            return entry
    return None


def training_levels(run: TrainingRun) -> str:
    """The range of training levels in words."""
    env = run.config.get("env", {})
    if not env:
        return "unknown"
    start = env["start_level"]
    num = env["num_levels"]
    return f"{start}-{start + num - 1}" if num else f"{start} and above"


def evaluation_levels(run: TrainingRun) -> str:
    """The levels that train.py evaluates on, in words: those after training and 50 validation levels."""
    args = run.config.get("args", {})
    if "eval_episodes" not in args:
        return "unknown"
    first = first_unseen_level(args["start_level"], args["num_levels"])
    return f"{first}-{first + args['eval_episodes'] - 1}, one episode each"
