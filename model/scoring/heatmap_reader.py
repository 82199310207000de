"""Compute the heatmaps of single scans with the model that scored them.

Shapes: B batch of one  K classes  L levels  H W pixels of a scan
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image
from torch import Tensor

from model.artifacts.saved_model import load_model
from model.hardware import Hardware
from model.inputs.decoder import BatchDecoder
from model.scoring.engine_selection import EngineSpec
from model.scoring.engines import build_engine
from model.scoring.heatmaps import fuse_heatmaps
from shards.format.shard_reader import ReadScan
from shards.images.decode import decode_image


class UndrawableError(Exception):
    """A scan cannot be read or decoded; the others can."""


@dataclass(frozen=True, slots=True)
class Heatmaps:
    """Where in a scan a network sees each class."""

    picture: Image.Image
    """The scan, RGB."""
    classes_KHW: npt.NDArray[np.float32]
    """In logits."""
    attention_HW: npt.NDArray[np.float32] | None
    """The attention mask, in [0, 1]; None for a network without one."""
    log_weights_BL: Tensor | None
    """What each level weighs, the finest first; None where all weigh the same."""


class HeatmapReader:
    """A model on this machine, which looks at one scan at a time."""

    def __init__(self, folder: str, model_id: str, hardware: Hardware) -> None:
        """Load the model of a folder; ValueError unless it is the one that made the predictions, `model_id`."""
        model = load_model(folder)
        if model.model_id != model_id:
            raise ValueError(
                f"model must be the one that made the predictions, {model_id}, got {model.model_id} ({folder}); name "
                "its folder, or score with this one first"
            )
        self._compute = build_engine(EngineSpec("eager", "float32"), model.network, model.config, hardware)
        self._decoder = BatchDecoder(model.config.input, hardware, batch_size=1)

    def read(self, scan: ReadScan) -> Heatmaps:
        """Return the heatmaps of a scan; UndrawableError if it cannot be read or decoded."""
        if scan.image is None:
            assert scan.refusal is not None
            raise UndrawableError(f"{scan.refusal.reason}: {scan.refusal.detail}")
        decoded = self._decoder.decode([scan.image])
        if decoded.errors:
            raise UndrawableError(f"undecodable: {decoded.errors[0]}")
        output, window = self._compute(decoded.images_BCHW), tuple(decoded.windows_B4[0].tolist())
        picture = decode_image(scan.image).convert("RGB")
        seen = (picture.height, picture.width, window)
        attention_HW = None if output.attention_B1hw is None else fuse_heatmaps([output.attention_B1hw], *seen)[0]
        return Heatmaps(picture, fuse_heatmaps(output.heatmaps, *seen), attention_HW, output.log_weights_BL)
