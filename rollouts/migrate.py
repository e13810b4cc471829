"""Brings a store to the schema of this version: python -m rollouts.migrate data/coinrun

Everything that the store says of itself is checked first. Only the manifest is written, atomically; shards
stay as they are, and so does the store's id.
"""

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import tyro

from common.cli import parse, run_main
from common.shared_flags import LogLevel


@dataclass
class Args:
    path: tyro.conf.Positional[Path]
    """Directory of the store."""
    log_level: LogLevel = logging.INFO


if __name__ == "__main__":
    ARGS = parse(Args, __doc__)

from rollouts.check import check_store
from rollouts.manifest import SCHEMA, write_manifest
from rollouts.shard import BadStore
from rollouts.store import Rollouts

STEPS: dict[int, Callable[[dict], dict]] = {1: lambda manifest: manifest}
"""From each earlier schema to the next. From 1 to 2: the checksum, which every manifest is written with."""


def main(args: Args) -> None:
    rollouts = Rollouts.open(args.path)
    before = rollouts.manifest["schema"]
    if before == SCHEMA:
        logging.info("%s has schema %d already", rollouts.path, SCHEMA)
        return
    if findings := list(check_store(rollouts)):
        raise BadStore(f"{rollouts.path} is not sound, and was left as it is: {findings[0]}")
    write_manifest(rollouts.path, migrated(rollouts.manifest))
    logging.info("%s: schema %d is %d now", rollouts.path, before, SCHEMA)


def migrated(manifest: dict) -> dict:
    """The manifest in the schema of this version."""
    for schema in range(manifest["schema"], SCHEMA):
        manifest = STEPS[schema](manifest) | {"schema": schema + 1}
    return manifest


if __name__ == "__main__":
    run_main(main, ARGS)
