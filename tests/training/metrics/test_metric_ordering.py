"""Promise: an exact copy scores perfectly, and each metric notices the damage it is there to notice, and only that."""

import math
from functools import cache

import pytest
import torch
from damaged_clips import blurred, drawn_clip, frozen_at_first, noisy, pairs, shuffled

from training.metrics.metric import Direction, Frames
from training.metrics.suite import EMBEDDED_WEIGHTS, TABLE, MeasuringOptions, build_metrics, measure

OPTIONS = MeasuringOptions(weights=EMBEDDED_WEIGHTS)
DAMAGES = {"copy": lambda video: video.clone(), "blur": blurred, "noise": noisy, "repeat": frozen_at_first, "shuffle": shuffled,
           "more blur": lambda video: blurred(video, 4.0), "more noise": lambda video: noisy(video, 0.2)}
SHAPE = {"num_clips": 2, "num_frames": 10, "height": 72, "width": 96}
EVERYTHING = {"blur", "noise", "repeat", "shuffle"}
# What each number must notice, and what leaves it at the value of a copy because it looks elsewhere.
NOTICES = {
    "fvd_kvd": {"fvd": {"blur", "noise", "repeat"}, "kvd": {"blur", "noise", "repeat"}},
    "lpips_alex": {"lpips_alex": EVERYTHING}, "lpips_vgg": {"lpips_vgg": EVERYTHING},
    "clip_vit_b_32": {"clip_img": EVERYTHING},
    "psnr": {"psnr": {"blur", "noise"}},        # a frame that is exact makes the mean infinite: see below
    "ssim_rgb": {"ssim_rgb": EVERYTHING}, "ssim_table1": {"ssim_table1": EVERYTHING},
    "lines": {"line_chamfer": {"noise", "repeat", "shuffle"}, "line_hausdorff": {"noise", "repeat", "shuffle"}},
    "cpbd": {"cpbd": {"blur"}},
    "motion": {"warping_error": {"noise", "shuffle"}},
    "end_frames": {"psnr_first_frame": {"blur", "noise"}, "psnr_last_frame": {"blur", "noise", "repeat"}},
}
IGNORES = {"clip_vit_b_32": {"clip_txt": {"shuffle"}}, "cpbd": {"cpbd": {"shuffle"}},
           "end_frames": {"psnr_first_frame": {"shuffle", "repeat"}, "psnr_last_frame": {"shuffle"}}}


@cache
def measured(metric, damage):
    """Results of one metric by name."""
    return {result.name: result for result in measure(build_metrics([metric], OPTIONS), pairs(DAMAGES[damage], **SHAPE))}


def is_worse(result, than):
    return result.value > than.value if than.definition.direction is Direction.LOWER else result.value < than.value


@pytest.mark.parametrize("metric", TABLE)
def test_a_copy_scores_perfectly(metric):
    for name, result in measured(metric, "copy").items():
        if result.of_truth is not None:         # looks at one clip alone: a copy scores what the truth scores
            assert result.value == result.of_truth, name
        elif name == "kvd":                     # the unbiased estimate of equal sets lies a little below 0
            assert -0.1 * measured(metric, "blur")["kvd"].value < result.value <= 0
        elif result.definition.direction is Direction.LOWER:
            assert result.value == 0, name
        elif name == "line_ratio":
            assert result.value == 1
        else:
            assert result.value == pytest.approx(result.definition.highest, abs=1e-6), name


@pytest.mark.parametrize("metric", NOTICES)
def test_damage_is_noticed(metric):
    for name, damages in NOTICES[metric].items():
        copy = measured(metric, "copy")[name]
        for damage in damages:
            found = measured(metric, damage)[name]
            assert is_worse(found, copy), f"{name} of {damage}: {found.value} is no worse than {copy.value} of a copy"


@pytest.mark.parametrize("metric", IGNORES)
def test_what_a_metric_does_not_look_at_leaves_it_unchanged(metric):
    for name, damages in IGNORES[metric].items():
        for damage in damages:
            found = measured(metric, damage)[name].value
            assert found == pytest.approx(measured(metric, "copy")[name].value, abs=1e-6), f"{name} of {damage}"


@pytest.mark.parametrize("metric", ["fvd_kvd", "lpips_alex", "psnr", "ssim_rgb"])
@pytest.mark.parametrize("damage", ["blur", "noise"])
def test_more_damage_scores_worse(metric, damage):
    for name, found in measured(metric, f"more {damage}").items():
        assert is_worse(found, measured(metric, damage)[name]), name


def test_psnr_sees_order_only_where_no_frame_is_exact():
    assert measured("psnr", "shuffle")["psnr"].value == math.inf       # the end frames are copies

    def backwards(video):       # an even number of frames has none that stays
        return torch.cat([video[:1], video[1:-1].flip(0), video[-1:]])

    interior = build_metrics(["psnr"], MeasuringOptions(frames=Frames.INTERIOR))
    assert measure(interior, pairs(backwards, **SHAPE))[0].value < 40


def test_noise_passes_for_sharpness_and_blur_for_steadiness():
    # Both are why a table needs more than one column.
    assert measured("cpbd", "noise")["cpbd"].value > measured("cpbd", "blur")["cpbd"].value
    assert measured("motion", "blur")["warping_error"].value < measured("motion", "copy")["warping_error"].value


def test_a_slide_show_is_seen_by_its_held_frames():
    still, moving = measured("motion", "repeat"), measured("motion", "copy")
    assert still["warping_error"].value == pytest.approx(0, abs=1e-12)
    assert still["held_ratio"].value == 1 and still["motion"].value == pytest.approx(0, abs=1e-6)
    assert moving["held_ratio"].value == 0 and moving["motion"].value > 0.2


@pytest.mark.parametrize("metric", TABLE)
def test_every_number_stays_in_its_range(metric):
    for damage in ("copy", "noise", "repeat"):
        for result in measured(metric, damage).values():
            assert result.definition.lowest <= result.value <= result.definition.highest + 1e-9, result.name


def test_the_clips_of_this_test_move():
    video = drawn_clip()
    assert (video[0] - video[-1]).abs().mean() > 0.02
