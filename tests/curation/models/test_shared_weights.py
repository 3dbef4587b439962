"""Promise: with the real small weights, our adapters give the numbers that were measured elsewhere on real cartoons."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np
import pytest
from tiny_models import SHARED_FILMS, SHARED_WEIGHTS

from curation.models.config import AestheticName, DeviceName, FlowName, Precision
from curation.models.laion import load_head
from curation.models.linedistiller import LineDistiller
from curation.models.ppocr import PpocrDetector, quads_of
from curation.models.raft import RaftFlow

REFERENCE = SHARED_WEIGHTS / "reference_outputs.json"
RECORDED: dict[str, Any] = json.loads(REFERENCE.read_text()) if REFERENCE.is_file() else {}


def cases(model: str) -> list[Any]:
    """One parameter per recorded case; a single skipped one that says what is missing."""
    found = RECORDED.get(model, {}).get("cases", [])
    if not found or not SHARED_FILMS.is_dir():
        return [pytest.param(None, marks=pytest.mark.skip(reason=f"no weights at WEIGHTS_DIR={SHARED_WEIGHTS} or no films at "
                                                                 f"CARTOONS_DIR={SHARED_FILMS}"))]
    return [pytest.param(case, id=f"{Path(case['file']).stem}-{case['frame']}") for case in found]


@cache
def frame_rgb(file: str, index: int) -> np.ndarray:
    """RGB uint8 [h, w, 3] of a frame in decode order, as the references were made."""
    with av.open(str(SHARED_FILMS / file)) as film:
        for number, picture in enumerate(film.decode(video=0)):
            if number == index:
                return picture.to_ndarray(format="rgb24")
    raise AssertionError(f"{file} has no frame {index}")


def weights(name: str) -> Path:
    path = SHARED_WEIGHTS / name
    if not path.is_file():
        pytest.skip(f"{path} is absent: WEIGHTS_DIR names the folder of the small weights")
    return path


@pytest.mark.slow
@pytest.mark.parametrize("case", cases("raft_small"))
def test_raft_small_sees_a_shifted_picture_move(case: dict[str, Any]) -> None:
    """Mean end-point error inside a border of 40 pixels, 20 updates, width 640, as recorded; +-0.02 for other decoders."""
    rgb = frame_rgb(case["file"], case["frame"])
    height = int(rgb.shape[0] * 640 / rgb.shape[1]) // 8 * 8
    old = cv2.resize(rgb, (640, height), interpolation=cv2.INTER_AREA)
    right, down = case["shift"]
    move = np.array([[1, 0, right], [0, 1, down]], np.float32)
    new = cv2.warpAffine(old, move, (640, height), borderMode=cv2.BORDER_REFLECT)
    raft = RaftFlow(FlowName.RAFT_SMALL, weights("raft_small_torchvision_keys.pth"), batch=1, updates=20,
                    device=DeviceName.CPU, precision=Precision.FLOAT32)
    inside = raft.flow([(old, new)])[0][40:-40, 40:-40]
    np.testing.assert_allclose(np.median(inside, axis=(0, 1)), case["median_flow"], atol=0.02)
    assert np.linalg.norm(inside - np.array([right, down]), axis=2).mean() == pytest.approx(case["mean_epe"], abs=0.02)


@pytest.mark.parametrize("case", cases("ppocrv3_text_detector"))
def test_ppocr_finds_the_recorded_share_of_text(case: dict[str, Any]) -> None:
    bgr = cv2.cvtColor(frame_rgb(case["file"], case["frame"]), cv2.COLOR_RGB2BGR)
    detector = PpocrDetector(weights("ppocrv3_text_detector.onnx"), batch=1, side_px=736)
    probability = detector.probability([bgr])[0]
    assert float((probability > 0.3).mean()) == pytest.approx(case["mask_fraction"], abs=5e-4)
    boxes = quads_of(probability, probability.shape)
    assert len(boxes) == case["boxes"]
    area = sum(float(np.prod(quad.max(axis=0) - quad.min(axis=0))) for quad in boxes) / probability.size
    assert area == pytest.approx(case["box_area_fraction"], abs=5e-4)


@pytest.mark.parametrize("model", ["linedistiller_180102", "linedistiller_180121"])
@pytest.mark.parametrize("case", cases("linedistiller_180102"))
def test_linedistiller_draws_the_recorded_lines(model: str, case: dict[str, Any]) -> None:
    recorded = next(one for one in RECORDED[model]["cases"] if (one["file"], one["frame"]) == (case["file"], case["frame"]))
    extractor = LineDistiller(weights(f"{model}.onnx"), batch=1)
    line = extractor.lines([frame_rgb(case["file"], case["frame"])])[0]
    assert list(line.shape) == recorded["shape"]
    assert float(line.mean()) == pytest.approx(recorded["mean"], abs=5e-4)
    assert float((line < 0.5).mean()) == pytest.approx(recorded["dark_fraction_below_0_5"], abs=5e-4)


def test_folded_laion_map_gives_the_golden_scores() -> None:
    """Golden values of the issue: the uniform unit vector, the first and the last axis; bias and norm of the map."""
    head = load_head(AestheticName.LAION_V2, weights("laion_aesthetic_v2_sac_logos_ava1_l14_linearMSE.pth"))
    uniform = np.full(768, 768 ** -0.5, np.float32)
    axes = np.eye(768, dtype=np.float32)[[0, -1]]
    np.testing.assert_allclose(head.score(np.stack([uniform, *axes])), [4.883285, 4.545052, 5.451654], atol=1e-5)
    assert head.bias == pytest.approx(5.236646, abs=1e-6) and np.linalg.norm(head.weight) == pytest.approx(17.9956, abs=1e-4)


def test_folded_map_agrees_with_its_five_layers() -> None:
    import torch

    from pipeline.weights import read_tensors

    path = weights("laion_aesthetic_v2_sac_logos_ava1_l14_linearMSE.pth")
    state = read_tensors(path)
    vectors = np.random.default_rng(0).standard_normal((8, 768)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    x = torch.from_numpy(vectors)
    for index in (0, 2, 4, 6, 7):
        x = torch.nn.functional.linear(x, state[f"layers.{index}.weight"], state[f"layers.{index}.bias"])
    np.testing.assert_allclose(load_head(AestheticName.LAION_V2, path).score(vectors), x[:, 0].numpy(), atol=1e-4)


@pytest.mark.parametrize(("name", "width"), [("l_14", 768), ("b_32", 512), ("b_16", 512)])
def test_first_version_is_one_linear_layer(name: str, width: int) -> None:
    head = load_head(AestheticName.LAION_V1, weights(f"laion_aesthetic_v1_sa_0_4_vit_{name}_linear.pth"))
    assert head.weight.shape == (width,)
    assert head.score(np.zeros((1, width), np.float32))[0] == pytest.approx(head.bias)
    with pytest.raises(ValueError, match=f"CLIP vectors of {width} numbers, not 8"):
        head.score(np.zeros((1, 8), np.float32))
