"""Promise: systems see the given frames alone, baselines do what their names say, and our own networks take any checkpoint."""

import sys

import numpy as np
import pytest
import torch
from evaluation_sets import make_job, moving_square
from PIL import Image

from pipeline.errors import UserError
from pipeline.weights import write_tensors
from training.animeinterp.network import TINY, AnimeInterp
from training.config import Preset
from training.embedded import seeded
from training.evaluation.baselines import baseline, raft_baseline
from training.evaluation.drawn import draw_system, reconstruct_system
from training.evaluation.run import measuring_options
from training.evaluation.samples import EvalSample, to_unit
from training.evaluation.systems import FolderSystem, build_systems
from training.models.bundle import PREFIXES

CPU = torch.device("cpu")


def sample(num_frames=6, *, given=None, speed=2, side_px=64):
    truth = to_unit(moving_square(num_frames, side_px=side_px, speed=speed))
    return EvalSample("a", "t", "a square", 12, truth, given or (0, num_frames - 1))


def blind(of):
    """The same sample with noise in place of the frames that are to be made."""
    truth = of.truth.clone()
    hidden = [index for index in range(len(truth)) if index not in of.given]
    truth[hidden] = torch.rand(truth[hidden].shape, generator=torch.Generator().manual_seed(3))
    return EvalSample(of.key, of.title, of.caption, of.fps, truth, of.given)


@pytest.mark.parametrize("name", ["repeat", "crossfade", "flow_dis"])
def test_baselines_see_given_frames_alone_and_leave_them_as_they_are(name):
    of = sample(given=(0, 3, 5))
    made = baseline(name).make(of)
    assert torch.equal(made, baseline(name).make(blind(of)))
    assert torch.equal(made[[0, 3, 5]], of.truth[[0, 3, 5]])
    assert made.min() >= 0 and made.max() <= 1


def test_repeat_holds_and_crossfade_blends():
    of = sample(5)
    assert torch.equal(baseline("repeat").make(of)[1:4], of.truth[:1].expand(3, -1, -1, -1))
    torch.testing.assert_close(baseline("crossfade").make(of)[1], 0.75 * of.truth[0] + 0.25 * of.truth[4])


def test_flow_moves_what_crossfade_leaves_double():
    of = sample(5)
    errors = {name: (baseline(name).make(of) - of.truth).square().mean().item() for name in ("flow_dis", "crossfade", "repeat")}
    assert errors["flow_dis"] < 0.5 * errors["crossfade"] < errors["repeat"]


def test_flow_of_another_estimator_is_loaded_with_the_first_clip_only():
    loads = []

    def load():
        loads.append(1)
        return lambda first, second: torch.zeros(2, *first.shape[1:])

    system = raft_baseline(load, "raft sha256:0")
    assert not loads and system.identity["weights"] == "raft sha256:0"
    of = sample(5)
    torch.testing.assert_close(system.make(of), baseline("crossfade").make(of))     # no motion: a blend
    system.make(of)
    assert len(loads) == 1


def test_ours_sees_given_frames_alone_and_draws_a_clip_the_same_in_any_order():
    one, other = sample(), EvalSample("b", "t", "", 12, sample().truth, (0, 5))
    system = draw_system("x", make_job(), CPU)
    made = system.make(one)
    changed = system.make(other)                        # a seed of its own
    assert made.shape == one.truth.shape and not torch.equal(made, changed)
    assert not torch.equal(made[0], one.truth[0]) and not torch.equal(made[5], one.truth[5])    # remade, as sampling does
    system.release()
    assert torch.equal(system.make(blind(one)), made)
    identities = [draw_system(name, make_job(f"seed={seed}"), CPU).identity for name, seed in (("y", 123), ("z", 5))]
    assert system.identity == identities[0] != identities[1]


def test_sizes_the_network_cannot_halve_are_extended_and_cut_back():
    truth = to_unit(moving_square(4, side_px=96))[:, :, :54]
    made = reconstruct_system("r", make_job(), CPU).make(EvalSample("a", "", "", 8, truth, (0, 3)))
    assert made.shape == (4, 3, 54, 96) and made.min() >= 0 and made.max() <= 1


def test_checkpoint_replaces_the_networks_it_holds(tmp_path):
    path = tmp_path / "weights.safetensors"
    unet, projector = seeded(Preset.TINY, "unet3d"), seeded(Preset.TINY, "resampler")
    with torch.no_grad():
        unet.out[-1].weight.add_(0.5)
    tensors = {PREFIXES["unet3d"] + name: value for name, value in unet.state_dict().items()}
    tensors |= {PREFIXES["resampler"] + name: value for name, value in projector.state_dict().items()}
    write_tensors(path, tensors, {})
    job = make_job(f"checkpoints=[mine:{path}]", "systems=[tooncrafter]")
    plain, trained = build_systems(job, measuring_options(job, CPU), CPU)
    assert trained.name == "mine" and trained.is_random       # its first stage still is
    weights = trained.identity["weights"]
    assert len(weights["unet3d"]) == 64 and weights["dualref_autoencoder"] == "embedded:tiny"
    assert str(tmp_path) not in str(trained.identity)
    of = sample()
    assert not torch.equal(plain.make(of), trained.make(of))


def test_decoder_system_names_only_the_first_stage(tmp_path):
    path = tmp_path / "weights.safetensors"
    stage = seeded(Preset.TINY, "dualref_autoencoder")
    write_tensors(path, {PREFIXES["dualref_autoencoder"] + name: value for name, value in stage.state_dict().items()}, {})
    job = make_job(f"decoders=[mine:{path}]", "systems=[]")
    (system,) = build_systems(job, measuring_options(job, CPU), CPU)
    assert list(system.identity["weights"]) == ["dualref_autoencoder"] and not system.is_random
    assert system.make(sample()).shape == (6, 3, 64, 64)


def test_file_that_holds_no_network_is_refused(tmp_path):
    path = tmp_path / "weights.safetensors"
    write_tensors(path, {"x": torch.zeros(1)}, {})
    with pytest.raises(UserError, match="holds neither a UNet nor a first stage"):
        draw_system("mine", make_job(), CPU, trained=str(path))


def test_absent_animeinterp_is_one_sentence(monkeypatch):
    monkeypatch.setitem(sys.modules, "training.animeinterp.system", None)
    job = make_job("systems=[animeinterp]")
    with pytest.raises(UserError, match="systems has animeinterp, which this version cannot run"):
        build_systems(job, measuring_options(job, CPU), CPU)


def test_animeinterp_is_built_from_its_options(tmp_path):
    path = tmp_path / "weights.safetensors"
    torch.manual_seed(0)
    write_tensors(path, AnimeInterp(sizes=TINY).state_dict(), {})
    job = make_job("systems=[animeinterp]", f"animeinterp.weights='{path}'", "animeinterp.flows=false",
                   "animeinterp.iterations=1", f"out={tmp_path}")
    (system,) = build_systems(job, measuring_options(job, CPU), CPU)
    of = sample(3)
    made = system.make(of)
    assert torch.equal(made[[0, 2]], of.truth[[0, 2]]) and torch.equal(made, system.make(blind(of)))
    assert system.identity["iterations"] == 1 and str(tmp_path) not in str(system.identity)
    job.animeinterp.weights = None
    with pytest.raises(UserError, match=r"animeinterp\.weights has no value"):
        build_systems(job, measuring_options(job, CPU), CPU)


@pytest.mark.parametrize(("count", "side", "sentence"), [
    (0, 64, "has no frames of clip a"), (3, 64, "has 3 frames of clip a: wanted are 6, or 4"),
    (6, 32, "has 32x32 pixels: the clip has 64x64"),
])
def test_folder_that_does_not_fit_the_clip_is_refused(tmp_path, count, side, sentence):
    if count:
        (tmp_path / "a").mkdir()
    for index in range(count):
        Image.fromarray(np.zeros((side, side, 3), np.uint8)).save(tmp_path / "a" / f"{index}.png")
    with pytest.raises(UserError, match=sentence):
        FolderSystem("film", tmp_path).make(sample())


def test_folder_may_be_what_sample_writes(tmp_path):
    of = sample()
    (tmp_path / "a" / "frames").mkdir(parents=True)
    for index, pixels in enumerate(moving_square(6)):
        Image.fromarray(pixels).save(tmp_path / "a" / "frames" / f"{index:04d}.png")
    assert torch.equal(FolderSystem("film", tmp_path).make(of), of.truth)
