"""Project objects of training scans into others as these are fed: threat image projection on the fly.

As `sixray project` does on disk: half of the objects are items, with their class and box, the others objects of scans
without an item, so that a projection by itself says nothing about the label. What is drawn follows from (seed, epoch,
entry) alone: not from batch size, rank, worker or point of resumption.

Shapes: V views of an epoch  B batch  K classes  M boxes of a batch  H W pixels  C colour
"""

from collections import defaultdict
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from model.inputs.batch import Batch, Boxes
from model.inputs.sample_table import SampleTable
from model.inputs.sampling import seeded_generator
from model.networks.config import InputConfig
from shards.format.classes import UNKNOWN
from shards.images.cutouts import Cutout, Extent, Pixels, cut_object, find_dense_objects, find_white, fits_scanner
from shards.images.decode import decode_image
from shards.images.projection import find_projection

MAX_DONORS = 200
"""Of each class; what was cut out is kept, some 0.1 MB each."""
_OTHER = -1
"""In place of the class of an object that is no item."""
_NUM_CANDIDATES = 4


class _Donor(NamedTuple):
    row: int
    box: tuple[float, ...]
    """In pixels; empty for another object that is still to be found."""


def epoch_projections(num_entries: int, num_views: int, seed: int, epoch: int) -> np.ndarray:
    """Return float64 (V, 2): whether each entry of an epoch gets an object, below its share, and what is drawn for it.

    The other scans of mixed ones, behind the entries, get none.
    """
    draws_V2 = np.ones((num_views, 2))
    draws_V2[:num_entries] = seeded_generator(seed, epoch, 6).random((num_entries, 2))
    return draws_V2


class Projector:
    """The objects of a table of samples, cut out when they are first asked for."""

    def __init__(self, samples: SampleTable, share: float, normalisation: InputConfig, resize_px: int, seed: int):
        """List what can be projected.

        Args:
            samples: of the training scans; their boxes hold the items.
            share: of the scans that get an object.
            normalisation: of the images.
            resize_px: side of the square that a scan is squashed to before its crop.
            seed: chooses the objects of a large table.

        Raises:
            ValueError: no scored class has a box, or no scan is without an item.
        """
        self._samples, self._share, self._resize_px, self._seed = samples, share, resize_px, seed
        self._mean_C, self._std_C = (np.array(of, np.float32) for of in (normalisation.mean, normalisation.std))
        self._groups = samples.groups.to_pylist()
        self._donors = {kind: self._choose(kind, found) for kind, found in sorted(self._list_donors().items())}
        self._items = [kind for kind in self._donors if kind != _OTHER]
        if not self._items or _OTHER not in self._donors:
            what = "a scored class" if not self._items else "a scan without an item"
            raise ValueError(
                f"scans to project from must have boxes of scored classes and some no item, got none with {what}; "
                f"leave --projected out"
            )
        self._cutouts: dict[_Donor, Cutout | None] = {}

    def project(self, batch: Batch, draws_B2: np.ndarray) -> Batch:
        """Return a batch whose chosen scans have an object more, where it finds a place within a bag.

        An item's class is present in its scan, and its box the last of the batch; the scan's level is unknown then.

        Args:
            batch: as it was decoded.
            draws_B2: of `epoch_projections`, the rows of its entries.
        """
        is_known_B = (batch.labels_BK != UNKNOWN).any(dim=1).numpy()
        places = np.flatnonzero((draws_B2[:, 0] < self._share) & is_known_B).tolist()
        if not places:
            return batch
        images_BCHW = batch.images_BCHW.clone(memory_format=torch.channels_last)
        labels_BK, levels_B, boxes = batch.labels_BK.clone(), batch.levels_B.clone(), batch.boxes
        for place in places:
            rng = np.random.default_rng(int(draws_B2[place, 1] * 2**53))
            taken_M4 = boxes.edges_M4[boxes.scans_M == place].numpy()
            found = self._project(images_BCHW[place], int(batch.rows_B[place]), taken_M4, rng)
            if found is not None and found[0] != _OTHER:
                labels_BK[place, found[0]] = 1
                levels_B[place] = 0
                boxes = self._add_box(boxes, place, *found, images_BCHW.shape[-1])
        return batch._replace(images_BCHW=images_BCHW, labels_BK=labels_BK, boxes=boxes, levels_B=levels_B)

    def _project(
        self, image_CHW: Tensor, row: int, taken_M4: np.ndarray, rng: np.random.Generator
    ) -> tuple[int, Extent] | None:
        """Multiply an object into an image, in place; return its kind and extent, None if it finds no place."""
        light_HWC = image_CHW.permute(1, 2, 0).cpu().numpy() * self._std_C + self._mean_C
        pixels_HWC: Pixels = np.rint(255 * light_HWC.clip(0, 1)).astype(np.uint8)
        white = find_white(pixels_HWC)
        taken = [Extent(*map(int, edges)) for edges in (taken_M4 * len(pixels_HWC)).clip(0, len(pixels_HWC))]
        squash = (
            self._resize_px / float(self._samples.widths_px_N[row]),
            self._resize_px / float(self._samples.heights_px_N[row]),
        )
        kind, cutouts = self._draw(row, rng)
        for cutout in sorted(cutouts, key=lambda cutout: not fits_scanner(cutout.white, white)):
            found = find_projection(pixels_HWC, white, cutout, rng, taken, squash)
            if found is not None:
                at, own_HWC = found
                seen_HWC = light_HWC[at.top : at.bottom, at.left : at.right] * np.exp(-own_HWC)
                part = torch.from_numpy((seen_HWC - self._mean_C) / self._std_C).permute(2, 0, 1)
                image_CHW[:, at.top : at.bottom, at.left : at.right] = part.to(image_CHW)
                return kind, at
        return None

    def _draw(self, row: int, rng: np.random.Generator) -> tuple[int, list[Cutout]]:
        """Return a kind and objects of it from other bags."""
        kind = self._items[rng.integers(len(self._items))] if rng.random() < 0.5 else _OTHER
        donors = self._donors[kind]
        others = (
            donors[at] for at in rng.permutation(len(donors)) if self._groups[donors[at].row] != self._groups[row]
        )
        cut = (self._cut(donor) for donor, _ in zip(others, range(_NUM_CANDIDATES), strict=False))
        return kind, [cutout for cutout in cut if cutout is not None]

    def _cut(self, donor: _Donor) -> Cutout | None:
        if donor not in self._cutouts:
            self._cutouts[donor] = self._cut_anew(donor)
        return self._cutouts[donor]

    def _cut_anew(self, donor: _Donor) -> Cutout | None:
        try:
            pixels_HWC = np.asarray(decode_image(self._samples.read_image(donor.row)).convert("RGB"))
        except (OSError, SyntaxError, ValueError):
            return None  # the feed names the scan
        white = find_white(pixels_HWC)
        if donor.box:
            left, top, right, bottom = donor.box
            return cut_object(pixels_HWC, (left, top, right, bottom), white)
        found = find_dense_objects(pixels_HWC, white)
        order = np.random.default_rng((self._seed, donor.row)).permutation(len(found))
        cut = (cut_object(pixels_HWC, found[at], white) for at in order)
        return next((cutout for cutout in cut if cutout is not None), None)

    def _list_donors(self) -> dict[int, list[_Donor]]:
        samples = self._samples
        edges_M4, rows_M, classes_M = samples.boxes_of(np.arange(len(samples)))
        sizes_M4 = np.tile(np.stack([samples.widths_px_N, samples.heights_px_N], axis=1), 2)[rows_M]
        donors: defaultdict[int, list[_Donor]] = defaultdict(list)
        for row, kind, box in zip(rows_M.tolist(), classes_M.tolist(), (edges_M4 * sizes_M4).tolist(), strict=True):
            if kind >= 0:
                donors[kind].append(_Donor(row, tuple(box)))
        is_clean_N = (samples.num_boxes_N == 0) & (samples.labels_NK == 0).all(axis=1)
        if is_clean_N.any():
            donors[_OTHER] = [_Donor(row, ()) for row in np.flatnonzero(is_clean_N).tolist()]
        return donors

    def _choose(self, kind: int, donors: list[_Donor]) -> list[_Donor]:
        order = np.random.default_rng((self._seed, kind + 1)).permutation(len(donors))
        return [donors[at] for at in order[:MAX_DONORS]]

    def _add_box(self, boxes: Boxes, place: int, kind: int, at: Extent, side_px: int) -> Boxes:
        edges_14 = torch.tensor([at], dtype=torch.float32) / side_px
        area = at.width * at.height / self._resize_px**2
        more = (edges_14, torch.tensor([area]), torch.tensor([place]), torch.tensor([kind]))
        return Boxes(*(torch.cat([old, new.to(old)]) for old, new in zip(boxes, more, strict=True)))
