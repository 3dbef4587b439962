"""Promise: pooling, affinity, penalties, partners and flows reproduce the stored segment-guided matching."""

import numpy as np
import pytest
import torch
from cases import cases

from training.animeinterp.behaviour import Behaviour
from training.animeinterp.features import pool
from training.animeinterp.matching import Pieces, affinity, match, matching_degree, normalised
from training.animeinterp.piece_flow import Frame, coarse_flow

PAPER, RELEASED = Behaviour.PAPER, Behaviour.RELEASED
NEAR_PX, SHARE_NEAR = 0.25, 0.98


def array(case, name):
    return case.tensors[name].numpy()


def labels_of(case, index):
    return array(case, f"labels{index}").astype(np.int32)


def stored_features(case, index):
    return array(case, f"pooled{index}").T.astype(np.float64)


def degrees(case, behaviour):
    """The affinity and the matching degree of the stored features."""
    found = affinity(*(normalised(stored_features(case, index), behaviour) for index in (0, 1)))
    return found, matching_degree(found, *(Pieces.of(labels_of(case, index)) for index in (0, 1)), behaviour)


@pytest.mark.parametrize("case", cases("sgm"))
@pytest.mark.parametrize("index", [0, 1])
def test_pooling_and_measures_agree(case, index):
    maps = [case.tensors[f"feat{index}_s{scale}"] for scale in range(len(case.record["feature_channels"]))]
    found = pool(maps, labels_of(case, index))
    assert len(found) == case.record[f"K{index}"]
    case.check(torch.from_numpy(found.T), f"pooled{index}", rtol=1e-4, atol=1e-6)
    case.check(torch.from_numpy(normalised(found, RELEASED).T), f"norm{index}")
    pieces = Pieces.of(labels_of(case, index))
    np.testing.assert_array_equal(pieces.areas, array(case, f"count{index}"))
    case.check(torch.from_numpy(pieces.centroids.T), f"centroid{index}")


@pytest.mark.parametrize("case", cases("sgm"))
@pytest.mark.parametrize(("behaviour", "names"), [(RELEASED, ("affinity", "matching_released")),
                                                  (PAPER, ("affinity_paper", "matching_paper"))])
def test_affinity_and_penalties_agree(case, behaviour, names):
    for found, name in zip(degrees(case, behaviour), names, strict=True):
        case.check(torch.from_numpy(found), name)


@pytest.mark.parametrize("case", cases("sgm"))
def test_released_partners_agree(case):
    found = match(array(case, "matching_released"), RELEASED)
    for partners, sums, name in ((found.forward, found.rank_sums.min(axis=1), "0to1"),
                                 (found.backward, found.rank_sums.min(axis=0), "1to0")):
        expected, is_mutual = array(case, f"match_{name}"), array(case, f"rank_sum_{name}") == 0
        np.testing.assert_array_equal(sums == 0, is_mutual)
        np.testing.assert_array_equal(partners[is_mutual], expected[is_mutual])
    np.testing.assert_array_equal(found.is_mutual, array(case, "rank_sum_0to1") == 0)
    np.testing.assert_array_equal(found.is_mutual_backward, array(case, "rank_sum_1to0") == 0)
    assert found.is_mutual.sum() == case.record["mutual_pairs"]


@pytest.mark.parametrize("case", cases("sgm"))
def test_paper_partners_agree(case):
    found = match(array(case, "matching_paper"), PAPER)
    np.testing.assert_array_equal(found.forward, array(case, "match_0to1_paper"))
    np.testing.assert_array_equal(found.backward, array(case, "match_1to0_paper"))
    np.testing.assert_array_equal(found.is_mutual, array(case, "consistent_0_paper") > 0)


@pytest.mark.parametrize("case", cases("sgm"))
def test_flows_agree_from_labels_and_features_on(case):
    frames = [Frame.of(array(case, f"image{index}_bgr"), labels_of(case, index)) for index in (0, 1)]
    found = match(degrees(case, RELEASED)[1], RELEASED)
    for flow, name in ((coarse_flow(*frames, found.forward, found.is_mutual, RELEASED), "flow01"),
                       (coarse_flow(*frames[::-1], found.backward, found.is_mutual_backward, RELEASED), "flow10")):
        expected = array(case, name)
        np.testing.assert_array_equal((flow != 0).any(axis=0), (expected != 0).any(axis=0))
        is_near = (np.abs(flow - expected) <= NEAR_PX).all(axis=0)[(expected != 0).any(axis=0)]
        assert is_near.mean() >= SHARE_NEAR
        if name == "flow01":
            assert len(np.unique(labels_of(case, 0)[(flow != 0).any(axis=0)])) == case.record["regions_with_flow_0to1"]
