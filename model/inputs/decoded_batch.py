"""Hold a batch while it is decoded: its images by place, what has been decoded, and why some cannot be.

Shapes: B batch  P images of a part  C colour  H W pixels
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import numpy as np
from torch import Tensor

from model.inputs.dali_pipeline import Taken
from shards.images.decode import check_decodable, without_alpha
from shards.images.inspect import ImageBytes

_TAIL_BYTES = 64
"""Where the end marker of a JPEG is looked for; encoders fill the last word."""


class Decoded(NamedTuple):
    """A batch of images."""

    images_BCHW: Tensor
    """float32, normalised, in the memory format asked for, on the device. A place without an image holds zeros; with
    crops the first image of the batch, for a batch norm in training sees every place."""
    errors: dict[int, str]
    """DALI's message by place, of images that cannot be decoded."""
    windows_B4: Tensor
    """float32, on the CPU: what trimming left of each scan, see `model.inputs.crop_geometry`."""


@dataclass(slots=True)
class PendingBatch:
    """A batch while it is decoded."""

    augmentations_B3: np.ndarray | None
    windows_B4: np.ndarray
    pipeline: int
    """Which one decodes it."""
    blank: Callable[[int], Tensor]
    """Makes zeros for a number of images, (B, C, H, W)."""
    arrays: dict[int, np.ndarray] = field(default_factory=dict)
    """Encoded images by place."""
    errors: dict[int, str] = field(default_factory=dict)
    images_BCHW: Tensor | None = None
    is_started: bool = False

    def take_images(self, encoded: Sequence[ImageBytes | None], *, with_end_check: bool) -> None:
        """Keep the images that are there; with a check of their end, refuse JPEGs that are cut short."""
        for place, image in enumerate(encoded):
            if image is not None:
                try:
                    if with_end_check and _lacks_end(image):
                        check_decodable(bytes(image))
                    self.arrays[place] = np.frombuffer(without_alpha(image), np.uint8)
                except (OSError, SyntaxError, ValueError) as error:
                    self.errors[place] = f"{type(error).__name__}: {error}"

    def select_augmentations(self, places: Sequence[int]) -> np.ndarray | None:
        """Return the augmentations of some places, if there are any."""
        return None if self.augmentations_B3 is None else self.augmentations_B3[list(places)]

    def put(self, places: list[int], taken: Taken) -> None:
        """Put decoded images into their places."""
        if taken.windows_P4 is not None:
            self.windows_B4[places] = taken.windows_P4
        if len(places) == len(self.windows_B4):
            self.images_BCHW = taken.images_PCHW
            return
        if self.images_BCHW is None:
            self.images_BCHW = self.blank(len(self.windows_B4))
        self.images_BCHW[places] = taken.images_PCHW

    def finish(self, *, repeats_first: bool) -> Tensor:
        """Return the images; a place without one holds zeros, or the first image of the batch."""
        num_images = len(self.windows_B4)
        images_BCHW = self.blank(num_images) if self.images_BCHW is None else self.images_BCHW
        decoded = self.arrays.keys() - self.errors.keys()
        if repeats_first and 0 < len(decoded) < num_images:
            empty = [place for place in range(num_images) if place not in decoded]
            images_BCHW[empty] = images_BCHW[min(decoded)].clone()
        return images_BCHW


def _lacks_end(image: ImageBytes) -> bool:
    return image[:2] == b"\xff\xd8" and b"\xff\xd9" not in bytes(image[-_TAIL_BYTES:])
