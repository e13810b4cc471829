"""Configuration of a Decision Transformer and of its training; presets are in hyperparams/decision.yml."""

from dataclasses import dataclass, fields
from pathlib import Path
from typing import Literal

from common.descriptions import check_values, read_preset
from common.errors import UsageError

PRESETS = Path(__file__).parents[1] / "hyperparams" / "decision.yml"
ModelType = Literal["decision_transformer", "clone_transformer"]
LayerNormKind = Literal["LN", "LNPre", "none"]
Activation = Literal["relu", "gelu", "gelu_new", "silu", "solu_ln"]
TimeEmbedding = Literal["embedding", "linear"]
StateEmbedding = Literal["agent", "impala", "patches"]
Scheduler = Literal[
    "constant",
    "constant_with_warmup",
    "linear_with_warmup",
    "cosine",
    "cosine_with_warmup",
    "cosine_with_restarts",
]
Optimizer = Literal["AdamW", "Adam", "SGD"]
_SIZES = (
    "num_actions",
    "obs_shape",
    "d_model",
    "n_heads",
    "n_layers",
    "d_mlp",
    "context_length",
    "max_timestep",
    "feature_size",
    "patch_size",
    "patch_channels",
)


@dataclass(frozen=True)
class DTConfig:
    """Architecture of a Decision Transformer (Chen et al. 2021) or of its behavioural clone."""

    num_actions: int
    obs_shape: tuple[int, int, int] = (64, 64, 3)
    model_type: ModelType = "decision_transformer"
    """decision_transformer (return-to-go, state, action tokens) or clone_transformer (state, action)."""
    d_model: int = 128
    """Width of the residual stream."""
    n_heads: int = 4
    n_layers: int = 3
    d_mlp: int = 512
    context_length: int = 20
    """K: steps that a token attends to, its own included."""
    max_timestep: int = 1000
    """Times above it share its embedding."""
    layer_norm: LayerNormKind = "LN"
    """LN (with weights), LNPre (centres and scales only) or none."""
    gated_mlp: bool = False
    """Multiplies the activations by a second linear map of the MLP's input."""
    activation_fn: Activation = "gelu"
    time_embedding: TimeEmbedding = "embedding"
    """A table, or linear in the time; the same vector is added to all tokens of a step."""
    state_embedding: StateEmbedding = "agent"
    """agent: frozen features of the PPO agent's encoder; impala: an encoder trained along; patches: a
    convolution on patches that do not overlap.
    """
    architecture: str = "impala"
    """Of the encoder, the agent's or that trained along: impala, impala-half or nature."""
    feature_size: int = 256
    """Width of the encoder's output."""
    normalize_features: bool = False
    """Layer normalisation before the encoder's last ReLU."""
    patch_size: int = 8
    patch_channels: int = 32
    dropout: float = 0.0
    """Of embeddings and of what attention and MLPs add to the residual stream."""
    rtg_scale: float = 1.0
    """Returns-to-go are divided by it."""
    gamma: float = 1.0
    """Discount of the returns-to-go."""
    precision: str = "auto"
    """Of the encoder's convolutions: bf16, fp32 or auto."""

    def __post_init__(self):
        if isinstance(self.obs_shape, list):  # from a file
            object.__setattr__(self, "obs_shape", tuple(self.obs_shape))
        check_values(self, sizes=_SIZES)
        if self.d_model % self.n_heads:
            raise ValueError(f"d_model {self.d_model} does not divide evenly among {self.n_heads} heads")
        if self.state_embedding == "patches" and any(size % self.patch_size for size in self.obs_shape[:2]):
            raise ValueError(
                f"patches of {self.patch_size} pixels do not tile frames of {self.obs_shape[:2]}"
            )
        if not 0 <= self.dropout < 1:
            raise ValueError(f"dropout is {self.dropout}; it must lie in [0, 1)")
        if not self.rtg_scale > 0:
            raise ValueError(f"rtg_scale is {self.rtg_scale}; it must be above 0")
        if not 0 < self.gamma <= 1:
            raise ValueError(f"gamma is {self.gamma}; it must lie in (0, 1]")

    @property
    def conditioned(self) -> bool:
        """Whether there are return-to-go tokens."""
        return self.model_type == "decision_transformer"

    @property
    def tokens_per_step(self) -> int:
        return 3 if self.conditioned else 2

    @property
    def state_token(self) -> int:
        """Place of the state among the tokens of a step; the action comes last."""
        return self.tokens_per_step - 2


@dataclass(frozen=True)
class TrainConfig:
    """How a Decision Transformer is trained. A preset sets the values; flags override them."""

    num_batches: int = 10_000
    batch_size: int = 64
    """Windows per batch."""
    window_steps: int = 40
    """Steps per window; more than context_length trains the memory that deeper layers have beyond it."""
    optimizer: Optimizer = "AdamW"
    lr: float = 1e-3
    """Highest learning rate."""
    lr_end: float = 1e-5
    """Learning rate at the end of a decay."""
    scheduler: Scheduler = "cosine_with_warmup"
    warmup_steps: int = 500
    """Batches over which the learning rate rises linearly from 0, in schedulers that have a warm-up."""
    num_cycles: int = 3
    """Cosine cycles of cosine_with_restarts."""
    weight_decay: float = 0.01
    """Of matrices; biases, embeddings and layer normalisation have none."""
    gradient_clip: float = 1.0
    """Largest norm of the gradient."""
    train_split: float = 0.95
    """Share of the layouts trained on; the others are for validation."""
    pct_traj: float = 1.0
    """Share of the training steps that the best episodes by return, which are kept, hold."""
    length_weighted: bool = True
    """Draw steps uniformly, so that long episodes count more; else episodes."""
    prob_go_from_end: float = 0.0
    """Probability that a window ends with the last step of its episode."""
    log_interval: int = 100
    """Batches between rows of progress.csv."""
    save_interval: int = 1000
    """Batches between checkpoints, which a killed run resumes from."""
    validation_batches: int = 8
    """Batches of held-out windows that each row of progress.csv is computed on."""
    eval_interval: int = 0
    """Batches between rollouts in the game, a multiple of log_interval; 0 for none."""
    eval_episodes: int = 50
    """Episodes of these rollouts, per target return."""

    def __post_init__(self):
        check_values(self, sizes=("batch_size", "window_steps", "validation_batches", "eval_episodes"))
        for name in ("num_batches", "log_interval", "save_interval", "num_cycles"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 1 or more")
        for name in ("lr", "gradient_clip"):
            if not getattr(self, name) > 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be above 0")
        for name in ("lr_end", "weight_decay", "warmup_steps"):
            if getattr(self, name) < 0:
                raise ValueError(f"{name} is {getattr(self, name)}; it must be 0 or more")
        if self.eval_interval < 0 or self.eval_interval % self.log_interval:
            raise ValueError(
                f"eval_interval is {self.eval_interval}; it must be a multiple of log_interval,"
                f" {self.log_interval}, or 0"
            )
        if not 0 < self.train_split <= 1:
            raise ValueError(f"train_split is {self.train_split}; it must lie in (0, 1]")


def load_preset(name: str, model_values: dict, train_values: dict) -> tuple[DTConfig, TrainConfig]:
    """A preset's model and training configuration, overridden by the given values.

    Raises UsageError for an unknown name or a value out of range.
    """
    known = {kind: {field.name for field in fields(kind)} for kind in (DTConfig, TrainConfig)}
    values = read_preset(PRESETS, name, known[DTConfig] | known[TrainConfig])
    model, train = ({k: v for k, v in values.items() if k in known[kind]} for kind in (DTConfig, TrainConfig))
    try:
        return DTConfig(**(model | model_values)), TrainConfig(**(train | train_values))
    except (ValueError, TypeError) as error:
        raise UsageError(f"preset {name!r} with these flags: {error}") from error
