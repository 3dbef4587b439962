"""Promise: two pictures become a film with its record in seconds, the same command does nothing twice, and own weights fit."""

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from rich.console import Console
from sampling_jobs import SMALL, make_job, save_drawing, save_sketch, tiny_networks

from pipeline.config import SAMPLE, freeze
from pipeline.errors import EXIT_OK, EXIT_STOPPED, UserError
from pipeline.launch.sample import command_for, sample
from pipeline.weights import digest, write_tensors
from training.models.bundle import PREFIXES
from training.sampling import run as run_module
from training.sampling.jobs import read_requests
from training.sampling.run import film_size, make_clips, run
from training.sampling.weights import find_sources, load_networks, print_table


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        save_drawing(tmp_path / f"{name}.png", ord(name))
    return tmp_path


def draw(*overrides):
    """Exit code and what was printed."""
    job = make_job(*overrides)
    console = Console(record=True, width=200, force_terminal=False)
    return run(job, read_requests(job), console), console.export_text()


def between(folder, *more):
    return f"first={folder / 'a.png'}", f"last={folder / 'b.png'}", f"out={folder / 'out'}", *more


def frames(folder):
    return np.stack([np.asarray(Image.open(path)) for path in sorted((folder / "frames").iterdir())])


def test_command_draws_a_film_from_two_pictures(folder):
    job = make_job(*between(folder))
    freeze(job, folder / "out" / "config.yaml")
    done = subprocess.run([*command_for(1, folder / "out" / "config.yaml")], capture_output=True, text=True)
    assert done.returncode == EXIT_OK, done.stderr
    assert "clip 1 of 1: steps 2/2" in done.stdout and "embedded:tiny (random weights)" in done.stdout
    assert "\x1b" not in done.stdout and not done.stderr
    record = json.loads((folder / "out" / "sample.json").read_text())
    assert frames(folder / "out").shape == (8, 64, 128, 3)
    assert (record["num_frames"], record["size"], record["seed"], record["clip_seeds"]) == (8, "128x64", 123, [123])
    assert record["keys"] == [{"file": f"{name}.png", "sha256": digest(folder / f"{name}.png")} for name in ("a", "b")]
    assert record["settings"]["sampler"]["guidance"] == 7.5 and str(folder) not in json.dumps(record)
    assert all((folder / "out" / name).is_file() for name in record["files"])


def test_finished_film_is_not_drawn_again_and_a_changed_one_is(folder, monkeypatch):
    assert draw(*between(folder))[0] == EXIT_OK
    before = frames(folder / "out")
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "load_networks", lambda *arguments: pytest.fail("weights were read"))
        for same in ([], ["memory.batch=4"], ["memory.offload=true"]):
            assert "1 of 1 films are there already" in draw(*between(folder, *same))[1]
    draw(*between(folder, "seed=5"))
    assert (frames(folder / "out") != before).any()
    draw(*between(folder))
    assert (frames(folder / "out") == before).all()


def test_films_of_a_list_are_the_same_alone_and_together(folder):
    lines = [{"name": "one", "first": "a.png", "last": "b.png"}, {"name": "two", "keys": ["a.png", "b.png", "c.png"], "seed": 9}]
    (folder / "films.jsonl").write_text("\n".join(json.dumps(line) for line in lines))
    jobs, options = f"jobs={folder / 'films.jsonl'}", ("output.formats=[png]", "num_frames=5")
    assert draw(jobs, f"out={folder / 'all'}", "memory.batch=4", *options)[0] == EXIT_OK
    draw(*between(folder, *options))
    difference = frames(folder / "all" / "one").astype(int) - frames(folder / "out")
    assert np.abs(difference).max() <= 1            # rounding to bytes of numbers equal to 1e-5
    assert len(frames(folder / "all" / "two")) == 9
    record = json.loads((folder / "all" / "two" / "sample.json").read_text())
    job = make_job(jobs, *options)
    seeds = [clip.seed for clip in make_clips(job, read_requests(job)[1])]
    assert seeds == record["clip_seeds"] and seeds[0] == 9 != seeds[1]


def test_joint_of_a_long_film_is_the_key_frames_reconstruction(folder, monkeypatch):
    seen = []
    monkeypatch.setattr(run_module.Sampler, "reconstruct",
                        lambda self, key: seen.append(key.index) or torch.full((3, 64, 128), 1.0))
    keys = folder / "keys"
    for number, name in enumerate("abc"):
        save_drawing(keys / f"{number}.png", ord(name))
    draw(f"keys={keys}", f"out={folder / 'out'}", "num_frames=4", "output.formats=[png]")
    found = frames(folder / "out")
    assert seen == [1] and len(found) == 7 and (found[3] == 255).all() and not (found[[2, 4]] == 255).all()


def test_stop_file_ends_between_steps_and_the_same_command_goes_on(folder, monkeypatch):
    advance = run_module._draw_batch

    def interrupted(*arguments):
        (folder / "out" / "STOP").touch()
        return advance(*arguments)

    (folder / "out").mkdir()
    with monkeypatch.context() as patch:
        patch.setattr(run_module, "_draw_batch", interrupted)
        code, text = draw(*between(folder))
    assert code == EXIT_STOPPED and "stopped as asked" in text and not (folder / "out" / "sample.json").exists()
    assert draw(*between(folder))[0] == EXIT_OK


def test_sketches_and_one_reference_reach_the_clip(folder):
    for frame in range(1, 9):
        save_sketch(folder / "lines" / f"{frame}.png", column=10 * frame)
    job = make_job(f"first={folder / 'a.png'}", f"sketch.folder={folder / 'lines'}", f"out={folder / 'out'}")
    clip, = make_clips(job, read_requests(job)[0])
    assert clip.first is clip.last and clip.guided.all() and clip.hints[0, 4, :, 50:54].min() == 1
    assert run(job, read_requests(job), Console(quiet=True)) == EXIT_OK
    record = json.loads((folder / "out" / "sample.json").read_text())
    assert record["sketches"]["3"]["file"] == "3.png" and record["weights"][-1]["network"] == "sketch_encoder"


def test_image_encoder_sees_the_cropped_or_the_whole_picture(folder):
    save_drawing(folder / "a.png", width=300, height=100)
    shown = [next(make_clips(job, read_requests(job)[0])).first.shown.shape
             for job in (make_job(*between(folder, f"framing.embedded={word}")) for word in ("cropped", "original"))]
    assert shown == [(3, 64, 128), (3, 100, 300)]


def test_line_drawings_stay_without_colour(folder):
    draw(*between(folder, "output.gray=true", "output.formats=[png]"))
    found = frames(folder / "out")
    assert (found[..., 0] == found[..., 1]).all() and (found[..., 0] == found[..., 2]).all()


def test_size_is_the_networks_own_or_as_given():
    assert film_size(make_job()) == (128, 64)
    assert film_size(make_job("size=auto")) == (64, 64)
    assert film_size(make_job("networks=tooncrafter_512", "size=auto")) == (512, 320)


def test_parts_of_own_trainings_replace_those_of_the_whole_model(tmp_path):
    networks = tiny_networks()
    whole = {f"{PREFIXES[name]}{key}": tensor for name, module in [
        ("unet3d", networks.unet), ("resampler", networks.projector), ("dualref_autoencoder", networks.first_stage),
        ("openclip_text", networks.text), ("openclip_image", networks.image)] for key, tensor in module.state_dict().items()}
    trained = PREFIXES["unet3d"], PREFIXES["resampler"]
    ours = {name: tensor + 1 for name, tensor in whole.items() if name.startswith(trained)}
    stage = {name: tensor + 2 for name, tensor in whole.items() if name.startswith("first_stage_model.")}
    for name, tensors in (("whole", whole), ("denoiser", ours), ("stage", stage), ("sketch", networks.sketch.state_dict())):
        write_tensors(tmp_path / f"{name}.safetensors", tensors, {})
    job = make_job(f"networks.weights={tmp_path / 'whole.safetensors'}", f"networks.denoiser={tmp_path / 'denoiser.safetensors'}",
                   f"networks.first_stage={tmp_path / 'stage.safetensors'}", f"networks.sketch={tmp_path / 'sketch.safetensors'}")
    sources = find_sources(job.networks, with_sketches=True)
    found = load_networks(job.networks, sources, job.memory.precision)
    for module, base, added in [(found.unet, networks.unet, 1), (found.projector, networks.projector, 1),
                                (found.first_stage, networks.first_stage, 2), (found.text, networks.text, 0),
                                (found.image, networks.image, 0), (found.sketch, networks.sketch, 0)]:
        for (name, tensor), expected in zip(module.state_dict().items(), base.state_dict().values(), strict=True):
            assert torch.equal(tensor, expected + added), name
    console = Console(record=True, width=120)
    print_table(sources, console)
    text = console.export_text()
    assert digest(tmp_path / "denoiser.safetensors")[:12] in text and str(tmp_path) not in text and "random" not in text
    with pytest.raises(UserError, match="holds no unet3d: none of its names begins with model"):
        wrong = make_job(f"networks.denoiser={tmp_path / 'stage.safetensors'}")
        load_networks(wrong.networks, find_sources(wrong.networks, with_sketches=False), wrong.memory.precision)


@pytest.mark.parametrize(("overrides", "sentence"), [
    (["networks=tooncrafter_512", "networks.weights=embedded:tiny"], "does not fit networks.preset=tooncrafter_512"),
    (["networks.sketch=null"], "networks.sketch has no value: sketches are given"),
    (["networks.weights=nowhere.safetensors"], "weights nowhere.safetensors are absent")])
def test_weights_that_are_wrong_are_named(overrides, sentence):
    with pytest.raises(UserError, match=sentence):
        find_sources(make_job(*overrides).networks, with_sketches=True)


@pytest.mark.parametrize(("override", "sentence"), [
    ("size=100x64", "size=100x64 must be multiples of 64"), ("num_frames=2", "num_frames=2 must be at least 3"),
    ("sampler.eta=2", r"sampler.eta=2.0 must be between 0 and 1"), ("memory.tile_px=5", "must be a multiple of 8"),
    ("sampler.step=5", "sampler.step is no option. Did you mean sampler.steps?"),
    ("output.formats=[avi]", "output.formats has avi"), ("sketch.scale=-1", "sketch.scale=-1.0 must be at least 0"),
    ("framing.pad=grey", "framing.pad=grey is no choice of framing.pad")])
def test_wrong_options_are_named(override, sentence):
    with pytest.raises(UserError, match=sentence):
        make_job(override)


def test_command_without_pictures_says_what_it_needs(capsys):
    with pytest.raises(UserError, match="there is no key frame"):
        sample([*SMALL])
    assert sample([*SMALL, "--cfg", "job"]) == EXIT_OK and "guidance: 7.5" in capsys.readouterr().out
    assert SAMPLE.command == "sample" and "--nproc-per-node=2" in command_for(2, Path("x"))
