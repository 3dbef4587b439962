"""Promise: every metric reproduces the stored values of its reference implementation."""

import zlib

import numpy as np
import pytest
import torch
from cases import cases

from training.metrics import cpbd, linearity, lines, motion, pixels
from training.metrics.clip_scores import frame_cosines
from training.metrics.distances import frechet_distance, kernel_distance
from training.metrics.i3d import InceptionI3d, crop_from_short_side, resize_directly
from training.metrics.lpips import TAPS, Lpips, layer_distance

# The record's names of conventions, where they differ from ours.
SSIM_IN_RECORD = {"ssim_uniform7_L1": "ssim_uniform7", "ssim_gauss11_wang_rgb_L1": "ssim_rgb",
                  "ssim_gauss11_valid_cv2_L1": "ssim_rgb", "ssim_torchmetrics_default_L1": "ssim_tm",
                  "ssim_table1_whole": "ssim_table1"}


def recipe(key, shape, *, seed, gain):
    """A tensor of the weight recipe that golden/metrics/README.md states."""
    draws = np.random.RandomState((seed + zlib.crc32(key.encode())) % 2**32).standard_normal(size=tuple(shape))
    if key.endswith("running_var"):
        draws = 0.5 + 0.5 * np.abs(draws)
    elif key.endswith("running_mean"):
        draws = 0.1 * draws
    elif key.endswith("num_batches_tracked"):
        draws = np.zeros(())
    elif len(shape) >= 2:
        draws = draws * gain / np.sqrt(np.prod(shape[1:]))
    elif key.endswith(".weight"):
        draws = 1 + 0.1 * draws
    else:
        draws = 0.02 * draws
    return torch.from_numpy(np.asarray(draws)).float()


def pictures(rgb_u8):
    """[h, w, 3] or [t, h, w, 3] uint8 -> [n, 3, h, w] in [0, 1]."""
    return (rgb_u8 if rgb_u8.dim() == 4 else rgb_u8[None]).permute(0, 3, 1, 2).float() / 255


def named(record, prefix):
    """The sub-records whose value is a distribution case, by name."""
    return {name: value for name, value in record.items() if isinstance(value, dict) and prefix in value}


@pytest.mark.parametrize("case", cases("metrics", "image_case*.json"))
def test_pixels_agree(case):
    for pair in case.record["pairs"]:
        index = pair["index"]
        truth, made = pictures(case.tensors[f"gt{index}"]), pictures(case.tensors[f"pred{index}"])
        assert pixels.psnr(made, truth).item() == pytest.approx(pair["psnr_whole"], abs=1e-3)
        assert pixels.interpolation_error(made, truth).item() == pytest.approx(pair["interp_error"], abs=1e-3)
        for name, convention in SSIM_IN_RECORD.items():
            found = pixels.ssim(made, truth, pixels.SSIM_CONVENTIONS[convention]).item()
            assert found == pytest.approx(pair[name], abs=2e-4), f"pair {index}: {name}"
        greys = [case.tensors[f"gray_{role}{index}"][None, None] for role in ("pred", "gt")]
        wang = pixels.ssim(*greys, pixels.SSIM_CONVENTIONS["ssim_wang"]).item()
        assert wang == pytest.approx(pair["ssim_gauss11_wang_gray_L255"], abs=2e-4)
        x, y, width, height = pixels.roi_px(pair["motion_RoI"], pair["image_size"], (truth.shape[3], truth.shape[2]))
        assert [x, y, width, height] == pair["roi_px"]
        region = [picture[..., y:y + height, x:x + width] for picture in (made, truth)]
        assert pixels.psnr(*region).item() == pytest.approx(pair["psnr_roi"], abs=1e-3)
        found = pixels.ssim(*region, pixels.SSIM_CONVENTIONS["ssim_table1"]).item()
        assert found == pytest.approx(pair["ssim_table1_roi"], abs=2e-4)


@pytest.mark.parametrize("case", cases("metrics", "image_case*.json"))
def test_luma_agrees(case):
    for pair in case.record["pairs"]:
        for role in ("gt", "pred"):
            expected = case.tensors[f"gray_{role}{pair['index']}"].int()
            off = (pixels.luma_u8(pictures(case.tensors[f"{role}{pair['index']}"]))[0].int() - expected).abs()
            assert off.max() <= 1 and (off > 0).double().mean() < 1e-3     # exact halves go either way


@pytest.mark.parametrize("case", cases("metrics", "image_case*.json"))
def test_cpbd_agrees(case):
    for pair in case.record["pairs"]:
        for role in ("gt", "pred"):
            found = cpbd.cpbd(case.tensors[f"gray_{role}{pair['index']}"].numpy())
            assert found == pytest.approx(pair[f"cpbd_{role}"], abs=2e-3), f"pair {pair['index']}: {role}"
    for step in case.record["cpbd_sweep"]:
        found = cpbd.cpbd(case.tensors[f"cpbd_sweep{step['index']}"].numpy())
        assert found == pytest.approx(step["cpbd"], abs=2e-3), f"sweep {step['sigma']}"


@pytest.mark.parametrize("case", cases("metrics", "image_case*.json"))
def test_intermediate_maps_of_cpbd_agree(case):
    for name in (name for name in case.tensors if name.startswith("cpbd_canny_pred")):
        index = name.removeprefix("cpbd_canny_pred")
        maps = cpbd.edge_maps(case.tensors[f"gray_pred{index}"].numpy().astype(np.float64))
        for found, kind in ((maps.canny, "canny"), (maps.vertical, "sobel"), (maps.width_px, "width")):
            expected = case.tensors[f"cpbd_{kind}_pred{index}"].numpy()
            assert (found == (expected if kind == "width" else expected > 0)).mean() >= 0.999, kind


@pytest.mark.parametrize("case", cases("metrics", "dist_case*.json"))
def test_distances_agree(case):
    for name, expected in named(case.record, "frechet_unbiased_cov_sqrtm").items():
        made, truth = case.tensors[f"{name}_fake"], case.tensors[f"{name}_real"]
        tolerance = 1e-4 if expected["n_fake"] <= expected["dim"] else 1e-5
        assert frechet_distance(made, truth) == pytest.approx(expected["frechet_unbiased_cov_sqrtm"], rel=tolerance)
        biased = frechet_distance(made, truth, unbiased=False)
        assert biased == pytest.approx(expected["frechet_biased_cov_1overN"], rel=tolerance)
        assert kernel_distance(made, truth) == pytest.approx(expected["kvd_poly3_unbiased_f64"], rel=1e-6)


@pytest.mark.parametrize("case", cases("metrics", "dist_case*.json"))
def test_clip_averages_agree(case):
    made, truth, text = (case.tensors[f"clip_{role}"] for role in ("gen", "gt", "txt"))
    for found, name in ((frame_cosines(made, truth), "clip_img"), (frame_cosines(made, text[:, None]), "clip_txt")):
        per_video = found.mean(1)
        assert per_video.tolist() == pytest.approx(case.record["clip"][f"{name}_per_video"], abs=1e-5)
        assert per_video.mean().item() == pytest.approx(case.record["clip"][f"{name}_mean"], abs=1e-5)


@pytest.mark.parametrize("net", ["alex", "squeeze", pytest.param("vgg", marks=pytest.mark.slow)])
@pytest.mark.parametrize("case", cases("metrics", "lpips_case*.json"))
@torch.no_grad()
def test_lpips_agrees(case, net):
    seed, gain, expected = case.record["weight_seed"], case.record["gain"], case.record["nets"][net]
    x, y = (2 * pictures(case.tensors[f"img{index}"]) - 1 for index in (0, 1))
    network = Lpips(net)
    drawn = {key: recipe(key, tensor.shape, seed=seed, gain=gain)
             for key, tensor in network.state_dict().items() if key.startswith("features.")}
    for index, (_, channels) in enumerate(TAPS[net]):
        draws = np.random.RandomState((seed + zlib.crc32(f"lin{index}".encode())) % 2**32).standard_normal(channels)
        drawn[f"heads.{index}"] = 0.1 * torch.from_numpy(np.abs(draws)).float()
    network.load_state_dict(drawn)
    assert network(x, y).item() == pytest.approx(expected["total"], rel=1e-3)
    assert [layer.item() for layer in network.per_layer(x, y)] == pytest.approx(expected["per_layer"], rel=1e-3)
    spatial = network.spatial(x, y)[0]
    case.check(spatial, f"spatial_{net}", atol=1e-5, rtol=1e-3)
    assert spatial.mean().item() == pytest.approx(expected["spatial_map_mean"], rel=1e-3)
    wrong_range = network((x + 1) / 2, (y + 1) / 2).item()
    assert wrong_range == pytest.approx(expected["input_left_in_0_1_instead_of_pm1"], rel=1e-3)


@pytest.mark.parametrize("case", cases("metrics", "lpips_case*.json"))
def test_weighting_of_lpips_agrees_on_given_features(case):
    expected = case.record["feature_level"]
    found = [layer_distance(case.tensors[f"feat0_{index}"][None], case.tensors[f"feat1_{index}"][None],
                            case.tensors[f"lin_{index}"]).mean().item() for index in range(len(expected["per_layer"]))]
    assert found == pytest.approx(expected["per_layer"], rel=1e-5)
    assert sum(found) == pytest.approx(expected["total"], rel=1e-5)


@pytest.fixture(scope="module")
def i3d_of():
    """The network of a case, built once per case."""
    built = {}

    def build(case):
        if case.path not in built:
            network = InceptionI3d().eval()
            record = case.record
            drawn = {key: recipe(key, tensor.shape, seed=record["weight_seed"], gain=record["gain"])
                     for key, tensor in network.state_dict().items()}
            for key, factor in record.get("weight_scale_overrides", {}).items():
                drawn[key] = drawn[key] * factor
            network.load_state_dict(drawn)
            built[case.path] = network
        return built[case.path]

    return build


@pytest.mark.parametrize("case", cases("metrics", "i3d_case*.json"))
def test_preprocessing_of_i3d_agrees(case):
    frames = pictures(case.tensors["real_video"][0])
    for preprocess, name in ((resize_directly, "direct"), (crop_from_short_side, "shortside_crop")):
        case.check(preprocess(frames)[..., ::8, ::8], f"pre_{name}_real0_sub", atol=1e-4, rtol=0)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases("metrics", "i3d_case*.json"))
@torch.no_grad()
def test_i3d_and_the_distances_behind_it_agree(case, i3d_of):
    network = i3d_of(case)
    features = {}
    for role in ("real", "fake"):
        clips = [resize_directly(pictures(video)) for video in case.tensors[f"{role}_video"]]
        features[role] = torch.cat([network(clip[None]) for clip in clips])
        expected = case.tensors[f"logits_{role}"]
        case.check(features[role], expected, atol=1e-3 * expected.std().item(), rtol=0)
    distance = frechet_distance(features["fake"], features["real"])
    assert distance == pytest.approx(case.record["fvd_random_weights"], rel=1e-3)
    assert kernel_distance(features["fake"], features["real"]) == pytest.approx(case.record["kvd_random_weights"], rel=1e-3)


@pytest.mark.parametrize("case", cases("metrics", "i3d_case*.json"))
@torch.no_grad()
def test_stages_of_i3d_agree(case, i3d_of):
    network, stages = i3d_of(case), {}
    frames = pictures(case.tensors["real_video"][0])
    network(resize_directly(frames)[None], on_stage=stages.__setitem__)
    for name, expected in case.record["endpoints"].items():
        assert list(stages[name].shape) == expected["shape"], name
        assert stages[name].mean().item() == pytest.approx(expected["mean"], rel=1e-3), name
        assert stages[name].std().item() == pytest.approx(expected["std"], rel=1e-3), name
    pooled = case.tensors["pooled_features_real0"]
    case.check(stages["avg_pool"].flatten(), pooled, atol=1e-3 * pooled.std().item(), rtol=0)
    expected = case.tensors["logits_real0_shortside"]
    case.check(network(crop_from_short_side(frames)[None]), expected, atol=1e-3 * expected.std().item(), rtol=0)


@pytest.mark.parametrize("case", cases("metrics", "line_case*.json"))
def test_lines_and_their_distances_agree(case):
    for pair in case.record["pairs"]:
        index = pair["index"]
        given = {}
        for role in ("gt", "pred"):
            given[role] = case.tensors[f"lines_{role}{index}"].numpy() > 0
            found = lines.line_map(pictures(case.tensors[f"{role}{index}"]))[0].numpy()
            assert (found == given[role]).mean() >= 0.999, f"pair {index}: {role}"
        chamfer, hausdorff, ratio = lines.line_distances(given["gt"], given["pred"])
        assert lines.directed_chamfer(given["gt"], given["pred"]) == pytest.approx(pair["chamfer_t"], abs=1e-6)
        assert lines.directed_chamfer(given["pred"], given["gt"]) == pytest.approx(pair["chamfer_p"], abs=1e-6)
        assert chamfer == pytest.approx(pair["chamfer"], abs=1e-6)
        assert hausdorff == pytest.approx(pair["hausdorff"], abs=1e-6)
        assert ratio == pytest.approx(given["pred"].sum() / given["gt"].sum())


@pytest.mark.parametrize("case", cases("metrics", "motion_case*.json"))
def test_warping_error_agrees(case):
    first, second = (case.tensors[f"frame{index}"].permute(2, 0, 1) for index in (1, 2))
    found = motion.warp_back(first, second, case.tensors["flow_1to2"], case.tensors["flow_2to1"])
    case.check(found.warped.permute(1, 2, 0).float(), "warped2", atol=1e-5, rtol=0)
    assert (found.occluded == case.tensors["occlusion"].bool()).double().mean().item() >= 0.999
    assert found.occluded.double().mean().item() == pytest.approx(case.record["occluded_fraction"], abs=1e-3)
    assert found.error == pytest.approx(case.record["warping_error"], abs=1e-5)


@pytest.mark.parametrize("case", cases("metrics", "motion_case*.json"))
def test_linearity_agrees(case):
    for expected in case.record["rrld"]:
        prefix = f"rrld{expected['index']}_mid_to_"
        found = linearity.measure_linearity(case.tensors[prefix + "prev"], case.tensors[prefix + "next"])
        assert found.coverage == pytest.approx(expected["coverage"], abs=1e-5)
        assert found.deviation == pytest.approx(expected["rrld"], abs=1e-5)
        assert (found.is_pan, found.covers_enough, found.is_linear) == (
            expected["rejected_as_pan"], expected["enough_coverage"], expected["qualified"])
