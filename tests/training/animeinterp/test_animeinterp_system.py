"""Promise: as a system of an evaluation AnimeInterp keeps given frames, makes the others at their times, and says what it is."""

import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

sys.path.insert(0, str(Path(__file__).parents[1]))

from drawn_triplets import draw_triplet

from pipeline.errors import UserError
from training.animeinterp.network import TINY, AnimeInterp
from training.animeinterp.system import load_system


def tiny(**changes):
    torch.manual_seed(5)
    return AnimeInterp(sizes=TINY, **changes)


def saved(path, network):
    save_file(network.state_dict(), path)
    return str(path)


def sample(num_frames=3, given=(0, 2), height=62, width=90):
    """Sides that are no multiples of 4 on purpose."""
    frames = torch.from_numpy(draw_triplet(1, width=width, height=height)).permute(0, 3, 1, 2).float() / 255
    between = [frames[0], *[frames[1]] * (num_frames - 2), frames[2]]
    return SimpleNamespace(key="a", truth=torch.stack(between), given=given)


def test_middle_frame_is_that_of_the_network(tmp_path):
    network, wanted = tiny(), sample()
    made = load_system({"weights": saved(tmp_path / "w.safetensors", network), "flows": "none", "iterations": "3"}).make(wanted)
    with torch.no_grad():
        expected = network(wanted.truth[:1], wanted.truth[2:], num_iterations=3).image.clamp(0, 1)
    assert torch.equal(made[[0, 2]], wanted.truth[[0, 2]])
    torch.testing.assert_close(made[1:2], expected)


def test_every_gap_between_given_frames_is_filled_at_its_times(tmp_path):
    network, wanted = tiny(), sample(num_frames=6, given=(0, 3, 5), height=64, width=96)
    made = load_system({"weights": saved(tmp_path / "w.safetensors", network), "flows": "none", "iterations": "2"}).make(wanted)
    for index, (start, end) in {1: (0, 3), 2: (0, 3), 4: (3, 5)}.items():
        with torch.no_grad():
            time = (index - start) / (end - start)
            expected = network(wanted.truth[None, start], wanted.truth[None, end], None, None, time, num_iterations=2).image
        torch.testing.assert_close(made[index], expected[0].clamp(0, 1))
    assert all(torch.equal(made[index], wanted.truth[index]) for index in (0, 3, 5))


def test_coarse_flows_are_computed_once_and_enter(tmp_path):
    path = saved(tmp_path / "w.safetensors", tiny())
    options = {"weights": path, "cache": str(tmp_path / "cache"), "iterations": "1", "behaviour": "paper"}
    system = load_system(options)
    first, again = system.make(sample()), load_system(options).make(sample())
    assert torch.equal(first, again) and len(list((tmp_path / "cache").rglob("flows.npz"))) == 1
    without = load_system({**options, "flows": "none"})
    assert not torch.equal(without.make(sample()), first)
    assert without.identity["flows"] == "none" and "stand-in" in str(system.identity["flows"])


def test_identity_changes_with_weights_and_names_no_path(tmp_path):
    one, two = (load_system({"weights": saved(tmp_path / f"{seed}.safetensors", _seeded(seed)), "flows": "none"})
                for seed in (1, 2))
    assert one.identity != two.identity and str(tmp_path) not in str(one.identity)
    assert one.name == "animeinterp"


def _seeded(seed):
    torch.manual_seed(seed)
    return AnimeInterp(sizes=TINY)


def test_weights_tell_size_and_splatting_themselves(tmp_path):
    from training.animeinterp.behaviour import Behaviour

    path = saved(tmp_path / "w.safetensors", tiny(splatting=Behaviour.PAPER))
    load_system({"weights": path, "flows": "none", "iterations": "1"}).make(sample())      # loads strictly
    full = AnimeInterp()
    assert load_system({"weights": saved(tmp_path / "full.safetensors", full), "flows": "none"}).identity["iterations"] == 12


@pytest.mark.parametrize(("options", "part"), [
    ({"wieghts": "x"}, "Did you mean weights"), ({}, "weights of animeinterp are not given"),
    ({"flows": "some"}, "none of computed, none"), ({"behaviour": "mine"}, "none of paper, released"),
    ({"iterations": "0"}, "no number from 1 on"),
])
def test_mistakes_are_named(options, part):
    with pytest.raises(UserError, match=part):
        load_system(options)


def test_weights_of_something_else_are_refused(tmp_path):
    save_file({"x": torch.zeros(1)}, tmp_path / "w.safetensors")
    with pytest.raises(UserError):
        load_system({"weights": str(tmp_path / "w.safetensors")})
