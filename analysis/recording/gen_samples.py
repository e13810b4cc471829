"""Records simulated rollouts as flags ask for."""

import logging
import resource
from dataclasses import replace
from pathlib import Path

from analysis.recording.args import GenSamplesArgs
from analysis.rendering.action_grid import write_grids
from common.precision import choose_precision, set_precision
from common.runs import UsageError, choose_device, file_id
from common.shared_flags import Job
from common.words import counted
from envs.vecenv import ActionSpace
from generative.action_space import action_space_of
from generative.record import Sampling, record_samples
from generative.simulator_file import load_simulator
from generative.starts import InformedStarts, RandomStarts, open_agent_rollouts
from interpret.interventions.from_flags import load_interventions, manifest_entry
from interpret.interventions.intervened import Intervened
from rollouts.growth import extent
from rollouts.store import Rollouts, recorded_precision

OUTPUT = Path("results/simulated")


def record_gen_samples(args: GenSamplesArgs, rand_init: bool = False) -> None:
    """Records what the flags ask for; rand_init: from random latents instead of recorded frames."""
    for name in ("num_samples", "num_sim_steps", "batch_size"):
        if getattr(args, name) < 1:
            raise UsageError(f"--{name} is {getattr(args, name)}: there is nothing to record; give 1 or more")
    device = choose_device(args.device)
    simulator, meta = load_simulator(args.world_model_file, args.agent_file, args.allow_other_agent, device)
    actions = action_space_of(meta)
    sampling = sampling_of(args, actions)
    agent_id = file_id(args.agent_file)
    interventions = load_interventions(args.edit, simulator.agent, agent_id)
    kind = "edited" if interventions else kind_of(sampling, rand_init)
    path = args.out_dir or OUTPUT / kind
    room = extent(path, "sampling", "num_samples", sampling.num_samples, sampling.batch_size)
    sampling = replace(sampling, num_samples=room.total, grown_from=room.grown_from)
    rollouts = None if rand_init else open_agent_rollouts(args.data_dir, args.agent_file)
    starts = (
        RandomStarts(simulator)
        if rollouts is None
        else InformedStarts(simulator, rollouts, sampling.seed, sampling.use_mode)
    )
    precision = choose_precision(args.precision, device).keep(recorded_precision(path), path)
    set_precision(precision, simulator.model, simulator.agent)
    manifest = {
        "num_actions": simulator.agent.num_actions,
        "action_names": actions.names,
        "noop": actions.noop,
        "hidden_size": simulator.agent.core.state_size,
        "obs_shape": simulator.model.config.obs_shape,
        "env": meta["env"],
        "simulated": True,
        "precision": precision,
        "sampling": sampling.values(),
        "allow_other_agent": not simulator.own_agent,
        "inputs": {
            "world_model_file": file_id(args.world_model_file),
            "agent_file": agent_id,
            "data_dir": rollouts.id if rollouts else None,
        },
        **manifest_entry(interventions),
    }
    policy = Intervened(simulator.agent, interventions) if interventions else None
    policy_id = interventions.policy_id(agent_id)
    job = Job(*args.job)
    if not record_samples(simulator, starts, sampling, path, manifest, policy_id, device, policy, job):
        has = f"has {counted(room.there, 'episode')} already" if room.there else "is done"
        logging.info("%s %s; another --out_dir makes another", path, has)
    if args.action_grid and job.count == 1:
        write_grids(Rollouts.open(path), [actions.names[action] for action in sampling.manual])
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    there = len(Rollouts.open(path)) if job.count > 1 else sampling.num_samples
    logging.info("%s in %s; %.1f GiB of memory at most", counted(there, "simulated episode"), path, peak)


def kind_of(sampling: Sampling, rand_init: bool) -> str:
    """The directory, by default, of a store without edits."""
    return "manual_actions" if sampling.manual else "rand_init" if rand_init else "informed_init"


def sampling_of(args: GenSamplesArgs, actions: ActionSpace) -> Sampling:
    """What the flags ask for. Raises UsageError for an action that there is not, and for flags that
    contradict each other.
    """
    unknown = [name for name in args.manual_actions if name not in actions.names]
    if unknown:
        raise UsageError(f"no action {unknown[0]!r} here; choose from: {', '.join(actions.names)}")
    if sum(map(bool, (args.manual_actions, args.action_grid, args.greedy))) > 1:
        raise UsageError(
            "--manual_actions, --action_grid and --greedy each say who chooses the actions; give one of them"
        )
    manual = (
        tuple(sorted(set(actions.effect_classes)))
        if args.action_grid
        else tuple(actions.names.index(name) for name in args.manual_actions)
    )
    samples = args.num_samples * (len(manual) if args.action_grid else 1)
    modal = args.sampling == "modal"
    return Sampling(
        samples,
        args.num_sim_steps,
        args.batch_size,
        args.seed,
        modal,
        args.greedy,
        manual,
        args.action_grid,
        args.env_state,
    )
