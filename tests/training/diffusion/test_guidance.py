"""Promise: guidance asks only for the passes it needs and keeps each sample's spread where it is told to."""

import torch

from training.diffusion.guidance import Branch, Guidance, guide, guide_three, rescale_spread


def make_predictions(seed=0):
    torch.manual_seed(seed)
    return {branch: torch.randn(2, 4, 3, 5, 5) for branch in Branch}


def test_scale_one_needs_and_returns_the_conditioned_pass_alone():
    full = torch.randn(2, 4)
    for guidance in (Guidance(scale=1.0), Guidance(scale=1.0, image_scale=4.0)):
        assert guidance.branches == (Branch.FULL,)
        assert guidance.combine({Branch.FULL: full}) is full
    assert guide(full, None, 1.0, 0.7) is full


def test_two_and_three_branches_list_their_passes():
    assert Guidance(scale=7.5).branches == (Branch.FULL, Branch.UNCOND)
    assert set(Guidance(scale=7.5, image_scale=4.0).branches) == set(Branch)


def test_image_scale_one_works_without_the_unconditional_pass():
    predictions = make_predictions()
    guidance = Guidance(scale=7.5, rescale=0.7, image_scale=1.0)
    assert guidance.branches == (Branch.FULL, Branch.IMAGE_ONLY)
    found = guidance.combine({branch: predictions[branch] for branch in guidance.branches})
    full, image, uncond = (predictions[branch] for branch in (Branch.FULL, Branch.IMAGE_ONLY, Branch.UNCOND))
    # v_u + 1 (v_i - v_u) + s (v_c - v_i) with the pass that cancels written out
    expected = rescale_spread(uncond + (image - uncond) + 7.5 * (full - image), full, 0.7)
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


def test_three_branches_are_the_published_sum():
    predictions = make_predictions()
    full, image, uncond = (predictions[branch] for branch in (Branch.FULL, Branch.IMAGE_ONLY, Branch.UNCOND))
    found = guide_three(full, image, uncond, scale=7.5, image_scale=4.0)
    torch.testing.assert_close(found, uncond + 4 * (image - uncond) + 7.5 * (full - image), atol=1e-4, rtol=1e-4)


def test_three_branches_with_equal_scales_are_two():
    predictions = make_predictions()
    full, image, uncond = (predictions[branch] for branch in (Branch.FULL, Branch.IMAGE_ONLY, Branch.UNCOND))
    torch.testing.assert_close(guide_three(full, image, uncond, scale=3.0, image_scale=3.0, rescale=0.5),
                               guide(full, uncond, 3.0, 0.5), atol=1e-5, rtol=1e-5)


def test_full_rescale_gives_each_sample_the_spread_of_its_conditioned_pass():
    full, uncond = torch.randn(2, 4, 3, 5, 5) * torch.tensor([1.0, 9.0]).view(2, 1, 1, 1, 1), torch.randn(2, 4, 3, 5, 5)
    found = guide(full, uncond, 7.5, 1.0)
    torch.testing.assert_close(found.flatten(1).std(1), full.flatten(1).std(1))


def test_rescale_uses_the_unbiased_deviation():
    # Two values each: unbiased deviations 1/sqrt(2) and 2/sqrt(2); the ratio alone would not tell, so mix sizes by hand.
    v, cond = torch.tensor([[0.0, 1.0]]), torch.tensor([[0.0, 2.0, 4.0]])
    # unbiased: std(cond) = 2, std(v) = 0.7071: ratio 2.8284; biased: 1.6330 / 0.5 = 3.2660
    torch.testing.assert_close(rescale_spread(v, cond, 1.0), torch.tensor([[0.0, 2.8284271]]))


def test_a_network_that_still_gives_zeros_is_guided_to_zeros():
    zeros = torch.zeros(2, 4, 3)
    assert torch.equal(guide(zeros, zeros, 7.5, 0.7), zeros)


def test_half_precision_predictions_are_combined_in_float32():
    full, uncond = torch.randn(2, 4).bfloat16(), torch.randn(2, 4).bfloat16()
    found = guide(full, uncond, 7.5, 0.7)
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, guide(full.float(), uncond.float(), 7.5, 0.7))
