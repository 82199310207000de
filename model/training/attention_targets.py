"""Draw an ellipse in each box of a scan, at the resolution of a mask or of a class activation map.

Paper: B. Hu et al., ACCV 2020, Section 3.2, "Ground-truth Generation": "we generate an inline ellipse of each annotated
bounding box, where pixels inside the ellipse is set to 1 and others are 0" (its Figure 5). The paper does not say
whether on the scan or on the mask's grid; here a cell of the mask is inside if its centre is.

Shapes: B batch  K classes  M boxes of a batch  h w cells of a mask
"""

import torch
from torch import Tensor

from model.inputs.batch import Boxes


def draw_ellipses(boxes: Boxes, num_scans: int, num_rows: int, num_columns: int) -> Tensor:
    """Return 1 for cells inside the ellipse of a box of their scan, else 0; (B, 1, h, w), float32.

    A box that the crop cuts keeps its ellipse. The cell with the centre of a box is always 1, so that an item smaller
    than a cell does not vanish (ours).
    """
    return _draw(boxes.edges_M4, boxes.scans_M, num_scans, num_rows, num_columns)[:, None]


def draw_class_ellipses(boxes: Boxes, num_scans: int, num_classes: int, num_rows: int, num_columns: int) -> Tensor:
    """Return the same for the boxes of each class, (B, K, h, w); those of other classes are left out."""
    scored_M = boxes.classes_M >= 0
    places_M = boxes.scans_M[scored_M] * num_classes + boxes.classes_M[scored_M]
    drawn = _draw(boxes.edges_M4[scored_M], places_M, num_scans * num_classes, num_rows, num_columns)
    return drawn.view(num_scans, num_classes, num_rows, num_columns)


def _draw(edges_M4: Tensor, places_M: Tensor, num_masks: int, num_rows: int, num_columns: int) -> Tensor:
    """Return masks (masks, h, w) of the boxes with the places of their masks."""
    left_M, top_M, right_M, bottom_M = (edges_M[:, None] for edges_M in edges_M4.unbind(dim=1))
    x_Mw = _distance(left_M, right_M, num_columns)
    y_Mh = _distance(top_M, bottom_M, num_rows)
    holds_centre_Mhw = _holds(top_M, bottom_M, num_rows)[:, :, None] & _holds(left_M, right_M, num_columns)[:, None, :]
    inside_Mhw = (y_Mh.square()[:, :, None] + x_Mw.square()[:, None, :] <= 1) | holds_centre_Mhw
    counts = torch.zeros(num_masks, num_rows, num_columns, device=edges_M4.device)
    counts.index_add_(0, places_M, inside_Mhw.to(counts.dtype))
    return (counts > 0).to(counts.dtype)


def _distance(low_M1: Tensor, high_M1: Tensor, num_cells: int) -> Tensor:
    """Return the distance of each cell's centre from a box's, in halves of its side; (M, cells)."""
    centres_c = (torch.arange(num_cells, device=low_M1.device) + 0.5) / num_cells
    return (centres_c - (low_M1 + high_M1) / 2) / ((high_M1 - low_M1) / 2)


def _holds(low_M1: Tensor, high_M1: Tensor, num_cells: int) -> Tensor:
    """Say which cell a box's centre lies in, none if it was cropped off; bool (M, cells)."""
    cell_M1 = torch.floor((low_M1 + high_M1) / 2 * num_cells)
    return cell_M1 == torch.arange(num_cells, device=low_M1.device)
