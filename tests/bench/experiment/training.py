"""Train the heads of the compared systems on cached features, each run with the same number of scans.

Shapes: M composed scans  B batch  K classes  L levels  D features
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from model.networks.chr import HierarchicalNetwork
from model.networks.registry import start_at_prior
from model.training.config import AdamW, CosineSchedule
from model.training.losses import LossConfig, hierarchical_loss
from tests.bench.experiment.compositions import CLASSES, TRAINING, Compositions, IntArray
from tests.bench.experiment.features import HEAD, Features

NUM_STEPS, BATCH = 500, 48
"""24,000 scans a run at every ratio."""
_LEVELS = ("level-1", "level-2", "level-3")
_TOP = _LEVELS[-1:]
_SCORED_AT_ONCE = 128


@dataclass(frozen=True, slots=True)
class System:
    """A head and its loss."""

    levels: tuple[str, ...]
    """Names of features, finest first."""
    balanced: bool = False
    """The class-balanced loss (`c` of Table 4), with the threshold that is the default."""
    refine: bool = False
    """Reversed connections (`r` of Table 4)."""
    width: int | None = None
    """Of a 1x1 convolution with ReLU before the classifier, if there is one."""

    @property
    def is_pooled(self) -> bool:
        """Whether pooled features suffice: a linear classifier and the average commute."""
        return not self.refine and self.width is None

    @property
    def is_cheap(self) -> bool:
        """Whether it trains in seconds."""
        return not self.refine

    @property
    def loss(self) -> LossConfig:
        """Its loss, with the defaults of the recipes."""
        return LossConfig(balanced=self.balanced)


SYSTEMS = {
    "plain": System(_TOP),
    "plain + conv_head": System((HEAD,)),
    "plain + 1x1": System(_TOP, width=173),
    "plain + c": System(_TOP, balanced=True),
    "h": System(_LEVELS),
    "ch": System(_LEVELS, balanced=True),
    "hr": System(_LEVELS, refine=True),
    "chr": System(_LEVELS, balanced=True, refine=True),
}
"""`plain + 1x1` has as many weights as `chr` (tested); `plain + conv_head` is a linear classifier on the 1,280 features
that the backbone was trained with."""
_LOW, _HIGH = (5e-4, 2e-3, 8e-3), (2e-3, 8e-3, 3.2e-2)
RATES = {name: _HIGH if name in ("plain + conv_head", "h", "ch") else _LOW for name in SYSTEMS}
"""The highest of the schedule."""


@dataclass(frozen=True, slots=True)
class Run:
    """One training."""

    system: str
    fold: int
    ratio: int
    seed: int
    rate: float

    def __str__(self) -> str:
        return f"{self.system.replace(' ', '')}-fold{self.fold}-ratio{self.ratio}-seed{self.seed}-rate{self.rate}"


@dataclass(frozen=True, slots=True)
class Data:
    """Composed scans and their features."""

    plan: Compositions
    features: Features

    def targets(self, rows: IntArray) -> Tensor:
        """Return the labels (B, K) of scans, {0, 1}."""
        return torch.from_numpy(self.plan.class_M[rows, None] == np.arange(len(CLASSES))).float()


class Head(nn.Module):
    """A system's head on features, begun at the log prior."""

    def __init__(self, system: System, num_features: list[int], log_prior_K: Tensor) -> None:
        super().__init__()
        self.widen: nn.Module = nn.Identity()
        if system.width is not None:
            convolution = nn.Conv2d(num_features[0], system.width, kernel_size=1)
            nn.init.kaiming_normal_(convolution.weight, nonlinearity="relu")  # as `Refiner`
            nn.init.zeros_(convolution.bias)  # type: ignore[arg-type]
            self.widen, num_features = nn.Sequential(convolution, nn.ReLU()), [system.width]
        self.levels = HierarchicalNetwork(nn.Identity(), num_features, len(CLASSES), system.refine)
        start_at_prior(self.levels, log_prior_K)

    def forward(self, features: list[Tensor]) -> Tensor:
        """Return the logits of all levels (L, B, K)."""
        logits_LBK: Tensor = self.levels([self.widen(level) for level in features]).level_logits_LBK
        return logits_LBK


@dataclass(frozen=True, slots=True)
class Trained:
    """A head and what its loss counted."""

    head: Head
    counted_L: npt.NDArray[np.float64]
    """The share of negative labels that the loss counted at each level, over the last quarter of the steps."""


def train(run: Run, data: Data) -> Trained:
    """Return the head of a run; the seed gives its first weights and the order of the scans."""
    system, rows = SYSTEMS[run.system], data.plan.rows(run.fold, TRAINING, run.ratio)
    torch.manual_seed(run.seed)
    prior_K = data.targets(rows).mean(dim=0)
    depths = [data.features.pooled[name].shape[1] for name in system.levels]
    head = Head(system, depths, (prior_K / (1 - prior_K)).log()).to(memory_format=torch.channels_last)
    optimizer = torch.optim.AdamW(head.parameters(), lr=run.rate, weight_decay=AdamW().weight_decay)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: CosineSchedule().factor(min(step / NUM_STEPS, 1.0))
    )
    counted = []
    for step, batch in enumerate(draw_batches(rows, run.seed)):
        targets_BK = data.targets(batch)
        logits_LBK = head(data.features.batch(system.levels, batch, system.is_pooled))
        loss = hierarchical_loss(logits_LBK, targets_BK, system.loss)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        schedule.step()
        if step >= NUM_STEPS * 3 // 4:
            counts_LBK = system.loss.counted_labels(logits_LBK.detach(), targets_BK)
            counted.append(counts_LBK[:, targets_BK == 0].double().mean(dim=1).numpy())
    return Trained(head, np.mean(counted, axis=0))


def draw_batches(rows: IntArray, seed: int) -> Iterator[IntArray]:
    """Yield the scans of each step: one permutation after the other, the same for all systems."""
    random = np.random.default_rng(seed)
    num_scans = NUM_STEPS * BATCH
    order = np.concatenate([random.permutation(rows) for _ in range(-(-num_scans // len(rows)))])[:num_scans]
    yield from order.reshape(NUM_STEPS, BATCH)


def score(run: Run, head: Head, data: Data, rows: IntArray) -> npt.NDArray[np.float32]:
    """Return the fused logits of scans (B, K): the mean over levels."""
    system, parts = SYSTEMS[run.system], []
    with torch.inference_mode():
        for start in range(0, len(rows), _SCORED_AT_ONCE):
            batch = rows[start : start + _SCORED_AT_ONCE]
            parts.append(head(data.features.batch(system.levels, batch, system.is_pooled)).mean(dim=0).numpy())
    return np.concatenate(parts)
