"""Configuration of a world model and of its training; named presets are in hyperparams/generative.yml."""

import math
from dataclasses import asdict, dataclass, fields, replace
from pathlib import Path

from common.descriptions import LARGEST, check_values, read_preset
from common.errors import UsageError

PRESETS = Path(__file__).parents[2] / "hyperparams" / "generative.yml"
BANDS = 8
"""Strips of the frame whose profiles the phase is read from (phase_head.py)."""
STAGES = ("painter", "latent", "motion", "tiles", "joint")
"""Stages of training, in order."""

_MODEL_SIZES = (
    "num_actions",
    "obs_shape",
    "hidden_size",
    "num_initializing_steps",
    "latent_global",
    "latent_tile",
    "vector_size",
    "code_size",
    "pose_size",
    "sprite_pixels",
    "texels",
    "canvas_tiles",
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
    tile_pixels: float = 4.0
    """Side of a tile in pixels; with labels it is the game's own (64 / 13 in CoinRun)."""
    knows_phase: bool = False
    """Whether the place of a frame in its tile is read from the frame, as labels teach; otherwise every
    window begins at phase 0.
    """
    latent_global: int = 64
    """Width of the global part of the latent."""
    latent_tile: int = 4
    """Width of the latent's part for each tile of the view."""
    vector_size: int = 256
    """Width V of the recurrent vector."""
    code_size: int = 16
    """Width K of the code of a tile."""
    pose_size: int = 12
    """Width of the code of the player's sprite."""
    sprite_pixels: int = 20
    """Side of the square in the centre of the frame where the player's sprite is drawn."""
    texels: int = 14
    """Texels along the side of a tile's texture."""
    canvas_tiles: int = 32
    """Side of the canvas in tiles; more than the view."""
    classes: int = 32
    """Classes of the categorical variable of each tile."""
    uniform_mix: float = 0.01
    """Share of the uniform distribution in every categorical, so that no probability is ever 0."""
    units: int = 256
    """Width of the dense layers."""
    depth: int = 64
    """Channels of the convolutions over tiles."""
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
        if height % BANDS or width % BANDS:
            raise ValueError(
                f"frames of {height} x {width} pixels: the world model takes heights and widths that are "
                f"multiples of {BANDS}"
            )
        if self.num_initializing_steps < 2:
            raise ValueError(
                "num_initializing_steps must be 2 or more: the latent predicts the action before the last "
                "initialising frame"
            )
        if not self.tile_pixels >= 1:
            raise ValueError(f"tile_pixels is {self.tile_pixels}; a tile has a pixel or more")
        if self.texels < 3:
            raise ValueError(
                f"texels is {self.texels}; a tile has two edges and something between: 3 or more"
            )
        if max(self.view_shape) + 2 > self.canvas_tiles:
            raise ValueError(
                f"canvas_tiles is {self.canvas_tiles}; a view of {self.view_shape[0]} x {self.view_shape[1]} "
                f"tiles needs at least {max(self.view_shape) + 2}"
            )
        if not self.sprite_pixels <= min(height, width):
            raise ValueError(f"sprite_pixels is {self.sprite_pixels}, more than the frame has")
        for name, known in (("precision", ("auto", "bf16", "fp32")), ("latent", ("gaussian", "sphere"))):
            if getattr(self, name) not in known:
                raise ValueError(
                    f"unknown {name} {getattr(self, name)!r}; choose {', '.join(known[:-1])} or {known[-1]}"
                )

    @property
    def view_shape(self) -> tuple[int, int]:
        """Rows and columns of tiles that cover the frame at any position."""
        height, width, _ = self.obs_shape
        return tuple(math.ceil(round(n / self.tile_pixels, 4)) + 1 for n in (height, width))

    @property
    def num_tiles(self) -> int:
        """Tiles of the view."""
        return self.view_shape[0] * self.view_shape[1]

    @property
    def sprite_slices(self) -> tuple[slice, slice]:
        """Rows and columns of the frame where the sprite is drawn."""
        corners = ((n - self.sprite_pixels) // 2 for n in self.obs_shape[:2])
        return tuple(slice(corner, corner + self.sprite_pixels) for corner in corners)

    @property
    def latent_size(self) -> int:
        """Z: the global part, then the part of every tile."""
        return self.latent_global + self.num_tiles * self.latent_tile

    @property
    def deter_size(self) -> int:
        """Dh: width of the flattened deterministic state (`WorldModel.flat_state`)."""
        return self.vector_size + self.pose_size + 4 + self.num_tiles * self.code_size

    @property
    def noise_shape(self) -> tuple[int, int]:
        """Columns of the view, and classes: the shape of a step's Gumbel noise (`WorldModel.tile_noise`)."""
        return self.view_shape[1], self.classes

    @property
    def stoch_shape(self) -> tuple[int, int]:
        """G, C: number of categorical variables, tile by tile of the view, and of their classes."""
        return self.num_tiles, self.classes


@dataclass(frozen=True)
class LossScales:
    """Weight of each term of the loss (generative/training/losses.py); 0 leaves a term out of training."""

    loss_scale_obs: float = 1.0
    """Weight of the squared error of decoded frames, summed over pixels and channels in [0, 1], per frame."""
    loss_scale_phase: float = 5.0
    """Weight of the KL in nats, per frame, of the phase read from it from the true one. Needs labels."""
    loss_scale_tile_types: float = 20.0
    """Weight of the cross-entropy, in nats per tile, of the kinds of tiles read from their codes. Needs
    labels.
    """
    loss_scale_codes: float = 0.3
    """Weight of the squared error of predicted tile codes and poses, summed over tiles in view, per step."""
    loss_scale_kl: float = 0.3
    """Weight of the balanced KL between posterior and prior of the tiles in nats per step: 1.0 dynamics loss
    + 0.1 representation loss.
    """
    loss_scale_motion: float = 1.0
    """Weight of the negative log-likelihood of the motion, per step."""
    loss_scale_init: float = 1.0
    """Weight of the start: squared errors of the agent's hidden state, of phase, motion and pose, and
    cross-entropy of the previous action.
    """
    loss_scale_bottleneck: float = 0.02
    """Weight of the KL of q(z) from N(0, I), in nats per window, or of the uniformity loss of spherical
    latents.
    """
    loss_scale_reward: float = 10.0
    """Weight of the cross-entropy of the two-hot reward in nats per step."""
    loss_scale_done: float = 2.0
    """Weight of the done loss in nats per step: BCE on the raw logit (trains the network) plus weighted BCE
    on the calibrated logit (trains scale and bias only).
    """


@dataclass(frozen=True)
class TrainConfig:
    """How a world model is trained. A preset sets the values; flags override them."""

    painter_batches: int = 3000
    """Batches of the stage that learns to draw tiles and the player, and to read phases."""
    latent_batches: int = 1500
    """Batches of the stage that learns the latent."""
    motion_batches: int = 3000
    """Batches of the stage that learns motion, pose, rewards and ends on real pictures."""
    tiles_batches: int = 2000
    """Batches of the stage that learns which tiles come into view."""
    joint_batches: int = 2000
    """Batches of the stage that learns outcomes and what comes into view on the model's own rollouts."""
    batch_size: int = 16
    """Windows per batch."""
    motion_batch_size: int = 128
    """Windows per batch of the motion stage."""
    num_sim_steps: int = 16
    """S: simulated frames per window; the first is the last initialising frame."""
    lr: float = 2e-3
    """Learning rate of Adam after the warm-up, in all stages but the joint one."""
    joint_lr: float = 5e-4
    """The same in the joint stage."""
    warmup: int = 100
    """Batches over which the learning rate of each stage rises linearly from 0."""
    final_lr_fraction: float = 0.03
    """The learning rate decays linearly to this fraction at the last batch of the stage."""
    grad_clip_norm: float = 30.0
    ema_decay: float = 0.998
    """Decay of the exponential moving average of the weights, which checkpoints hold; after n batches at most
    (1 + n) / (10 + n).
    """
    free_running_fraction: float = 0.5
    """Fraction of windows that go on from their own motion in the motion stage."""
    death_oversampling: float = 0.25
    """Fraction of each batch drawn from windows in which an episode terminates without a reward. Importance
    weights correct for it in the reward loss and in the calibration of done.
    """
    log_interval: int = 100
    """Batches between rows of progress.csv."""
    save_interval: int = 500
    """Batches between checkpoints, which a killed run resumes from."""
    validation_batches: int = 4
    """Batches of held-out windows that each row of progress.csv is computed on."""

    def __post_init__(self):
        check_values(self, sizes=("batch_size", "motion_batch_size", "num_sim_steps", "validation_batches"))
        for stage in STAGES:
            if self.stage_batches(stage) < 0:
                raise ValueError(f"{stage}_batches is {self.stage_batches(stage)}; it must be 0 or more")
        if self.num_batches < 1:
            raise ValueError("every stage has 0 batches; give one of them some")
        if self.num_sim_steps < 2:
            raise ValueError(f"num_sim_steps is {self.num_sim_steps}; a rollout takes 2 or more")
        for name in ("log_interval", "save_interval"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("lr", "joint_lr", "grad_clip_norm"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("final_lr_fraction", "free_running_fraction"):
            if not 0 <= getattr(self, name) <= 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must lie in [0, 1]")
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay is {self.ema_decay}; it must lie in [0, 1)")
        if not 0 <= self.death_oversampling < 1:
            raise ValueError(f"death_oversampling is {self.death_oversampling}; it must lie in [0, 1)")

    def stage_batches(self, stage: str) -> int:
        """Batches of a stage."""
        return getattr(self, f"{stage}_batches")

    @property
    def num_batches(self) -> int:
        """Batches of all stages."""
        return sum(self.stage_batches(stage) for stage in STAGES)

    def learning_rate(self, batch: int) -> float:
        """Of a batch: in each stage linear warm-up times linear decay to final_lr_fraction."""
        stage, at = self.stage_of(batch)
        peak = self.joint_lr if stage == "joint" else self.lr
        decay = 1 - (1 - self.final_lr_fraction) * at / self.stage_batches(stage)
        return peak * min(1.0, (at + 1) / max(self.warmup, 1)) * decay

    def with_total(self, total: int) -> "TrainConfig":
        """The same with `total` batches in all, in the same proportions; the last stage takes the rest.

        Raises UsageError for a total that is out of range.
        """
        if not 1 <= total <= LARGEST:
            raise UsageError(f"num_batches is {total}; it must be from 1 to {LARGEST}")
        cumulative, done, counts = 0, 0, {}
        for stage in STAGES:
            cumulative += self.stage_batches(stage)
            upto = total * cumulative // self.num_batches
            counts[f"{stage}_batches"] = upto - done
            done = upto
        return replace(self, **counts)

    def stage_left(self, batch: int) -> int:
        """Batches from this one to the end of its stage."""
        stage, at = self.stage_of(batch)
        return self.stage_batches(stage) - at

    def stage_of(self, batch: int) -> tuple[str, int]:
        """The stage of a batch, and the batch's number in it."""
        for stage in STAGES:
            if batch < self.stage_batches(stage):
                return stage, batch
            batch -= self.stage_batches(stage)
        raise ValueError(f"there are {self.num_batches} batches")


def check_scales(scales: LossScales) -> None:
    """Raises UsageError for a weight that is negative or NaN."""
    for name, value in vars(scales).items():
        if not value >= 0:
            raise UsageError(f"--{name} is {value}; weights are 0 (which leaves the term out) or more")


def window_length(model: WorldModelConfig, train: TrainConfig) -> int:
    """Frames per window, L = K + S - 1: the first simulated frame is the last initialising one."""
    return model.num_initializing_steps + train.num_sim_steps - 1


def sizes_for_frames(obs_shape: tuple[int, int, int], tile_pixels: float) -> dict[str, int]:
    """Sizes for frames that the presets do not fit: a sprite in the frame, a canvas larger than the view."""
    sizes = {}
    if min(obs_shape[:2]) < WorldModelConfig.sprite_pixels:
        sizes["sprite_pixels"] = min(obs_shape[:2])
    view = math.ceil(max(obs_shape[:2]) / tile_pixels) + 1
    if view + 2 > WorldModelConfig.canvas_tiles:
        sizes["canvas_tiles"] = 2 * view
    return sizes


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
