"""The action space that the description of a world model or a store names."""

from common.checkpoints import BadCheckpoint
from common.descriptions import look_up
from envs.procgen import GAMES, action_space
from envs.vecenv import ActionSpace


def action_space_of(meta: dict) -> ActionSpace:
    """The action space of a world model's description; outside of Procgen every action has its own effect."""
    game = (meta.get("env") or {}).get("env_name")
    names = tuple(look_up(meta, "action_names", list[str], "the world model's file", BadCheckpoint))
    classes = action_space(game).effect_classes if game in GAMES else tuple(range(len(names)))
    return ActionSpace(names, meta["noop"], classes)
