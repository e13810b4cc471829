"""The stages of benchmarks/gpu.py: what each script does, by the functions that it calls."""

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
import torch

import agents.presets
import decision.config
import generative.model.config
from agents.actor_critic import load_agent
from agents.ppo import update
from agents.trainer import Schedule
from agents.trainer import Trainer as AgentTrainer
from benchmarks.device.cells import Cell, Place
from common.precision import set_precision
from common.runs import file_id
from decision.model import DecisionTransformer
from decision.trainer import Trainer as DTTrainer
from decision.windows import DTWindows, SamplingConfig, WindowSampler
from envs.procgen import ProcgenConfig, ProcgenVecEnv, action_space
from generative.action_space import action_space_of
from generative.model.config import STAGES, LossScales, window_length
from generative.noise_keys import NoiseKeys
from generative.record import segment_to_shard
from generative.simulator_file import load_simulator
from generative.starts import open_starts
from generative.training.data import WindowSource
from generative.training.trainer import Trainer as WorldModelTrainer
from interpret.attribution.functions import choose_functions, known_functions
from interpret.attribution.saliency import SaliencyConfig
from interpret.attribution.sample_saliency import SampleSaliency
from rollouts import shard
from rollouts.labelling import label, label_shard
from rollouts.labels import Labels
from rollouts.record import Actor, Plan, play_shard, record
from rollouts.split import episode_layouts
from rollouts.states import replay_env
from rollouts.store import Rollouts, create_store

NEVER = 10**9
AGENT_PRESETS = ("half-rec", "hard-rec", "hard-500")
ROLLOUT_STEPS = 16
"""Steps per environment of a timed iteration of train.py; its time per step hardly depends on them."""
WORLD_MODEL_PRESETS = ("small", "paper")
DT_PRESETS = ("coinrun", "paper")
SIMULATED_STEPS = 32
SALIENCY = SaliencyConfig((), 10)
"""The defaults of saliency_exps.py."""
FUNCTIONS = ("value", "action")
FIRST_LEVEL = 10_000


class StoppedClock:
    """Stands in for the clocks that a trainer's loop sets."""

    frames = 0.0
    due = False


def stage_cells(place: Place) -> Iterator[Cell]:
    """All cells, in the order of the pipeline."""
    for precision in place.args.precisions:
        more = {"precision": precision}
        for preset in AGENT_PRESETS:
            yield Cell("train", preset, "step", partial(agent_training, place, preset, precision), more)
        facts: dict[str, float] = {}
        yield Cell("record", "", "step", partial(recording, place, precision, facts), more, facts)
    yield Cell("label", "", "step", partial(labelling, place))
    for precision in place.args.precisions:
        more = {"precision": precision}
        for preset in WORLD_MODEL_PRESETS:
            for stage in STAGES:
                prepare = partial(world_model_training, place, preset, stage, precision)
                yield Cell("train_gen_model", f"{preset} {stage}", "frame", prepare, more)
        facts = {}
        yield Cell(
            "record_gen_samples", "", "step", partial(simulation, place, precision, facts), more, facts
        )
    for precision in place.args.precisions:
        facts = {}
        prepare = partial(saliency, place, precision, facts)
        more = {"precision": precision, "draws": SALIENCY.draws}
        yield Cell("saliency_exps", "", "map", prepare, more, facts)
        for preset in DT_PRESETS:
            prepare = partial(dt_training, place, preset, precision)
            sizes = decision.config.load_preset(preset, {"num_actions": 15}, {})[1]
            about = {name: getattr(sizes, name) for name in ("batch_size", "window_steps", "num_batches")}
            yield Cell("train_dt", preset, "step", prepare, {"precision": precision} | about)


def agent_training(place: Place, preset: str, precision: str) -> Callable[[], float]:
    """An iteration of train.py: a rollout and all updates on it."""
    network, ppo = agents.presets.load_preset(preset, 15, ProcgenVecEnv.obs_shape)
    network, ppo = replace(network, precision=precision), replace(ppo, n_steps=ROLLOUT_STEPS)
    env = ProcgenVecEnv(ppo.n_envs, ProcgenConfig("coinrun"), 0, place.args.num_threads)
    schedule = Schedule(NEVER, 1, NEVER, 1, 0, NEVER)
    trainer = AgentTrainer(env, env, network, ppo, schedule, place.directory, 0, place.device, {})

    def work() -> float:
        trainer.collect()
        update(trainer.agent, trainer.optimizer, trainer.buffer, ppo, np.random.default_rng(0))
        return trainer.per_iteration

    return work


def recording(place: Place, precision: str, facts: dict[str, float]) -> Callable[[], float]:
    """A shard of record.py, played and compressed."""
    agent, _ = load_agent(place.args.agent_file, place.device)
    set_precision(precision, agent)
    plan = recording_plan(place)
    actor = Actor(agent, "agent", file_id(place.args.agent_file))

    def work() -> float:
        env = ProcgenVecEnv(64, ProcgenConfig("coinrun"), 0, place.args.num_threads)
        steps, episodes = play_shard(env, actor, plan.jobs(0), plan.seed, place.device)
        env.close()
        length = len(steps["reward"])
        facts["bytes_per_step"] = len(shard.encode(steps)) / length
        facts["steps_per_episode"] = length / len(episodes["length"])
        return length

    return work


def recording_plan(place: Place) -> Plan:
    """The episodes that the stages learn from, in one shard."""
    return Plan(place.args.num_episodes, place.args.num_episodes, FIRST_LEVEL, 90_000)


def own_store(place: Place) -> Rollouts:
    """The stages' own recording with its labels; made when it is first asked for."""
    path = place.directory / "store"
    if not path.exists():
        agent, meta = load_agent(place.args.agent_file, place.device)
        actions = action_space("coinrun")
        plan = recording_plan(place)
        manifest = {
            "env": meta["env"],
            "num_actions": len(actions.names),
            "action_names": actions.names,
            "noop": actions.noop,
            "obs_shape": ProcgenVecEnv.obs_shape,
            "hidden_size": agent.core.state_size,
            "plan": plan.values(),
        }
        create_store(path, manifest)
        actor = Actor(agent, "agent", file_id(place.args.agent_file))
        game = ProcgenConfig(**meta["env"])
        record(path, plan, [0], lambda: ProcgenVecEnv(64, game, 0), lambda _: actor, place.device)
        label(Rollouts.open(path), [0], place.args.num_threads)
    return Rollouts.open(path)


def labelling(place: Place) -> Callable[[], float]:
    """A shard of label.py."""
    rollouts = own_store(place)
    env = replay_env(rollouts, 64, place.args.num_threads)

    def work() -> float:
        label_shard(rollouts, 0, env, Labels.open(rollouts).unit)
        return rollouts.num_steps

    return work


def world_model_training(place: Place, preset: str, stage: str, precision: str) -> Callable[[], float]:
    """A batch of a stage of train_gen_model.py, on labelled frames."""
    agent, _ = load_agent(place.args.agent_file, place.device)
    set_precision(precision, agent)
    rollouts = own_store(place)
    labels = Labels.open(rollouts)
    shape = {
        "num_actions": agent.num_actions,
        "hidden_size": agent.core.state_size,
        "precision": precision,
        "tile_pixels": labels.unit,
        "knows_phase": True,
    }
    batches = {f"{one}_batches": NEVER if one == stage else 0 for one in STAGES}
    model, train = generative.model.config.load_preset(preset, shape, batches)
    windows = rollouts.windows(
        window_length(model, train), min_steps=model.num_initializing_steps, labels=labels
    )
    source = WindowSource(windows, episode_layouts(rollouts), 0, train.death_oversampling)
    directory = place.directory / f"{preset}_{precision}"
    directory.mkdir(exist_ok=True)
    trainer = WorldModelTrainer(model, train, LossScales(), source, agent, directory, 0, place.device, {})
    trainer._clock = trainer._save_clock = StoppedClock()
    windows_per_batch = train.motion_batch_size if stage == "motion" else train.batch_size

    def work() -> float:
        trainer.update(trainer._train_batch(trainer.batches).to(place.device))
        return windows_per_batch * train.num_sim_steps

    return work


def simulation(place: Place, precision: str, facts: dict[str, float]) -> Callable[[], float]:
    """A batch of record_gen_samples.py, simulated and compressed."""
    simulator, starts, _, _ = simulating(place, precision)
    samples = np.arange(min(max(place.args.batch_sizes), starts.count))

    def work() -> float:
        keys = NoiseKeys(0, samples)
        with torch.no_grad():
            z = starts.latents(samples, keys, place.device)
        segment = simulator.simulate(z, SIMULATED_STEPS, keys).to("cpu")
        steps, _ = segment_to_shard(segment, "float16")
        facts["bytes_per_step"] = len(shard.encode(steps)) / len(steps["reward"])
        return len(samples) * SIMULATED_STEPS

    return work


def simulating(place: Place, precision: str):
    """The shipped simulator, starting points, their store, and the world model's description."""
    simulator, meta = load_simulator(place.args.world_model_file, place.args.agent_file, device=place.device)
    set_precision(precision, simulator.model, simulator.agent)
    path = own_store(place).path
    starts, rollouts = open_starts(simulator, meta, path, False, place.args.agent_file, 0)
    return simulator, starts, rollouts, meta


def saliency(place: Place, precision: str, facts: dict[str, float]) -> Callable[[], float]:
    """Eight samples of saliency_exps.py, with its defaults; a map is of one function and sample."""
    simulator, starts, rollouts, meta = simulating(place, precision)
    known = known_functions(action_space_of(meta), {}, simulator.agent.core.state_size)
    functions = choose_functions(FUNCTIONS, known)
    source = SampleSaliency(
        simulator, starts, rollouts, replace(SALIENCY, functions=functions), 0, False, False, place.device
    )
    ids = range(8)

    def work() -> float:
        arrays = source.simulated(ids)
        maps = len(ids) * len(functions)
        facts["bytes_per_map"] = sum(array.nbytes for array in arrays.values()) / maps
        return maps

    return work


def dt_training(place: Place, preset: str, precision: str) -> Callable[[], float]:
    """A batch of train_dt.py, on frames or on features as the preset says."""
    rollouts = own_store(place)
    shape = {"num_actions": 15, "obs_shape": ProcgenVecEnv.obs_shape, "precision": precision}
    config, train = decision.config.load_preset(preset, shape, {})
    features = None
    if config.state_embedding == "agent":
        features = np.zeros((rollouts.num_steps, config.feature_size), np.float16)
    windows = DTWindows(rollouts, train.window_steps, config.gamma, features)
    sampler = WindowSampler(windows, np.zeros(len(rollouts), bool), SamplingConfig(), 0)
    model = DecisionTransformer(config)
    trainer = DTTrainer(model, train, windows, sampler, place.directory, 0, place.device, {})
    trainer._clock = StoppedClock()

    def work() -> float:
        trainer.update(trainer._train_batch(trainer.batches).to(place.device))
        return train.batch_size * train.window_steps

    return work
