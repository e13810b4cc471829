"""What a world model is made of and how it is trained; named presets live in hyperparams/generative.yml."""

from dataclasses import asdict, dataclass, fields
from pathlib import Path

from common.descriptions import check_values, read_preset
from common.errors import UsageError

PRESETS = Path(__file__).parents[2] / "hyperparams" / "generative.yml"
CELL = 4
"""Height and width, in pixels, of a cell of the state's map; its categorical variables and the latent have
cells of twice that.
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
    """The shape of a world model. Defaults are the preset `small`."""

    num_actions: int
    obs_shape: tuple[int, int, int] = (64, 64, 3)
    """H, W, C of a frame; H and W are multiples of 8."""
    hidden_size: int = 64
    """Width D of the agent's recurrent state."""
    bounded_hidden: bool = True
    """The agent's state lies in (-1, 1), as a GRU's does: the predicted one goes through a tanh."""
    num_initializing_steps: int = 3
    """K: how many frames the latent is read from. It describes the state at the last of them."""
    latent: str = "gaussian"
    """gaussian: q(z) is a normal distribution, drawn towards N(0, I). sphere: z is one point of the unit
    sphere, and latents are spread over it.
    """
    latent_global: int = 64
    """Width of the part of the latent that belongs to no place."""
    latent_cell: int = 8
    """Width of the latent's part for each 8 x 8 pixels."""
    vector_size: int = 512
    """Width of the part of the environment state h that belongs to no place."""
    blocks: int = 8
    """Blocks of the recurrent core of that part; each owns vector_size / blocks units."""
    map_channels: int = 24
    """Width of h for each 4 x 4 pixels."""
    groups: int = 1
    """Categorical variables of the stochastic environment state for each 8 x 8 pixels."""
    classes: int = 16
    """Values of each categorical variable."""
    uniform_mix: float = 0.01
    """Share of the uniform distribution in every categorical, so that no probability is ever 0."""
    units: int = 256
    """Width of the dense layers."""
    depth: int = 64
    """Channels of the convolutions."""
    reward_bins: int = 41
    """Bins of the two-hot reward distribution."""
    reward_range: float = 5.0
    """The bins span symlog rewards from -reward_range to reward_range: 5 is 147 in the game's own units."""
    precision: str = "auto"
    """bf16 or fp32 for the convolutions, or auto: whichever is faster on the machine that runs them. All else
    is float32.
    """

    def __post_init__(self):
        if isinstance(self.obs_shape, list):  # from a file
            object.__setattr__(self, "obs_shape", tuple(self.obs_shape))
        check_values(self, sizes=_MODEL_SIZES)
        height, width, _ = self.obs_shape
        if height < 2 * CELL or width < 2 * CELL or height % (2 * CELL) or width % (2 * CELL):
            raise ValueError(
                f"frames of {height} x {width} pixels; the world model takes heights and widths that are multiples of {2 * CELL}"
            )
        if self.num_initializing_steps < 2:
            raise ValueError(
                "num_initializing_steps must be 2 or more: the action before the last initialising frame has to be known"
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
        """Rows and columns of the cells of embedding, latent and categorical variables."""
        return self.obs_shape[0] // (2 * CELL), self.obs_shape[1] // (2 * CELL)

    @property
    def num_cells(self) -> int:
        """How many coarse cells there are."""
        return self.grid_shape[0] * self.grid_shape[1]

    @property
    def latent_size(self) -> int:
        """Z: the part without a place, then that of every cell."""
        return self.latent_global + self.num_cells * self.latent_cell

    @property
    def deter_size(self) -> int:
        """Dh: the part of h without a place, then the map, row by row."""
        return self.vector_size + self.map_shape[0] * self.map_shape[1] * self.map_channels

    @property
    def stoch_shape(self) -> tuple[int, int]:
        """G, C: categorical variables, cell by cell, and their values."""
        return self.num_cells * self.groups, self.classes

    @property
    def stoch_size(self) -> int:
        return self.stoch_shape[0] * self.classes


@dataclass(frozen=True)
class LossScales:
    """Weight of each term of the loss. Terms and their units: generative/training/losses.py. 0 leaves a term
    out of training.
    """

    loss_scale_obs: float = 1.0
    """Squared error of the picture, summed over pixels and channels, per frame (pixels in [0, 1])."""
    loss_scale_small_objects: float = 4.0
    """The same error where the picture holds small things (saws, enemies, the agent, edges), by how much they
    stand out: added to the above.
    """
    loss_scale_start_recon: float = 1.0
    """Squared error of the pictures painted from latents alone, as loss_scale_obs; of the window's first,
    which counts above too, and extra_starts further ones.
    """
    loss_scale_start_small_objects: float = 4.0
    """The same, as loss_scale_small_objects."""
    loss_scale_deterministic_rollout: float = 0.5
    """Squared error of the picture 1 to deterministic_rollout_steps steps ahead with nothing drawn, as loss_scale_obs; a
    tenth of it where what is shown came into view since.
    """
    loss_scale_self_conditioned_recon: float = 1.0
    """Squared error of the picture painted on the model's own last picture in place of the real one, as
    loss_scale_obs.
    """
    loss_scale_motion: float = 100.0
    """Huber loss of the foretold motion of the picture against the measured one, in pixels squared up to one
    pixel, per step; of each step, and in the blind runs of all steps so far together.
    """
    loss_scale_reward: float = 10.0
    """Cross-entropy of the two-hot reward, nats per step; of states that have seen all frames before them,
    and in the blind runs.
    """
    loss_scale_done: float = 2.0
    """Cross-entropy of the episode's end, likewise, in nats per step; twice: of the odds among the steps
    trained on, of which the networks learn, and of the odds among those recorded, of which two numbers do.
    """
    loss_scale_kl: float = 1.0
    """Balanced KL between posterior and prior, nats per step: 1.0 towards the prior, 0.1 towards the
    posterior.
    """
    loss_scale_overshooting: float = 0.1
    """KL from the posterior to the prior that has seen no frame for 1 to overshooting_steps steps, nats per step."""
    loss_scale_bottleneck: float = 0.02
    """KL of a gaussian latent to N(0, I), nats per window: 1 / num_sim_steps is the evidence bound, as frames
    count per step. Of a spherical one, the crowding of a batch's latents: log mean exp(-2 d^2) over pairs at
    distance d, 0 when all are the same.
    """
    loss_scale_init: float = 1.0
    """Agent at the start: squared error of its hidden state (sum over units) + cross-entropy of its previous
    action.
    """
    loss_scale_hx: float = 0.5
    """Agent on decoded frames: squared error of its hidden state against the stored one, summed over units,
    per frame.
    """
    loss_scale_act_log_probs: float = 2.0
    """Agent on decoded frames: KL from the stored action distribution to the one it has there, nats per
    frame.
    """
    loss_scale_value: float = 0.1
    """Agent on decoded frames: squared error of its value against the stored one, per frame, in the agent's
    own units squared.
    """
    free_nats: float = 1.0
    """The balanced KL gives no gradient below so many nats, on the sum over groups."""


@dataclass(frozen=True)
class TrainConfig:
    """How to train. A preset sets these; flags override them."""

    num_batches: int = 20_000
    batch_size: int = 16
    """Windows per batch."""
    num_sim_steps: int = 32
    """S: simulated frames per window, the first of which is the last initialising frame."""
    lr: float = 4e-4
    warmup: int = 500
    """Batches over which the learning rate rises linearly from 0."""
    final_lr_fraction: float = 0.1
    """Share of the learning rate that is left at the last batch; it falls linearly from the first."""
    grad_clip_norm: float = 1000.0
    ema_decay: float = 0.999
    """Checkpoints hold the exponential moving average of the weights; after n batches its decay is the
    smaller of this and (1 + n) / (10 + n).
    """
    overshooting_steps: int = 5
    """H: steps that the free runs go on without a frame; num_sim_steps - 1 where that is less."""
    overshooting_runs: int = 1
    """Free runs per window, each from a random step."""
    extra_starts: int = 3
    """Steps of every window, beside its first, whose pictures are painted from a latent of their own."""
    deterministic_rollout_steps: int = 8
    """Steps that the blind runs go on with nothing drawn; num_sim_steps - 1 where that is less."""
    agent_loss_fraction: float = 0.25
    """Share of each batch's windows whose decoded frames the agent is shown; on all of them it costs as much
    as the model.
    """
    death_oversampling: float = 0.25
    """Share of each batch's windows that are drawn among those in which an episode terminates without a
    reward. Rewards weigh less there and more elsewhere, and so do the two numbers that say how likely ends
    are: both are foretold as often as they come.
    """
    outcome_only: bool = False
    """Train the parts that rewards and ends are read with, and leave all others as they are."""
    log_interval: int = 100
    """Batches between rows of progress.csv."""
    save_interval: int = 1000
    """Batches between checkpoints; a killed run goes on from the last one."""
    validation_batches: int = 4
    """Batches of held-out windows behind each row of progress.csv."""

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
                f"agent_loss_fraction is {self.agent_loss_fraction}; it must lie in (0, 1] (weights of 0 leave the agent out)"
            )


def check_scales(scales: LossScales) -> None:
    """Raises UsageError for a weight below 0 or NaN, under which training would do the opposite of learning,
    or nothing.
    """
    for name, value in vars(scales).items():
        if not value >= 0:
            raise UsageError(f"--{name} is {value}; weights are 0 (which leaves the term out) or more")


def window_length(model: WorldModelConfig, train: TrainConfig) -> int:
    """L = K + S - 1 frames: the first simulated frame is the last initialising one."""
    return model.num_initializing_steps + train.num_sim_steps - 1


def load_preset(name: str, model_values: dict, train_values: dict) -> tuple[WorldModelConfig, TrainConfig]:
    """The preset's model and training, with the given values put over it. Raises UsageError for an unknown
    name or a bad value.
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
    """A WorldModelConfig from what `asdict` and JSON made of it."""
    return WorldModelConfig(**values)


def train_config(values: dict) -> TrainConfig:
    """A TrainConfig from a checkpoint's description; fields that this version no longer has are dropped."""
    return TrainConfig(
        **{
            name: value
            for name, value in values.items()
            if name in {field.name for field in fields(TrainConfig)}
        }
    )


def as_values(config: WorldModelConfig) -> dict:
    """The opposite of `model_config`."""
    return asdict(config)
