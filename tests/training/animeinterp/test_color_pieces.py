"""Promise: contours, merging and absorbing equal their plain descriptions, and every pixel ends in a piece."""

import cv2
import literal_segmentation as literal
import numpy as np
import pytest
from drawn_pairs import drawn_pair
from scipy import ndimage

from training.animeinterp.behaviour import Behaviour
from training.animeinterp.contours import DISNEY, JAPAN, contour_map, free_map, joined_to_strong
from training.animeinterp.merging import absorb_lines, merge_small, order_by_area
from training.animeinterp.segment import color_pieces


def patchwork(seed, height=60, width=80, num=150):
    """A label map of many small pieces between lines, and a noisy picture to go with it."""
    draws = np.random.RandomState(seed)
    centres = draws.uniform(size=(num, 2)) * (height, width)
    places = np.stack(np.meshgrid(np.arange(height), np.arange(width), indexing="ij"), axis=-1)
    distances = np.linalg.norm(places[:, :, None] - centres, axis=3)
    labels = distances.argmin(axis=2).astype(np.int32) + 1
    near = np.sort(distances, axis=2)
    labels[near[..., 1] - near[..., 0] < 0.6] = 0
    labels[draws.uniform(size=labels.shape) < 0.02] = 0
    colors = draws.randint(0, 256, (num + 1, 3)) // 40 * 40
    picture = np.clip(colors[labels] + draws.randint(-6, 7, (height, width, 3)) * draws.randint(0, 2, (height, width, 1)), 0, 255)
    return labels, picture.astype(np.uint8)


# Among these are pieces that decide anew because a neighbour moved, and outlines that are one point: such pictures are rare.
@pytest.mark.parametrize(("num", "seed"), [(60, 50), (60, 54), (100, 15), (150, 3), (150, 53), (250, 0), (400, 33)])
def test_merging_equals_its_description(num, seed):
    labels, picture = patchwork(seed, 80, 110, num)
    expected = literal.merge_small(labels, picture)
    assert len(np.unique(expected)) < len(np.unique(labels))
    np.testing.assert_array_equal(merge_small(labels, picture), expected)


def test_merging_of_plain_colours_equals_its_description():
    """Plain pieces are all alike, whatever their colours, so that ties decide."""
    labels, picture = patchwork(3)
    plain = picture // 64 * 64
    np.testing.assert_array_equal(merge_small(labels, plain), literal.merge_small(labels, plain))


@pytest.mark.parametrize("seed", range(3))
def test_absorbing_lines_equals_its_description(seed):
    labels, _ = patchwork(seed, num=12)
    thick = np.where(cv2.dilate((labels == 0).astype(np.uint8), np.ones((3, 5), np.uint8)) > 0, 0, labels)
    np.testing.assert_array_equal(absorb_lines(thick), literal.absorb_lines(thick))


def test_the_first_row_and_column_are_never_read_from_inside():
    labels = np.zeros((4, 4), np.int32)
    labels[0] = 7
    assert (absorb_lines(labels)[1:] == 0).all()
    assert (absorb_lines(labels[::-1].copy()) == 7).all()


@pytest.mark.parametrize("seed", range(3))
def test_weak_contours_stay_where_a_path_leads_to_a_strong_one(seed):
    response = cv2.GaussianBlur(np.random.RandomState(seed).normal(size=(50, 60, 3)).astype(np.float32) * 40, (0, 0), 1)
    candidates, _ = ndimage.label(response > 2)     # neighbours share a face, across channels too
    expected = (response > 2) & np.isin(candidates, np.unique(candidates[response > 20]))
    assert 0 < expected.sum() < (response > 2).sum()
    np.testing.assert_array_equal(joined_to_strong(response, 2, 20), expected)


def test_pieces_are_ordered_by_area_and_ties_by_label():
    labels = np.array([[5, 5, 5, 9], [2, 2, 9, 5], [0, 0, 0, 0]], np.int32)
    np.testing.assert_array_equal(order_by_area(labels), [[3, 3, 3, 1], [0, 0, 1, 3], [2, 2, 2, 2]])


@pytest.mark.parametrize("behaviour", Behaviour)
@pytest.mark.parametrize("style", [JAPAN, DISNEY])
def test_drawn_shapes_become_pieces_of_their_own(behaviour, style):
    picture = drawn_pair(144, 192, num_shapes=6, seed=1)[0]
    labels = color_pieces(picture, style=style, behaviour=behaviour)
    areas = np.bincount(labels.ravel())
    assert areas.sum() == labels.size and areas.min() > 0
    assert (np.diff(areas) >= 0).all()
    assert len(areas) >= 6 + 2, "six shapes, the wall and the floor"
    wall = labels[cv2.erode((picture == (205, 190, 170)).all(axis=2).astype(np.uint8), np.ones((5, 5))) > 0]
    assert np.bincount(wall).max() > 0.9 * len(wall), "the wall around the shapes is one piece"


def test_a_picture_of_one_colour_is_one_piece_without_contours():
    plain = np.full((40, 50, 3), 130, np.uint8)
    assert (free_map(contour_map(plain)) == 255).all()
    assert (color_pieces(plain) == 0).all()
