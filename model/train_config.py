"""What is a training run told? Everything that changes the weights it ends with, and nothing else."""

import json
import math
from dataclasses import asdict, dataclass, field
from typing import Any

from model.losses import LossConfig


@dataclass(frozen=True, slots=True, kw_only=True)
class CosineSchedule:
    """Linear warm-up, then half a cosine down to nothing."""

    warmup_fraction: float = 0.1
    """Of all steps."""

    def factor(self, progress: float) -> float:
        """Return what the learning rate is multiplied with; `progress` is in [0, 1], the share of steps done."""
        if progress < self.warmup_fraction:
            # Not from zero: the first of few steps should count too.
            return 0.1 + 0.9 * progress / self.warmup_fraction
        return 0.5 + 0.5 * math.cos(math.pi * (progress - self.warmup_fraction) / (1 - self.warmup_fraction))


@dataclass(frozen=True, slots=True, kw_only=True)
class StepSchedule:
    """A constant rate, divided at fixed points."""

    drops: tuple[float, ...] = (0.5, 0.8)
    """Shares of all steps after which the rate is divided."""
    divisor: float = 10.0

    def factor(self, progress: float) -> float:
        """Return what the learning rate is multiplied with; `progress` is in [0, 1], the share of steps done."""
        return float(self.divisor ** -sum(progress >= drop for drop in self.drops))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sgd:
    """Stochastic gradient descent, as the paper's code has it."""

    momentum: float = 0.9
    weight_decay: float = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class AdamW:
    """Adam with decoupled weight decay: from random weights it learns in a fraction of the steps."""

    weight_decay: float = 0.01


@dataclass(frozen=True, slots=True, kw_only=True)
class TrainConfig:
    """One training run; `model.recipes` makes them."""

    recipe: str
    """The function that made it."""
    network: str = "chr"
    backbone: str = "resnet18"
    num_levels: int = 3
    pretrained: bool = False
    """Start the backbone from ImageNet weights."""
    backbone_weights: str | None = None
    """A safetensors file with them; None: from timm's hub."""
    image_size_px: int = 224
    """What the network sees: a random crop in training, the squashed scan in scoring."""
    resize_px: int = 256
    """What a scan is squashed to before the crop."""
    batch_size: int = 32
    """Of one process."""
    max_epochs: int
    learning_rate: float
    """The highest of the schedule."""
    optimizer: Sgd | AdamW = field(default_factory=Sgd)
    schedule: CosineSchedule | StepSchedule = field(default_factory=CosineSchedule)
    loss: LossConfig = field(default_factory=LossConfig)
    positive_repeats: int = 1
    """How often a scan with any positive label comes in an epoch; 1 is the paper's plain sampling."""
    validation_fraction: float = 0.1
    """Of the training split, held out by scan to choose the epoch; the test split is never looked at."""
    seed: int = 0

    def __post_init__(self) -> None:
        if self.batch_size < 1 or self.max_epochs < 1:
            raise ValueError(f"batch_size and max_epochs must be >= 1, got {self.batch_size} and {self.max_epochs}")
        if self.positive_repeats < 1:
            raise ValueError(f"positive_repeats must be >= 1, got {self.positive_repeats}")
        if not self.learning_rate > 0:
            raise ValueError(f"learning_rate must be > 0, got {self.learning_rate}")
        if not 0 <= self.validation_fraction < 1:
            raise ValueError(f"validation_fraction must be in [0, 1), got {self.validation_fraction}")
        if not 32 <= self.image_size_px <= self.resize_px:
            raise ValueError(
                f"image_size_px must be in 32..resize_px, got {self.image_size_px} with resize_px {self.resize_px}"
            )
        if self.backbone_weights is not None and not self.pretrained:
            raise ValueError("backbone_weights must go with pretrained, got them without; drop --no-pretrained")

    def to_json(self) -> dict[str, Any]:
        """Return the JSON form that runs and models record; equal configs give equal documents."""
        named = {
            name: {"name": type(getattr(self, name)).__name__} | asdict(getattr(self, name))
            for name in ("optimizer", "schedule")
        }
        # By way of JSON text, so that what was read back equals what is compared with it: tuples are lists there.
        document: dict[str, Any] = json.loads(json.dumps(asdict(self) | named))
        return document
