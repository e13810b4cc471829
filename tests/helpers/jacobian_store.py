"""A toy simulator, a store of its episodes and directions of its agent: what Jacobians are computed from."""

from pathlib import Path

import record_gen_samples
from analysis.jacobian_analysis_precompute import Args
from interpret.directions.directions import save_directions
from tests.helpers.linear_loop import skewed_directions
from tests.helpers.toy_simulator import save_toy_files

WIDTH = 8


def make_jacobian_files(path: Path) -> Path:
    """The directory that holds them, of which `asked` makes the flags."""
    save_toy_files(path, end_bias=-2.0)
    record(path, path / "simulated")
    save_directions(path / "directions.safetensors", skewed_directions(WIDTH, 3))
    save_directions(path / "two.safetensors", skewed_directions(WIDTH, 2))
    return path


def record(made: Path, out: Path, **changed) -> None:
    """Records a store of simulated episodes, some of which end early."""
    small = dict(rand_init=True, num_samples=150, num_sim_steps=6, device="cpu", log_level=40)
    files = made / "model.safetensors", made / "agent.safetensors"
    record_gen_samples.main(record_gen_samples.Args(*files, **(small | {"out_dir": out} | changed)))


def asked(made: Path, out: Path, **changed) -> Args:
    """Flags of a small run of analysis/jacobian_analysis_precompute.py."""
    small = dict(
        score_step=3, env_components=4, components=8, clusters=3, draws=0, maps=(), frames_per_cluster=2,
        num_threads=1, device="cpu", log_level=40, directions=made / "directions.safetensors",
    )  # fmt: skip
    files = {"world_model_file": made / "model.safetensors", "agent_file": made / "agent.safetensors"}
    return Args(**({"data_dir": made / "simulated", "out_dir": out} | files | small | changed))
