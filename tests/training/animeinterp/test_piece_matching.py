"""Promise: both penalties and mutual consistency follow the equations, each behaviour its own."""

import numpy as np
import pytest
import torch
from torch import nn

from pipeline import weights
from pipeline.errors import UserError
from training.animeinterp import features
from training.animeinterp.behaviour import Behaviour, Effort
from training.animeinterp.matching import Pieces, affinity, match, matching_degree, normalised

PAPER, RELEASED = Behaviour.PAPER, Behaviour.RELEASED
SIZE = (300, 400)               # the diagonal is 500 pixels


def pieces(*entries):
    areas, centroids = zip(*entries, strict=True)
    return Pieces(areas=np.array(areas), centroids=np.array(centroids, float), size=SIZE)


def penalty(first, second, behaviour):
    return -matching_degree(np.zeros((1, 1)), pieces(first), pieces(second), behaviour)[0, 0]


@pytest.mark.parametrize(("shift_px", "paper", "released"), [
    (60, 0.0, 0.0), (72, 0.0, 0.2 * 72 / 500), (75, 0.0, 0.2 * 75 / 500), (76, 0.2 * 76 / 500, 0.2 * 76 / 500)])
def test_distance_counts_beyond_a_share_of_the_diagonal(shift_px, paper, released):
    first, second = (100, (0, 0)), (100, (0, shift_px))
    assert penalty(first, second, PAPER) == pytest.approx(paper)
    assert penalty(first, second, RELEASED) == pytest.approx(released)


@pytest.mark.parametrize(("area", "paper", "released"), [
    (100, 0.0, 0.0), (300, 0.05 * 200 / 120_000, 0.0), (400, 0.05 * 300 / 120_000, 4 / 20), (25, 0.05 * 75 / 120_000, 4 / 20)])
def test_difference_of_sizes_counts(area, paper, released):
    assert penalty((100, (5, 5)), (area, (5, 5)), PAPER) == pytest.approx(paper)
    assert penalty((100, (5, 5)), (area, (5, 5)), RELEASED) == pytest.approx(released)


def test_affinity_is_the_sum_of_smaller_features():
    found = np.random.RandomState(0).uniform(size=(2, 7, 60))
    first, second = found[0][:5], found[1]
    expected = np.minimum(first[:, None], second[None]).sum(axis=2)
    np.testing.assert_allclose(affinity(first, second), expected, atol=1e-9)


def test_normalisation_of_nothing_is_nothing():
    given = np.array([[1.0, 3.0], [2.0, 2.0], [0.0, 0.0]])
    np.testing.assert_allclose(normalised(given, PAPER), [[0.25, 0.75], [0.5, 0.5], [0, 0]])
    np.testing.assert_allclose(normalised(given, RELEASED), [[0, 1], [0, 0], [0, 0]])


@pytest.mark.parametrize("behaviour", Behaviour)
def test_only_mutually_best_partners_are_kept(behaviour):
    degree = np.array([[0.9, 0.1, 0.2], [0.8, 0.3, 0.1], [0.1, 0.2, 0.7], [0.6, 0.5, 0.4]])
    found = match(degree, behaviour)
    # Piece 1 and 3 would like partner 0, which prefers piece 0; partner 1 prefers piece 3.
    assert found.is_mutual.tolist() == [True, False, True, False]
    assert found.is_mutual_backward.tolist() == [True, False, True]
    assert found.forward[[0, 2]].tolist() == [0, 2]
    assert found.backward[[0, 2]].tolist() == [0, 2]
    if behaviour is PAPER:
        assert found.forward.tolist() == [0, 0, 2, 0]
        assert found.backward.tolist() == [0, 3, 2]


@pytest.mark.parametrize("behaviour", Behaviour)
def test_both_behaviours_agree_on_who_is_mutual(behaviour):
    degree = np.random.RandomState(1).uniform(size=(40, 31))
    found = match(degree, behaviour)
    expected = degree.argmax(axis=0)[degree.argmax(axis=1)] == np.arange(40)
    np.testing.assert_array_equal(found.is_mutual, expected)
    assert 0 < expected.sum() < 31


def test_pooling_is_the_mean_over_each_piece_at_each_scale():
    labels = np.random.RandomState(0).randint(0, 5, (12, 14)).astype(np.int32)
    labels[0, 0] = 5                                    # on an even row: absent from the second scale on
    maps = [torch.rand(3, 12, 14), torch.rand(2, 6, 7)]
    found = features.pool(maps, labels)
    assert found.shape == (6, 5)
    for piece in range(6):
        np.testing.assert_allclose(found[piece, :3], maps[0][:, labels == piece].mean(dim=1), rtol=1e-5)
    small = labels[1::2, 1::2]
    np.testing.assert_allclose(found[2, 3:], maps[1][:, small == 2].mean(dim=1), rtol=1e-5)
    assert (found[5, 3:] == 0).all()


@pytest.mark.parametrize(("behaviour", "channels"), [(PAPER, [64, 128, 256, 512]), (RELEASED, [64, 128, 256, 512])])
def test_taps_are_rectified_layers_at_four_strides(behaviour, channels):
    network = features.Vgg19Features(behaviour)
    assert all(isinstance(network.features[tap], nn.ReLU) for tap in network.taps)
    with torch.device("meta"):
        maps = features.Vgg19Features(behaviour)(torch.empty(1, 3, 48, 64))
    assert [tuple(found.shape[1:]) for found in maps] == [(width, 48 >> i, 64 >> i) for i, width in enumerate(channels)]


def test_weights_of_torchvision_fit_and_others_are_refused(tmp_path):
    from torchvision.models import vgg19

    with torch.device("meta"):
        listed = vgg19(weights=None).state_dict()
    whole = {name: torch.full(tensor.shape if name.startswith("features.") else (1,), 0.5) for name, tensor in listed.items()}
    weights.write_tensors(tmp_path / "vgg19.safetensors", whole, {})
    network = features.load_vgg19(str(tmp_path / "vgg19.safetensors"))
    assert torch.equal(network.features[19].weight, whole["features.19.weight"])
    assert "sha256:" in network.identity
    del whole["features.5.weight"]
    weights.write_tensors(tmp_path / "other.safetensors", whole, {})
    with pytest.raises(UserError, match=r"features\.5\.weight"):
        features.load_vgg19(str(tmp_path / "other.safetensors"))


def test_stand_ins_depend_on_the_seed_alone():
    picture = np.random.RandomState(0).randint(0, 256, (40, 48, 3)).astype(np.uint8)
    labels = (np.arange(40)[:, None] // 20 * 2 + np.arange(48)[None] // 24).astype(np.int32)
    found = [features.stand_in_vgg19(seed=seed).pooled(picture, labels) for seed in (0, 0, 1)]
    np.testing.assert_array_equal(found[0], found[1])
    assert np.abs(found[0] - found[2]).max() > 0.01
    quick = features.stand_in_vgg19().pooled(picture, labels, Effort(halvings=1, is_bfloat16=True))
    assert quick.shape == found[0].shape
    assert np.corrcoef(quick[:, :8].ravel(), found[0][:, :8].ravel())[0, 1] > 0.9
