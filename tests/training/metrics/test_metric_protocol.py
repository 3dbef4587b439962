"""Promise: every number says how it was measured, and what cannot be measured is refused in a sentence."""

import json
import math

import pytest
import torch
from damaged_clips import blurred, pairs

from pipeline.errors import UserError
from pipeline.records import canonical_json
from training.metrics.endframes import EndFrames
from training.metrics.metric import NO_WEIGHTS, ClipPair, Frames
from training.metrics.pixels import Psnr, Ssim
from training.metrics.suite import EMBEDDED_WEIGHTS, METRICS, TABLE, MeasuringOptions, build_metrics, describe, measure

SMALL = {"num_clips": 2, "num_frames": 5, "height": 64, "width": 80}
EMBEDDED = MeasuringOptions(weights=EMBEDDED_WEIGHTS)


def test_a_result_names_everything_two_numbers_must_share():
    result = measure([Ssim("ssim_table1", frames=Frames.INTERIOR)], pairs(blurred, **SMALL))[0]
    record = json.loads(canonical_json(result.as_record()))
    assert record["protocol"] == {"implementation": "ssim_table1", "weights": NO_WEIGHTS, "frames": "interior", "num_frames": 3,
                                  "num_clips": 2, "width_px": 80, "height_px": 64}
    assert record["value"] == pytest.approx(sum(record["per_clip"]) / 2)


def test_an_infinite_number_can_be_recorded():
    record = measure([Psnr()], pairs(**SMALL))[0].as_record()
    assert json.loads(canonical_json(record))["value"] == "inf"


def test_every_metric_of_the_table_fills_its_protocol():
    metrics = build_metrics([name for name in TABLE if name != "fvd_kvd"], EMBEDDED)
    for result in measure(metrics, pairs(blurred, **SMALL)):
        protocol = result.protocol
        assert (protocol.num_clips, protocol.width_px, protocol.height_px) == (2, 80, 64)
        assert protocol.num_frames == (2 if result.name.endswith("_frame") else 5)
        assert protocol.implementation and protocol.weights


def test_the_interior_leaves_out_the_frames_that_were_given():
    def ends_spoilt(video):
        return torch.cat([1 - video[:1], video[1:-1], 1 - video[-1:]])

    found = [measure([Psnr(frames=frames)], pairs(ends_spoilt, **SMALL))[0].value for frames in (Frames.INTERIOR, Frames.ENDS)]
    assert found[0] == math.inf and found[1] < 20


def test_end_frames_are_told_apart():
    def last_spoilt(video):
        return torch.cat([video[:-1], 1 - video[-1:]])

    first, last = measure([EndFrames()], pairs(last_spoilt, **SMALL))
    assert first.value == math.inf and last.value < 20
    assert last.protocol.frames is Frames.ENDS


def test_clips_of_another_size_are_refused():
    metric = Psnr()
    metric.update(pairs(num_clips=1, num_frames=3, height=32, width=32)[0])
    with pytest.raises(UserError, match="mixed sizes"):
        metric.update(pairs(num_clips=1, num_frames=3, height=32, width=48)[0])


def test_nothing_measured_is_refused():
    with pytest.raises(UserError, match="no clip was given"):
        Psnr().results()


def test_a_clip_without_interior_is_refused():
    with pytest.raises(UserError, match="no interior"):
        Psnr(frames=Frames.INTERIOR).update(pairs(num_clips=1, num_frames=2, height=32, width=32)[0])


@pytest.mark.parametrize(("spoil", "message"), [
    (lambda video: 2 * video - 1, r"not \[0, 1\]"),
    (lambda video: torch.where(video > 0.5, torch.nan, video), "nan"),
    (lambda video: (255 * video).to(torch.uint8), "floating point"),
    (lambda video: video.permute(0, 2, 3, 1), r"\[t, 3, h, w\]"),
    (lambda video: video[:-1], "generated is"),
])
def test_pixels_that_are_none_name_their_clip(spoil, message):
    video = pairs(num_clips=1, num_frames=3, height=32, width=40)[0].truth
    with pytest.raises(ValueError, match=message) as found:
        ClipPair("film/0007", video, spoil(video), "")
    assert "film/0007" in str(found.value)


def test_a_misspelt_metric_is_corrected():
    with pytest.raises(UserError, match="Did you mean lpips_alex"):
        build_metrics(["lpips_alx"], EMBEDDED)


def test_every_number_is_described_with_range_and_direction():
    names = [name for name in METRICS if not name.startswith("motion_raft")]
    metrics = build_metrics(names, EMBEDDED)
    lines = describe(metrics).splitlines()
    assert len(lines) == sum(len(metric.definitions) for metric in metrics)
    assert any(line.startswith("cpbd [0, 1], higher is better: ") for line in lines)
