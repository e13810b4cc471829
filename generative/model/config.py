"""Configuration of a world model and of its training; named presets are in hyperparams/generative.yml."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.descriptions import check_values, read_preset
from common.errors import UsageError

PRESETS = Path(__file__).parents[2] / "hyperparams" / "generative.yml"
CELL = 4
"""Side of a cell of the map in pixels; embeddings, categorical variables and latent have cells of twice that.
"""

_MODEL_SIZES = (
    "num_actions",
    "obs_shape",
    "hidden_size",
    "num_initializing_steps",
    "latent_global",
    "latent_cell",
    "vector_size",
    "blocks",
    "map_channels",
    "groups",
    "classes",
    "units",
    "depth",
    "reward_bins",
)


@dataclass(frozen=True)
class WorldModelConfig:
    """The architecture of a world model. Defaults are those of the preset `small`."""

    num_actions: int
    obs_shape: tuple[int, int, int] = (64, 64, 3)
    """H, W, C of a frame; H and W are multiples of 8."""
    hidden_size: int = 64
    """Width D of the agent's recurrent state."""
    bounded_hidden: bool = True
    """The agent's recurrent state lies in (-1, 1), as a GRU's does: the predicted one passes through a tanh.
    """
    num_initializing_steps: int = 3
    """K: frames that the latent is encoded from. It describes the state at the last of them."""
    latent: str = "gaussian"
    """gaussian: q(z) is a normal distribution with a KL to N(0, I). sphere: z is a point of the unit sphere,
    with a uniformity loss.
    """
    latent_global: int = 64
    """Width of the global part of the latent."""
    latent_cell: int = 8
    """Width of the latent's part for each 8 x 8 pixels."""
    vector_size: int = 512
    """Width of the vector part of the deterministic state h."""
    blocks: int = 8
    """Blocks of the GRU of the vector part, of vector_size / blocks units each."""
    map_channels: int = 24
    """Channels of the map part of h, which has a cell for each 4 x 4 pixels."""
    groups: int = 1
    """Categorical variables of the stochastic state for each 8 x 8 pixels."""
    classes: int = 16
    """Classes of each categorical variable."""
    uniform_mix: float = 0.01
    """Share of the uniform distribution in every categorical, so that no probability is ever 0."""
    units: int = 256
    """Width of the dense layers."""
    depth: int = 64
    """Channels of the convolutions."""
    reward_bins: int = 41
    """Bins of the two-hot reward distribution."""
    reward_range: float = 5.0
    """The bins span symlog rewards from -reward_range to reward_range; 5 is 147 in the game's units."""
    precision: str = "auto"
    """Precision of the convolutions: bf16, fp32, or auto for the faster one on the machine that runs them.
    Everything else is float32.
    """

    def __post_init__(self):
        if isinstance(self.obs_shape, list):  # from a file
            object.__setattr__(self, "obs_shape", tuple(self.obs_shape))
        check_values(self, sizes=_MODEL_SIZES)
        height, width, _ = self.obs_shape
        if height < 2 * CELL or width < 2 * CELL or height % (2 * CELL) or width % (2 * CELL):
            raise ValueError(
                f"frames of {height} x {width} pixels: the world model takes heights and widths that are "
                f"multiples of {2 * CELL}"
            )
        if self.num_initializing_steps < 2:
            raise ValueError(
                "num_initializing_steps must be 2 or more: the latent predicts the action before the last "
                "initialising frame"
            )
        if self.vector_size % self.blocks:
            raise ValueError(f"vector_size {self.vector_size} must be a multiple of blocks {self.blocks}")
        for name, known in (("precision", ("auto", "bf16", "fp32")), ("latent", ("gaussian", "sphere"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose {', '.join(known[:-1])} or {known[-1]}"
                )

    @property
    def map_shape(self) -> tuple[int, int]:
        """Rows and columns of the map."""
        return self.obs_shape[0] // CELL, self.obs_shape[1] // CELL

    @property
    def grid_shape(self) -> tuple[int, int]:
        """Rows and columns of the cells of embeddings, latent and categorical variables."""
        return self.obs_shape[0] // (2 * CELL), self.obs_shape[1] // (2 * CELL)

    @property
    def num_cells(self) -> int:
        """Number of cells of the grid."""
        return self.grid_shape[0] * self.grid_shape[1]

    @property
    def latent_size(self) -> int:
        """Z: the global part, then the part of every cell."""
        return self.latent_global + self.num_cells * self.latent_cell

    @property
    def deter_size(self) -> int:
        """Dh: the vector part of h, then the map in row-major order."""
        return self.vector_size + self.map_shape[0] * self.map_shape[1] * self.map_channels

    @property
    def stoch_shape(self) -> tuple[int, int]:
        """G, C: number of categorical variables, cell by cell, and of their classes."""
        return self.num_cells * self.groups, self.classes

    @property
    def stoch_size(self) -> int:
        """Width of the flattened sample, G * C."""
        return self.stoch_shape[0] * self.classes


@dataclass(frozen=True)
class LossScales:
    """Weight of each term of the loss (generative/training/losses.py); 0 leaves a term out of training."""

    loss_scale_obs: float = 1.0
    """Weight of the squared reconstruction error of the teacher-forced frames, summed over pixels and
    channels in [0, 1], per frame.
    """
    loss_scale_small_objects: float = 4.0
    """Extra weight of that error on small objects (saws, enemies, the agent, edges), times how much each
    pixel stands out.
    """
    loss_scale_start_recon: float = 1.0
    """Weight of the reconstruction error of frames decoded from latents alone: each window's first, and
    extra_starts further ones.
    """
    loss_scale_start_small_objects: float = 4.0
    """Extra weight of that error on small objects."""
    loss_scale_deterministic_rollout: float = 0.5
    """Weight of the reconstruction error in rollouts without sampling; newly visible pixels count a tenth. 0
    leaves out these rollouts and all their terms.
    """
    loss_scale_self_conditioned_recon: float = 1.0
    """Weight of the reconstruction error of frames decoded on the model's own previous frame instead of the
    true one.
    """
    loss_scale_motion: float = 100.0
    """Weight of the Huber loss, in pixels, of predicted against estimated motion: per step, and accumulated
    in the deterministic rollouts.
    """
    loss_scale_reward: float = 10.0
    """Weight of the cross-entropy of the two-hot reward in nats per step, teacher-forced and in the
    deterministic rollouts.
    """
    loss_scale_done: float = 2.0
    """Weight of the done loss in nats per step: BCE on the raw logit (trains the network) plus weighted BCE
    on the calibrated logit (trains scale and bias only).
    """
    loss_scale_kl: float = 1.0
    """Weight of the balanced KL between posterior and prior in nats per step: 1.0 dynamics loss + 0.1
    representation loss.
    """
    loss_scale_overshooting: float = 0.1
    """Weight of latent overshooting: KL from the posterior to priors that have seen no frame for 1 to
    overshooting_steps steps, in nats per step.
    """
    loss_scale_bottleneck: float = 0.02
    """Weight of the KL of a Gaussian latent to N(0, I), in nats per window (1 / num_sim_steps is the evidence
    bound, as other terms count per step), or of the uniformity loss of spherical ones.
    """
    loss_scale_init: float = 1.0
    """Weight of the agent's start: squared error of its hidden state plus cross-entropy of its previous
    action.
    """
    loss_scale_hx: float = 0.5
    """Weight of the squared error of the agent's hidden state on decoded frames, per frame."""
    loss_scale_act_log_probs: float = 2.0
    """Weight of the KL of the agent's action distribution on decoded frames from the recorded one, in nats
    per frame.
    """
    loss_scale_value: float = 0.1
    """Weight of the squared error of the agent's value on decoded frames, per frame, in the agent's units."""
    free_nats: float = 1.0
    """Each direction of the balanced KL, summed over groups, has no gradient below this many nats."""


@dataclass(frozen=True)
class TrainConfig:
    """How a world model is trained. A preset sets the values; flags override them."""

    num_batches: int = 20_000
    batch_size: int = 16
    """Windows per batch."""
    num_sim_steps: int = 32
    """S: simulated frames per window; the first is the last initialising frame."""
    lr: float = 4e-4
    warmup: int = 500
    """Batches over which the learning rate rises linearly from 0."""
    final_lr_fraction: float = 0.1
    """The learning rate decays linearly to this fraction of lr at the last batch."""
    grad_clip_norm: float = 1000.0
    ema_decay: float = 0.999
    """Decay of the exponential moving average of the weights, which checkpoints hold; after n batches at most
    (1 + n) / (10 + n).
    """
    overshooting_steps: int = 5
    """H: length of the overshooting rollouts, at most num_sim_steps - 1."""
    overshooting_runs: int = 1
    """Overshooting rollouts per window, each from a random step."""
    extra_starts: int = 3
    """Steps per window, besides its first, whose frames are also decoded from a latent of their own."""
    deterministic_rollout_steps: int = 8
    """Length of the deterministic rollouts, at most num_sim_steps - 1."""
    agent_loss_fraction: float = 0.25
    """Fraction of each batch's windows on which the agent's losses are computed; on all of them they cost as
    much as the model.
    """
    death_oversampling: float = 0.25
    """Fraction of each batch drawn from windows in which an episode terminates without a reward. Importance
    weights correct for it in the reward loss and in the calibration of done.
    """
    outcome_only: bool = False
    """Train only the prediction of reward and done, and freeze everything else."""
    log_interval: int = 100
    """Batches between rows of progress.csv."""
    save_interval: int = 1000
    """Batches between checkpoints, which a killed run resumes from."""
    validation_batches: int = 4
    """Batches of held-out windows that each row of progress.csv is computed on."""

    def __post_init__(self):
        check_values(
            self,
            sizes=(
                "batch_size",
                "num_sim_steps",
                "overshooting_steps",
                "overshooting_runs",
                "deterministic_rollout_steps",
                "validation_batches",
            ),
        )
        for name in ("num_batches", "log_interval", "save_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("lr", "grad_clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        if self.extra_starts < 0:
            raise ValueError(f"extra_starts is {self.extra_starts}; it must be 0 or more")
        if not 0 <= self.final_lr_fraction <= 1:
            raise ValueError(f"final_lr_fraction is {self.final_lr_fraction}; it must lie in [0, 1]")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if not 0 <= self.death_oversampling < 1:
            raise ValueError(f"death_oversampling is {self.death_oversampling}; it must lie in [0, 1)")
        if not 0 < self.agent_loss_fraction <= 1:
            raise ValueError(
                f"agent_loss_fraction is {self.agent_loss_fraction}; it must lie in (0, 1] (weights of 0 "
                "leave the agent out)"
            )


def check_scales(scales: LossScales) -> None:
    """Raises UsageError for a weight that is negative or NaN."""
    for name, value in vars(scales).items():
        if not value >= 0:
            raise UsageError(f"--{name} is {value}; weights are 0 (which leaves the term out) or more")


def window_length(model: WorldModelConfig, train: TrainConfig) -> int:
    """Frames per window, L = K + S - 1: the first simulated frame is the last initialising one."""
    return model.num_initializing_steps + train.num_sim_steps - 1


def load_preset(name: str, model_values: dict, train_values: dict) -> tuple[WorldModelConfig, TrainConfig]:
    """A preset's model and training configuration, overridden by the given values.

    Raises UsageError for an unknown name or a value out of range.
    """
    known = {kind: {field.name for field in fields(kind)} for kind in (WorldModelConfig, TrainConfig)}
    values = read_preset(PRESETS, name, known[WorldModelConfig] | known[TrainConfig])
    model, train = (
        {k: v for k, v in values.items() if k in known[kind]} for kind in (WorldModelConfig, TrainConfig)
    )
    try:
        return WorldModelConfig(**(model | model_values)), TrainConfig(**(train | train_values))
    except (ValueError, TypeError) as error:
        raise UsageError(f"preset {name!r} with these flags: {error}") from error


def model_config(values: dict) -> WorldModelConfig:
    """A WorldModelConfig from its JSON form."""
    return WorldModelConfig(**values)


def as_values(config: WorldModelConfig) -> dict:
    """The JSON form of a WorldModelConfig; `model_config` reads it."""
    return asdict(config)
