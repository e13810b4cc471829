"""Runs of precompute steps in tests."""

from pathlib import Path

from analysis.io.steps import read_numbers


def latest(out_dir: Path, step: str) -> Path:
    """The directory of a step's latest run."""
    return (out_dir / f"{step}_precomp" / "latest").resolve()


def run_step(module, args, step: str) -> dict:
    """Runs a precompute script; its numbers, without the flags and files that they were asked with."""
    module.main(args)
    found = read_numbers(latest(args.out_dir, step))
    return {name: value for name, value in found.items() if name not in ("asked", "inputs")}
