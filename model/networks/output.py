"""The output of a network: logits and heatmaps of every level, attention, and the fused prediction."""

from collections.abc import Iterator
from dataclasses import dataclass

from torch import Tensor


@dataclass(frozen=True, slots=True)
class NetworkOutput:
    """The output of a network for a batch, from one pass: the input of scores, peaks and losses."""

    level_logits_LBK: Tensor
    """float32; level 1 (finest) first."""
    heatmaps: tuple[Tensor, ...]
    """Class activation maps of level 1 to L, each float32 (B, K, h, w), in logits: the mean over the cells of a
    map is that level's logit."""
    log_weights_BL: Tensor | None = None
    """float32, the logarithms of the levels' weights in the fused prediction, -inf for 0; the weights sum to 1; None:
    equal weights."""
    attention_B1hw: Tensor | None = None
    """float32 in [0, 1], the attention mask; None if the network has no attention head."""

    @property
    def logits_BK(self) -> Tensor:
        """The fused prediction, taken of logits, not probabilities.

        With equal weights it is the mean over levels (Eq. 5 of the CHR paper, Eq. 1 of SXMNet's), else their sum
        weighted per scan (Eq. 2 of SXMNet's). The papers fuse the classifiers' outputs y; their losses take logarithms
        of y, so y could also mean probabilities. A mean of logits keeps the order within a level, does not saturate,
        and suits `sigmoid(logits)` as the score of a prediction.
        """
        if self.log_weights_BL is None:
            return self.level_logits_LBK.mean(dim=0)
        return (self.log_weights_BL.exp().T[:, :, None] * self.level_logits_LBK).sum(dim=0)

    def named_tensors(self) -> Iterator[tuple[str, Tensor]]:
        """Yield all tensors under their names in exports (`model.artifacts.export`), the batch first in each."""
        yield "logits", self.logits_BK
        yield "level_logits", self.level_logits_LBK.transpose(0, 1)
        for level, heatmap_BKhw in enumerate(self.heatmaps, start=1):
            yield f"heatmap_{level}", heatmap_BKhw
        if self.log_weights_BL is not None:
            yield "level_weights", self.log_weights_BL.exp()
        if self.attention_B1hw is not None:
            yield "attention", self.attention_B1hw

    @classmethod
    def from_named(cls, tensors: dict[str, Tensor]) -> "NetworkOutput":
        """Return the output with these `named_tensors`."""
        weights_BL = tensors.get("level_weights")
        return cls(
            tensors["level_logits"].transpose(0, 1),
            tuple(tensor for name, tensor in tensors.items() if name.startswith("heatmap_")),
            None if weights_BL is None else weights_BL.log(),
            tensors.get("attention"),
        )
