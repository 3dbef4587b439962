"""Promise: networks behind metrics carry the public key names, absent weights are named, and stand-ins say what they are."""

import json
import os
from pathlib import Path

import pytest
import torch
from damaged_clips import drawn_clip, noisy, pairs
from safetensors.torch import save_file

from pipeline.errors import UserError
from training.metrics import clip_scores
from training.metrics.feature_weights import STAND_IN, fill, read_weights
from training.metrics.i3d import InceptionI3d, pad_same
from training.metrics.lpips import TAPS, Lpips, LpipsMetric, heads_from_package, load_lpips, stand_in_lpips
from training.metrics.metric import ClipPair
from training.metrics.raft import load_raft
from training.metrics.suite import EMBEDDED_WEIGHTS, PUBLISHED_WEIGHTS, MeasuringOptions, build_metrics, measure
from training.metrics.video_distances import VideoDistances, load_i3d, stand_in_i3d

SHARED = Path(__file__).parents[3].parent / "shared"
SPEC_DIR = Path(os.environ.get("SPEC_DIR", SHARED / "spec"))
HEADS_DIR = Path(os.environ.get("WEIGHTS_DIR", SHARED / "weights"))
NEED_WEIGHTS = ["fvd_kvd", "fvd_kvd_videogpt", "lpips_alex", "lpips_vgg", "lpips_squeeze", "clip_vit_b_32", "clip_vit_l_14"]


@pytest.fixture
def no_weights(monkeypatch, tmp_path):
    monkeypatch.setenv("TOONFORGE_WEIGHTS", str(tmp_path / "empty"))
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", [name for name in [*NEED_WEIGHTS, "motion_raft_large"] if not name.startswith("clip")])
def test_absent_weights_are_a_sentence_that_says_what_to_run(name, no_weights):
    with pytest.raises(UserError, match="make weights PROFILE=evaluation"):
        build_metrics([name], MeasuringOptions())


def test_absent_clip_is_found_before_a_model_is_built(no_weights, monkeypatch):
    monkeypatch.setattr(clip_scores, "OpenClipEmbedder", lambda *_: pytest.fail("built first"))
    with pytest.raises(UserError, match="make weights PROFILE=evaluation"):
        clip_scores.load_clip("vit_b_32", PUBLISHED_WEIGHTS["clip_vit_b_32"])


@pytest.mark.parametrize("name", NEED_WEIGHTS)
def test_stand_ins_are_marked_in_the_protocol(name):
    metrics = build_metrics([name], MeasuringOptions(weights=EMBEDDED_WEIGHTS))
    results = measure(metrics, pairs(noisy, num_clips=2, num_frames=9, height=64, width=64))
    assert results and all(result.protocol.weights.startswith(STAND_IN) for result in results)


@pytest.mark.parametrize("build", [stand_in_i3d, stand_in_lpips])
def test_stand_ins_depend_on_their_seed_alone(build):
    torch.manual_seed(1)
    first = build(seed=5)[0].state_dict()
    torch.manual_seed(2)
    again, other = build(seed=5)[0].state_dict(), build(seed=6)[0].state_dict()
    assert all(torch.equal(first[key], again[key]) for key in first)
    assert any(not torch.equal(first[key], other[key]) for key in first)


def test_i3d_has_the_public_names_and_shapes():
    manifest = SPEC_DIR / "state_dict" / "i3d_kinetics400.json"
    if not manifest.is_file():
        pytest.skip("no list of I3D's public tensors: set SPEC_DIR to its folder")
    expected = {key: tuple(entry["shape"]) for key, entry in json.loads(manifest.read_text()).items()}
    with torch.device("meta"):
        state = InceptionI3d().state_dict()
    assert {key: tuple(tensor.shape) for key, tensor in state.items()} == expected


def test_a_saved_i3d_is_read_and_named_by_its_digest(tmp_path):
    network = stand_in_i3d(seed=3)[0]
    save_file(network.state_dict(), tmp_path / "thin.safetensors")
    tensors, weights = read_weights(str(tmp_path / "thin.safetensors"), "FVD")
    assert weights.startswith("thin.safetensors sha256:") and len(weights.rpartition(":")[2]) == 64
    again = InceptionI3d(width_divisor=8)
    fill(again, tensors, source="thin.safetensors")
    clip = torch.rand(1, 3, 9, 224, 224, generator=torch.Generator().manual_seed(0)) * 2 - 1
    with torch.no_grad():
        torch.testing.assert_close(again.eval()(clip), network.eval()(clip), rtol=0, atol=0)


def test_another_network_in_the_file_is_refused(tmp_path):
    save_file({"conv.weight": torch.zeros(3, 3)}, tmp_path / "other.safetensors")
    with pytest.raises(UserError, match=r"other\.safetensors"):
        load_i3d(str(tmp_path / "other.safetensors"))


def test_clips_too_short_for_i3d_are_refused():
    with pytest.raises(UserError, match="at least 9"):
        VideoDistances(*stand_in_i3d()).update(pairs(num_clips=1, num_frames=8, height=64, width=64)[0])
    with pytest.raises(ValueError, match="at least 9"):
        InceptionI3d(width_divisor=16)(torch.zeros(1, 3, 8, 224, 224))


def test_one_clip_has_no_distribution():
    metric = VideoDistances(*stand_in_i3d())
    metric.update(pairs(num_clips=1, num_frames=9, height=64, width=64)[0])
    with pytest.raises(UserError, match="at least 2"):
        metric.results()


def test_same_padding_puts_the_odd_zero_behind():
    # 5 by a window of 4 and a step of 2 gives 3 outputs: 2 * 2 + 4 - 5 = 3 zeros, one before and two behind.
    padded = pad_same(torch.ones(1, 1, 1, 1, 5), (1, 1, 4), (1, 1, 2))
    assert padded.flatten().tolist() == [0, 1, 1, 1, 1, 1, 0, 0]


class Counting(torch.nn.Module):
    """Means as features; remembers how many clips it saw at once."""

    def __init__(self):
        super().__init__()
        self.batches = []

    def forward(self, clips):
        self.batches.append(len(clips))
        return clips.flatten(2).mean(2)


def measure_in_batches(clips_per_batch, given):
    network = Counting()
    metric = VideoDistances(network, "counting", clips_per_batch=clips_per_batch)
    for pair in given:
        metric.update(pair)
        assert len(metric._waiting) < 2 * clips_per_batch       # pictures never pile up
    return network.batches, [result.value for result in metric.results()]


def test_video_distances_keep_no_pictures_and_do_not_depend_on_the_batch():
    given = pairs(noisy, num_clips=5, num_frames=9, height=32, width=32)
    batches, values = measure_in_batches(2, given)
    assert batches == [4, 4, 2]
    assert measure_in_batches(5, given)[1] == pytest.approx(values, rel=1e-6)
    assert measure_in_batches(2, given[::-1])[1] == pytest.approx(values, rel=1e-6)


def test_generated_and_true_clips_are_not_mixed_up():
    # Features are mean colours: two sets 0.25 apart in each of three channels, after mapping to [-1, 1] 0.5 apart.
    videos = [torch.full((9, 3, 32, 32), level) for level in (0.2, 0.3, 0.4)]
    given = [ClipPair(str(index), video, video + 0.25, "") for index, video in enumerate(videos)]
    assert measure_in_batches(2, given)[1][0] == pytest.approx(3 * 0.5**2, rel=1e-4)


@pytest.mark.parametrize("net", TAPS)
def test_authors_heads_of_lpips_fit(net, tmp_path):
    heads = HEADS_DIR / f"lpips_v0.1_{net}_heads.pth"
    if not heads.is_file():
        pytest.skip("no heads of LPIPS: set WEIGHTS_DIR to the folder of lpips_v0.1_*_heads.pth")
    backbone = {key: tensor for key, tensor in Lpips(net).state_dict().items() if key.startswith("features.")}
    save_file(backbone | {"classifier.1.weight": torch.zeros(2)}, tmp_path / "backbone.safetensors")
    network, weights = load_lpips(net, backbone=str(tmp_path / "backbone.safetensors"), heads=str(heads))
    assert all((head >= 0).all() and head.sum() > 0 for head in network.heads)
    assert "backbone.safetensors sha256:" in weights and f"{heads.name} sha256:" in weights


def test_heads_of_another_net_are_refused(tmp_path):
    save_file(Lpips("alex").state_dict(), tmp_path / "backbone.safetensors")
    save_file({f"lin{index}.model.1.weight": torch.ones(1, channels, 1, 1) for index, (_, channels) in enumerate(TAPS["vgg"])},
              tmp_path / "heads.safetensors")
    with pytest.raises(UserError):
        load_lpips("alex", backbone=str(tmp_path / "backbone.safetensors"), heads=str(tmp_path / "heads.safetensors"))


def test_heads_are_renamed_and_strangers_kept():
    found = heads_from_package({"lin2.model.1.weight": torch.ones(1, 4, 1, 1), "stranger": torch.zeros(2)})
    assert {key: list(tensor.shape) for key, tensor in found.items()} == {"heads.2": [4], "stranger": [2]}


def test_lpips_can_be_a_loss_even_where_pictures_are_equal():
    network = stand_in_lpips("vgg")[0].requires_grad_(False)
    made = torch.zeros(1, 3, 32, 32, requires_grad=True)
    network(made, torch.zeros(1, 3, 32, 32)).sum().backward()
    assert made.grad.isfinite().all()
    made.grad = None
    network(made, torch.full((1, 3, 32, 32), 0.5)).sum().backward()
    assert made.grad.isfinite().all() and made.grad.abs().sum() > 0


def test_lpips_of_clips_is_taken_in_minus_one_to_one():
    # EISAI's published numbers come from forgetting this.
    network = stand_in_lpips("alex")[0]
    video = drawn_clip(num_frames=3, height=64, width=64)
    metric = LpipsMetric(network, "random", frames_per_batch=2)
    metric.update(ClipPair("clip", video, noisy(video), ""))
    with torch.no_grad():
        expected = network(2 * noisy(video) - 1, 2 * video - 1).mean().item()
    assert metric.results()[0].value == pytest.approx(expected, rel=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("net", TAPS)
def test_backbones_are_torchvisions(net):
    models = pytest.importorskip("torchvision.models")
    whole = {"alex": models.alexnet, "vgg": models.vgg16, "squeeze": models.squeezenet1_1}[net](weights=None).eval()
    network = Lpips(net)
    missing = network.load_state_dict(
        {key: tensor for key, tensor in whole.state_dict().items() if key.startswith("features.")}, strict=False).missing_keys
    assert all(key.startswith("heads.") for key in missing)
    picture = torch.rand(1, 3, 65, 70, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        expected = whole.features[:TAPS[net][-1][0] + 1](picture)
        torch.testing.assert_close(network.features(picture), expected)


@pytest.mark.slow
def test_raft_finds_a_shift():
    reference = HEADS_DIR / "raft_small_torchvision_keys.pth"
    if not reference.is_file():
        pytest.skip("no RAFT: set WEIGHTS_DIR to the folder of raft_small_torchvision_keys.pth")
    flow, weights = load_raft("raft_small", str(reference))
    draws = torch.Generator().manual_seed(0)
    coarse = torch.rand(1, 3, 25, 33, generator=draws)
    first = torch.nn.functional.interpolate(coarse, size=(100, 132), mode="bicubic")[0].clamp(0, 1)
    second = torch.roll(first, shifts=(2, 4), dims=(1, 2))
    found = flow(first, second)
    assert found.shape == (2, 100, 132) and weights.startswith("raft_small_torchvision_keys.pth sha256:")
    inner = found[:, 24:-24, 24:-24].flatten(1).median(dim=1).values
    assert inner.tolist() == pytest.approx([4, 2], abs=0.3)


def test_raft_has_no_stand_in():
    with pytest.raises(UserError, match="Use the metric motion"):
        build_metrics(["motion_raft_small"], MeasuringOptions(weights=EMBEDDED_WEIGHTS))


def test_clip_crops_the_centre_at_full_height():
    wide = torch.zeros(1, 3, 320, 512)
    wide[..., 96:416] = 1.0                 # 320 of 512 columns stay
    pixels = clip_scores.preprocess(wide)
    assert pixels.shape == (1, 3, 224, 224)
    white = (1 - torch.tensor(clip_scores.MEAN)) / torch.tensor(clip_scores.DEVIATION)
    torch.testing.assert_close(pixels[0, :, 5:-5, 5:-5].mean(dim=(1, 2)), white, atol=1e-3, rtol=0)


def test_clip_preprocessing_agrees_with_pillow_to_the_rounding_of_pictures():
    image = pytest.importorskip("PIL.Image")
    video = drawn_clip(num_frames=1, height=320, width=512)
    levels = (video[0].permute(1, 2, 0) * 255).round().to(torch.uint8)
    resized = image.fromarray(levels.numpy()).resize((358, 224), image.Resampling.BICUBIC).crop((67, 0, 291, 224))
    expected = torch.frombuffer(bytearray(resized.tobytes()), dtype=torch.uint8).view(224, 224, 3).permute(2, 0, 1) / 255
    mean, deviation = (torch.tensor(values).view(3, 1, 1) for values in (clip_scores.MEAN, clip_scores.DEVIATION))
    found = clip_scores.preprocess(levels.permute(2, 0, 1)[None] / 255)[0] * deviation + mean
    assert (found - expected).abs().max() <= 1.51 / 255         # Pillow rounds after each of its two passes


def test_clip_scores_are_plain_cosines_and_pair_equal_frames():
    class Colours:
        name = "colours"

        def images(self, pixels):
            return pixels.mean(dim=(2, 3))

        def texts(self, captions):
            return torch.tensor([[-1.0, 0.0, 0.0]]).expand(len(captions), 3)

    video = drawn_clip(num_frames=3, height=64, width=64)
    made = video.flip(0).flip(1)                # other frames in other colours
    metric = clip_scores.ClipScores(Colours(), "none", frames_per_batch=2)
    metric.update(ClipPair("clip", video, made, "red"))
    image, text = metric.results()
    colours = [clip_scores.preprocess(frames).mean(dim=(2, 3)).double() for frames in (video, made)]
    drawn_colours, made_colours = (torch.nn.functional.normalize(found, dim=1) for found in colours)
    assert image.value == pytest.approx((drawn_colours * made_colours).sum(1).mean().item(), abs=1e-5)
    assert text.value == pytest.approx(-made_colours[:, 0].mean().item(), rel=1e-5)
    assert text.of_truth == pytest.approx(-drawn_colours[:, 0].mean().item(), rel=1e-5)
    assert abs(text.value - text.of_truth) > 1e-3


@pytest.mark.slow
def test_clip_is_built_without_files_and_loads_its_public_layout(tmp_path):
    pytest.importorskip("open_clip")
    first = clip_scores.OpenClipEmbedder("vit_b_32")
    save_file({key: tensor.clone() for key, tensor in first.model.state_dict().items()}, tmp_path / "clip.safetensors")
    loaded, weights = clip_scores.load_clip("vit_b_32", str(tmp_path / "clip.safetensors"))
    pixels = clip_scores.preprocess(drawn_clip(num_frames=1, height=64, width=64))
    torch.testing.assert_close(loaded.images(pixels), first.images(pixels))
    assert loaded.texts(["a cat"]).shape == loaded.images(pixels).shape == (1, 512)
    assert {"visual.conv1.weight", "token_embedding.weight", "text_projection", "logit_scale"} <= first.model.state_dict().keys()
    assert type(first.model.visual.transformer.resblocks[0].mlp.gelu).__name__ == "QuickGELU"
    assert weights.startswith("clip.safetensors sha256:")
