"""Interventions from a script's flags, with the files that they name."""

from dataclasses import fields, replace

import torch

from common.policy import Policy
from common.runs import UsageError
from interpret.directions.by_kind import load_by_kind
from interpret.interventions.edit import Edit, read_edits
from interpret.interventions.flags import EditFlags
from interpret.interventions.interventions import NO_INTERVENTIONS, Interventions, bind
from rollouts.store import Rollouts

NOTHING = "None"


def load_interventions(flags: EditFlags, policy: Policy | None, agent_id: str) -> Interventions:
    """The interventions that the flags ask for; none by default.

    Args:
        flags: as given.
        policy: the agent; None where a script plays without one.
        agent_id: of its file.

    Raises:
        UsageError: flags without effect, lists of different length, or directions that do not fit.
    """
    edits = (*swap_of(flags), *(read_edits(flags.edits) if flags.edits else ()))
    if not edits:
        for name in ("direction_files", "edit_mode", "edit_site", "edit_steps", "direction_kind"):
            _check_unused(flags, name, "--swap_directions_from or --edits")
        return NO_INTERVENTIONS
    if policy is None:
        raise UsageError("edits act on an agent's hidden state: give --agent_file, one agent")
    start = policy.initial_state(1)
    by_kind = load_by_kind(flags.direction_files, start.shape[-1], agent_id)
    edits, sources = with_sources(edits)
    return bind(edits, by_kind, sources, policy.num_actions).to(start.device)


def manifest_entry(interventions: Interventions) -> dict:
    """What a store's manifest says of them: nothing where there are none."""
    return {"interventions": interventions.description()} if interventions else {}


def swap_of(flags: EditFlags) -> tuple[Edit, ...]:
    """The edit of --swap_directions_from and --swap_directions_to, if any. Raises UsageError where the two do
    not fit.
    """
    if len(flags.swap_directions_from) != len(flags.swap_directions_to):
        raise UsageError(
            f"--swap_directions_from has {len(flags.swap_directions_from)} directions and "
            f"--swap_directions_to {len(flags.swap_directions_to)}: give as many, None for nothing"
        )
    if not flags.swap_directions_from:
        for name in ("edit_mode", "edit_site", "edit_steps", "direction_kind"):
            _check_unused(flags, name, "--swap_directions_from")
        return ()
    values = dict(
        directions=tuple(_number(word, "from") for word in flags.swap_directions_from),
        to=tuple(None if word == NOTHING else _number(word, "to") for word in flags.swap_directions_to),
        direction_set=flags.direction_kind or "",
        mode=flags.edit_mode,
        before_heads=flags.edit_site == "before_heads",
        window=flags.edit_steps,
    )
    try:
        return (Edit("replace", **values),)
    except ValueError as error:
        raise UsageError(f"--swap_directions_from: {error}") from error


def _number(word: str, side: str) -> int:
    if not word.isdecimal():
        why = "; None stands on the other side" if word == NOTHING else ""
        raise UsageError(f"--swap_directions_{side} takes numbers of directions, not {word!r}{why}")
    return int(word)


def _check_unused(flags: EditFlags, name: str, needed: str) -> None:
    default = next(field.default for field in fields(EditFlags) if field.name == name)
    if getattr(flags, name) != default:
        raise UsageError(f"--{name} has no effect without {needed}: give one, or leave it out")


def with_sources(edits) -> tuple[list[Edit], dict[tuple[str, int], torch.Tensor]]:
    """Patches with the id of their store in place of its path, and the states of their episodes."""
    bound, sources = [], {}
    for edit in edits:
        if edit.kind == "patch":
            store = Rollouts.open(edit.source)
            if not 0 <= edit.episode < len(store):
                raise UsageError(f"no episode {edit.episode} in {edit.source}, which has {len(store)}")
            sources[store.id, edit.episode] = torch.from_numpy(store.episode(edit.episode)["hidden"].copy())
            edit = replace(edit, source=store.id)
        bound.append(edit)
    return bound, sources
