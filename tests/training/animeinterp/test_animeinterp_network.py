"""Promise: the network has the published names and shapes, learns in both behaviours, and accepts frames as they come."""

import json
import os
from pathlib import Path

import pytest
import torch

from pipeline import weights
from pipeline.errors import UserError
from training.animeinterp.behaviour import Behaviour
from training.animeinterp.network import TINY, AnimeInterp, load_published, load_raft

SPEC_DIR = Path(os.environ.get("SPEC_DIR", Path(__file__).parents[4] / "shared" / "spec"))


def tiny(seed=0, **choices):
    torch.manual_seed(seed)
    return AnimeInterp(sizes=TINY, **choices)


def frames(height=32, width=40, seed=0):
    generator = torch.Generator().manual_seed(seed)
    image0 = torch.rand(1, 3, height, width, generator=generator)
    flow = 2 * torch.rand(1, 2, height, width, generator=generator) - 1
    return image0, image0.roll(2, dims=3), flow, -flow


@pytest.mark.parametrize("behaviour", Behaviour)
def test_names_and_shapes_are_the_published_ones(behaviour):
    listing = SPEC_DIR / "state_dict" / "animeinterp.json"
    if not listing.exists():
        pytest.skip("no list of public tensors: set SPEC_DIR to the folder that holds state_dict/")
    listed = {name: tuple(entry["shape"]) for name, entry in json.loads(listing.read_text(encoding="utf-8")).items()}
    with torch.device("meta"):
        network = AnimeInterp(behaviour=behaviour)
    assert {name: tuple(tensor.shape) for name, tensor in network.state_dict().items()} == listed
    network.load_state_dict({name: torch.empty(shape, device="meta") for name, shape in listed.items()}, strict=True)
    assert len(listed) == 220
    assert sum(parameter.numel() for parameter in network.parameters()) == 6_208_706


def test_a_published_file_loads_strictly(tmp_path):
    """The public file: `model_state_dict` inside, names with the prefix of a data-parallel wrapper."""
    source = tiny()
    state = {f"module.{name}": tensor for name, tensor in source.state_dict().items()}
    torch.save({"epoch": 3, "model_state_dict": state}, tmp_path / "anime_interp.pth")
    network = tiny(seed=1)
    load_published(network, weights.read_tensors(tmp_path / "anime_interp.pth"), source="anime_interp.pth")
    assert all(torch.equal(tensor, source.state_dict()[name]) for name, tensor in network.state_dict().items())
    incomplete = {name: tensor for name, tensor in source.state_dict().items() if name != "synnet.residual_model_01.1.weight"}
    with pytest.raises(UserError, match="residual_model_01"):
        load_published(network, incomplete, source="anime_interp.pth")


def test_refinement_starts_from_raft_without_its_context_network():
    source, network = tiny().flownet, tiny(seed=1)
    raft = {name: tensor for name, tensor in source.state_dict().items() if not name.startswith("attention2.")}
    raft["cnet.conv1.weight"] = torch.zeros(1)
    attention = network.flownet.attention2.conv1.weight.clone()
    load_raft(network, raft, source="raft.pth")
    assert torch.equal(network.flownet.fnet.conv2.weight, source.fnet.conv2.weight)
    assert torch.equal(network.flownet.attention2.conv1.weight, attention)


@pytest.mark.parametrize("behaviour", Behaviour)
@pytest.mark.parametrize("splatting", Behaviour)
def test_every_parameter_learns_except_confidence_in_the_released_way(behaviour, splatting):
    network = tiny(behaviour=behaviour, splatting=splatting)
    image0, image1, flow01, flow10 = frames()
    found = network(image0, image1, flow01, flow10, num_iterations=2)
    (found.image - image0).abs().mean().backward()
    without = {name for name, parameter in network.named_parameters() if parameter.grad is None or not parameter.grad.any()}
    confidence = {name for name, _ in network.named_parameters() if name.startswith("flownet.attention2.")}
    # The first slope is for negative values, of which pictures in [0, 1] have none.
    unused = {"synnet.residual_model_head.0.weight"}
    assert without == unused | (confidence if behaviour is Behaviour.RELEASED else set())
    assert all(parameter.grad.isfinite().all() for parameter in network.parameters() if parameter.grad is not None)
    assert ("importance.alpha" in dict(network.named_parameters())) == (splatting is Behaviour.PAPER)


def test_a_few_steps_lower_the_loss():
    network = tiny(behaviour=Behaviour.PAPER)
    image0, image1, flow01, flow10 = frames()
    truth = image0.roll(1, dims=3)
    optimiser = torch.optim.Adam(network.parameters(), lr=3e-3)
    losses = []
    for _ in range(12):
        loss = (network(image0, image1, flow01, flow10, num_iterations=2).image - truth).abs().mean()
        optimiser.zero_grad()
        loss.backward()
        optimiser.step()
        losses.append(loss.item())
    assert losses[-1] < 0.8 * losses[0]


@torch.no_grad()
def test_the_coarse_flow_counts_once_or_twice():
    """Without any change from the update block the result is the start itself, enlarged."""
    image0, image1, _, _ = frames()
    coarse = torch.full((1, 2, 32, 40), 1.5)
    for behaviour, factor in ((Behaviour.RELEASED, 2.0), (Behaviour.PAPER, 1.0)):
        network = tiny(behaviour=behaviour)
        for parameter in (*network.flownet.update_block.flow_head.conv2.parameters(),
                          *network.flownet.attention2.conv3.parameters(), *network.flownet.update_block.mask[2].parameters()):
            parameter.zero_()           # no change; g = 0, so full confidence; all nine neighbours count alike
        flow = network.flownet(2 * image0 - 1, 2 * image1 - 1, coarse, num_iterations=2).flow
        torch.testing.assert_close(flow[..., 8:-8, 8:-8], torch.full((1, 2, 16, 24), 1.5 * factor))


@torch.no_grad()
def test_frames_of_any_size_give_a_picture_of_their_size():
    network = tiny().eval()
    image0, image1, flow01, flow10 = frames(37, 43)
    found = network(image0, image1, flow01, flow10, 0.25, num_iterations=1)
    assert found.image.shape == (1, 3, 37, 43)
    assert found.flow01.shape == found.flow10.shape == (1, 2, 37, 43)
    assert found.start01 is not None and found.start01.shape == (1, 2, 5, 5)
    assert network(image0, image1, num_iterations=1).start01 is None


@torch.no_grad()
def test_time_moves_pictures_along_their_flow():
    network = tiny()
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8, 4] = 1
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 8
    for t, column in ((0.25, 6), (0.5, 8), (0.75, 10)):
        moved, features = network.warped(image, image, flow, t)
        assert moved[0, 0, 8].nonzero().flatten().tolist() == [column]
        assert [tuple(level.shape[-2:]) for level in features] == [(16, 16), (8, 8), (4, 4)]


@torch.no_grad()
def test_the_second_frame_moves_by_what_is_left_of_the_time():
    class Pictures(torch.nn.Module):
        def forward(self, images, features):
            return images

    network = tiny()
    network.synnet = Pictures()
    image = torch.zeros(1, 3, 16, 16)
    image[..., 8, 8] = 1
    flow = torch.zeros(1, 2, 16, 16)
    flow[:, 0] = 4
    moved = network.synthesise(image, image, flow, -flow, 0.25)
    assert moved[0, 0, 8].nonzero().flatten().tolist() == [9]
    assert moved[0, 3, 8].nonzero().flatten().tolist() == [5]


def test_frames_that_are_too_small_are_refused():
    image0, image1, _, _ = frames(24, 48)
    with pytest.raises(UserError, match="48x24"):
        tiny()(image0, image1)
