"""Configure a training run: everything that determines its weights, and nothing else."""

import json
import math
from dataclasses import asdict, dataclass, field, replace
from functools import reduce
from operator import getitem
from typing import Any

from model.inputs.augmentation import AugmentationConfig
from model.networks.config import AttentionConfig
from model.training.loss_base import Loss
from model.training.losses import AuthorsLossConfig, LossConfig, SoftmaxConfig
from model.training.sxmnet_losses import AttentionLossConfig, FusedLossConfig, MetaLossConfig

LOSSES: tuple[type[Loss], ...] = (
    LossConfig,
    AuthorsLossConfig,
    SoftmaxConfig,
    AttentionLossConfig,
    FusedLossConfig,
    MetaLossConfig,
)
"""What a network can be trained with. Runs and models record the name of the class."""


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineSchedule:
    """Linear warm-up, then half a cosine down to zero."""

    warmup_fraction: float = 0.1
    """Of all steps."""

    def factor(self, progress: float) -> float:
        """Return the factor of the learning rate; `progress` is the share of steps done, in [0, 1]."""
        if progress < self.warmup_fraction:
            # The warm-up does not begin at zero, so that the first of few steps has an effect.
            return 0.1 + 0.9 * progress / self.warmup_fraction
        return 0.5 + 0.5 * math.cos(math.pi * (progress - self.warmup_fraction) / (1 - self.warmup_fraction))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule:
    """A constant rate, divided at fixed points."""

    drops: tuple[float, ...] = (0.5, 0.8)
    """Shares of all steps at which the rate is divided."""
    divisor: float = 10.0

    def factor(self, progress: float) -> float:
        """Return the factor of the learning rate; `progress` is the share of steps done, in [0, 1]."""
        return float(self.divisor ** -sum(progress >= drop for drop in self.drops))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sgd:
    """Stochastic gradient descent, as in the code of the CHR paper."""

    momentum: float = 0.9
    weight_decay: float = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay; from random weights it needs a fraction of the steps."""

    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run; see `model.recipes.registry`."""

    recipe: str
    """The name of the function that made it."""
    network: str = "chr"
    backbone: str = "resnet18"
    complete_levels: bool = False
    """Levels end with the layers that the whole network has before it uses them; see `model.networks.backbones`."""
    num_levels: int = 3
    fusion: str = "average"
    """How the levels' logits are fused, one of `model.networks.config.FUSIONS`."""
    attention: AttentionConfig | None = None
    """For the network `sxmnet`."""
    trim_margins: bool = False
    """Cut white margins off, in training and in scoring."""
    initial_model: str | None = None
    """Stage II of SXMNet: the folder of a model to start from, except classifiers and selection network."""
    pretrained: bool = False
    """Start the backbone from ImageNet weights (`model.networks.weights`)."""
    backbone_weights: str | None = None
    """A safetensors file with these weights; None: an installed package or timm's hub."""
    image_size_px: int = 224
    """Side of the network's input: a random crop in training, the squashed scan in scoring."""
    resize_px: int = 256
    """Side of the square that a scan is squashed to before the crop."""
    batch_size: int = 32
    """Of one process; a recipe's is of all devices together, see `split_batch_across_devices`."""
    accumulate_batches: int = 1
    """Batches whose gradients are added up before a step: equivalent to one batch that many times larger, except for
    batch norms."""
    max_epochs: int
    learning_rate: float
    """The maximum of the schedule."""
    classifier_rate: float = 1.0
    """Factor of the rate for the fully connected layers, which start from random weights."""
    layer_decay: float = 1.0
    """Factor of the rate from each stage of the backbone to the one before it: the last stage learns at this times the
    rate of the heads, the one before at its square (H. Bao et al., "BEiT", ICLR 2022). 1: all learn alike."""
    frozen_stages: int = 0
    """First stages of the backbone whose weights and batch norms stay as they begin; see `model.networks.stages`."""
    optimizer: Sgd | AdamW = field(default_factory=Sgd)
    schedule: CosineSchedule | StepSchedule = field(default_factory=CosineSchedule)
    loss: Loss = field(default_factory=LossConfig)
    ema_decay: float = 0.0
    """Rate and save a moving average of the weights: this share of it stays at each step, less in the first ones. 0:
    rate and save the weights themselves, as the papers do."""
    localization: float = 0.0
    """Weight of the term that draws the peaks of every level into the boxes of their class, where a scan has boxes; 0:
    learn from labels alone, as the papers do."""
    positive_repeats: int = 1
    """How often a scan with any positive label is repeated in an epoch; 1 is the paper's plain sampling."""
    positive_fraction: float = 0.0
    """The balanced sampler, in place of `positive_repeats`: repeats positives until they are this share of an epoch;
    negatives come once. 0: off."""
    augmentation: AugmentationConfig = field(default_factory=AugmentationConfig)
    """What is varied beside the random crop and mirror."""
    patience: int | None = None
    """Epochs without a better validation figure after which a run ends; None: no early stop."""
    validation_fraction: float = 0.1
    """Of the training split, held out by scan to choose the epoch; the test split is never used."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_epochs < 1:
            raise ValueError(f"batch_size and max_epochs must be >= 1, got {self.batch_size} and {self.max_epochs}")
        if self.accumulate_batches < 1:
            raise ValueError(f"accumulate_batches must be >= 1, got {self.accumulate_batches}")
        if self.positive_repeats < 1:
            raise ValueError(f"positive_repeats must be >= 1, got {self.positive_repeats}")
        if not 0 <= self.positive_fraction < 1:
            raise ValueError(f"positive_fraction must be in [0, 1), got {self.positive_fraction}")
        if self.positive_fraction and self.positive_repeats > 1:
            raise ValueError(
                f"positive_fraction must go without positive_repeats, got {self.positive_fraction} and "
                f"{self.positive_repeats}; set one of them"
            )
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}")
        if not self.classifier_rate > 0:
            raise ValueError(f"classifier_rate must be > 0, got {self.classifier_rate}")
        if not 0 < self.layer_decay <= 1:
            raise ValueError(f"layer_decay must be in (0, 1], got {self.layer_decay}")
        if self.frozen_stages < 0:
            raise ValueError(f"frozen_stages must be >= 0, got {self.frozen_stages}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1), got {self.validation_fraction}")
        if self.patience is not None and (self.patience < 1 or not self.validation_fraction):
            raise ValueError(
                f"patience must be >= 1 and go with held-out scans, got {self.patience} with validation_fraction "
                f"{self.validation_fraction}"
            )
        if not 32 <= self.image_size_px <= self.resize_px:
            raise ValueError(
                f"image_size_px must be in 32..resize_px, got {self.image_size_px} with resize_px {self.resize_px}"
            )
        if not 0 <= self.ema_decay < 1:
            raise ValueError(f"ema_decay must be in [0, 1), got {self.ema_decay}")
        if not self.localization >= 0:
            raise ValueError(f"localization must be >= 0, got {self.localization}")
        if self.backbone_weights is not None and not self.pretrained:
            raise ValueError("backbone_weights must go with pretrained, got them without; drop --no-pretrained")
        if self.augmentation.projected and self.trim_margins:
            raise ValueError(
                f"projected must be 0 with trim_margins, got {self.augmentation.projected}; a trimmed scan has another "
                f"scale than the objects"
            )
        if self.fusion not in self.loss.fusions:
            names = " or ".join(loss.__name__ for loss in LOSSES if self.fusion in loss.fusions)
            raise ValueError(f"loss must be {names} with fusion {self.fusion!r}, got {type(self.loss).__name__}")
        self.loss.check_config(self)

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that runs and models record; equal configs give equal documents.

        Fields of `_LATER_DEFAULTS` are left out at their default, so that runs of earlier releases keep their document.
        """
        named = {
            name: {"name": type(getattr(self, name)).__name__} | asdict(getattr(self, name))
            for name in ("optimizer", "schedule", "loss")
        }
        # A round trip through JSON text, so that it equals a document read back: tuples become lists.
        document: dict[str, Any] = json.loads(json.dumps(asdict(self) | named))
        for path, default in _LATER_DEFAULTS.items():
            *tables, name = path.split(".")
            table = reduce(getitem, tables, document)
            if table[name] == default:
                del table[name]
        return document


def split_batch_across_devices(config: TrainConfig, num_devices: int) -> TrainConfig:
    """Return the config of each of several devices, so that a step has the same scans on any number of them.

    On GPUs batch norms use the scans of all devices, so they see the same scans too.

    Args:
        config: a recipe; its `batch_size` is of all devices together.
        num_devices: that train together.

    Raises:
        ValueError: the batch size is not a multiple of it.
    """
    if config.batch_size % num_devices:
        raise ValueError(
            f"batch_size must be a multiple of the number of devices, got {config.batch_size} for {num_devices} "
            f"(recipe {config.recipe!r}); name --devices or --batch-size"
        )
    return replace(config, batch_size=config.batch_size // num_devices)


def complete_document(document: dict[str, Any]) -> dict[str, Any]:
    """Return a recorded config with the fields that later releases added, at the values of the earlier behaviour.

    So a run that an earlier release began can be resumed.
    """
    loss = {"name": LossConfig.__name__} | dict(document.get("loss") or {})
    return _EARLIER_VALUES | document | {"loss": loss}


_EARLIER_VALUES: dict[str, Any] = {
    "accumulate_batches": 1,
    "positive_fraction": 0.0,
    "patience": None,
    "fusion": "average",
    "attention": None,
    "trim_margins": False,
    "initial_model": None,
    "classifier_rate": 1.0,
}
_LATER_DEFAULTS: dict[str, Any] = {
    "complete_levels": False,
    "layer_decay": 1.0,
    "frozen_stages": 0,
    "ema_decay": 0.0,
    "localization": 0.0,
    "augmentation.mixed": 0.0,
    "augmentation.projected": 0.0,
    "augmentation": {"scale": 0.0, "aspect": 0.0, "exposure": 0.0, "upside_down": False, "quarter_turns": False},
}
"""Fields that came after the formats were fixed, with their defaults, which are the earlier behaviour; those within
another before that."""
