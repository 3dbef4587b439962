"""Colour pieces of a drawing: contours, trapped-ball filling, and the release's clearing up. arXiv 2104.02495, section 4.1."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from training.animeinterp.behaviour import Behaviour
from training.animeinterp.contours import JAPAN, ContourStyle, contour_map, free_map
from training.animeinterp.merging import absorb_lines, merge_small, order_by_area
from training.animeinterp.trapped_ball import fill_map


def color_pieces(bgr_u8: NDArray[np.uint8], *, style: ContourStyle = JAPAN, behaviour: Behaviour = Behaviour.RELEASED,
                 ) -> NDArray[np.int32]:
    """Returns the piece of each pixel [h, w], 0 .. K - 1 by increasing area, of a picture [h, w, 3] in BGR.

    The paper ends with the trapped balls; that lines are absorbed is chosen for it here, so that every pixel has a piece.
    The release merges small pieces by colour before.
    """
    labels = fill_map(free_map(contour_map(bgr_u8, style))).labels
    if behaviour is Behaviour.RELEASED:
        labels = merge_small(labels, bgr_u8)
    return order_by_area(absorb_lines(labels))
