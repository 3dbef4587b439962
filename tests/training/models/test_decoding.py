"""Promise: chunks, tiles and the second decode follow their definitions; what fits at once decodes as the plain decoder does."""

import math
from itertools import pairwise

import pytest
import torch
from tiny_first_stage import make_autoencoder, make_clip, make_latents

from training.models.autoencoder import LATENT_SCALE
from training.models.decoding import decode_video, middle_frames, plan_chunks, plan_tiles, second_decode_indices
from training.models.kl_blocks import to_frames, to_video


def make_case(*, num_samples=1, num_frames=8, height=4, width=6):
    """An autoencoder, scaled latents and references of clips 8 times as large."""
    autoencoder = make_autoencoder()
    clip = make_clip(num_samples=num_samples, num_frames=num_frames, height=8 * height, width=8 * width)
    z = make_latents(num_samples=num_samples, num_frames=num_frames, height=height, width=width)
    with torch.no_grad():
        return autoencoder, z * LATENT_SCALE, autoencoder.references(clip[:, :, [0, -1]])


def plain_decode(autoencoder, z, references):
    num_frames = z.shape[2]
    with torch.no_grad():
        return to_video(autoencoder.decode(to_frames(z / LATENT_SCALE), num_frames, references), num_frames)


def relative_error(found, expected):
    return ((found - expected).norm() / expected.norm()).item()


def watch_decoder(autoencoder):
    """Records what the decoder is given: (frames, height, width, ends)."""
    calls = []
    autoencoder.decoder.register_forward_pre_hook(
        lambda _module, inputs, options: calls.append((inputs[1], *inputs[0].shape[-2:], options["ends"])), with_kwargs=True)
    return calls


@pytest.mark.parametrize("options", [
    {}, {"frames_per_chunk": 8}, {"frames_per_chunk": 20}, {"tile": 6}, {"tile": 9, "frames_per_chunk": 9}])
def test_what_fits_at_once_decodes_to_the_bit_as_whole(options):
    autoencoder, z, references = make_case(num_samples=2)
    found = decode_video(autoencoder, z, references, second_decode=False, **options)
    assert torch.equal(found, plain_decode(autoencoder, z, references))


def test_end_references_are_added_only_at_the_clips_ends():
    autoencoder, z, references = make_case()
    calls = watch_decoder(autoencoder)
    decode_video(autoencoder, z, references, frames_per_chunk=3, second_decode=False)
    assert [call[0] for call in calls] == [3, 3, 3]
    assert [call[3] for call in calls] == [(True, False), (False, False), (False, True)]


def test_without_temporal_mixing_chunks_are_exact():
    autoencoder, z, references = make_case(num_samples=2)
    whole = decode_video(autoencoder, z, references, skip_temporal=True)
    found = decode_video(autoencoder, z, references, skip_temporal=True, frames_per_chunk=3)
    torch.testing.assert_close(found, whole, atol=1e-5, rtol=1e-5)


def test_chunks_approximate_the_whole_decode_and_neighbours_help():
    autoencoder, z, references = make_case(num_frames=16)
    whole = plain_decode(autoencoder, z, references)
    errors = {
        size: relative_error(decode_video(autoencoder, z, references, frames_per_chunk=size, second_decode=False), whole)
        for size in (1, 4, 9)}
    assert errors[9] < errors[1]
    assert errors[9] < 0.1, errors


@pytest.mark.parametrize("num_frames", [1, 2, 5, 8, 16, 33])
@pytest.mark.parametrize("size", [None, 1, 2, 3, 5, 8, 9, 16])
def test_chunks_keep_each_wanted_frame_once(num_frames, size):
    for wanted in (range(num_frames), range(num_frames // 2, num_frames // 2 + 1)):
        chunks = plan_chunks(num_frames, size, wanted)
        assert [frame for chunk in chunks for frame in chunk.kept] == list(wanted)
        for chunk in chunks:
            assert set(chunk.kept) <= set(chunk.seen) <= set(range(num_frames))
            assert len(chunk.seen) == min(size or num_frames, num_frames)


def test_chunks_have_neighbours_on_both_sides_of_a_border():
    chunks = plan_chunks(32, 16, range(32))
    assert [chunk.seen for chunk in chunks] == [range(16), range(12, 28), range(16, 32)]
    assert [chunk.kept for chunk in chunks] == [range(14), range(14, 22), range(22, 32)]


@pytest.mark.parametrize(("num_frames", "expected"), [(4, []), (5, [2]), (6, [2, 3]), (8, [3, 4]), (15, [7]), (16, [7, 8])])
def test_second_decode_replaces_the_middle(num_frames, expected):
    assert list(middle_frames(num_frames)) == expected
    kept = second_decode_indices(num_frames)
    assert [kept[frame - 1] for frame in expected] == expected      # the same latents, one place earlier


@pytest.mark.parametrize("num_frames", [4, 7, 8])
def test_second_decode_changes_only_the_middle(num_frames):
    autoencoder, z, references = make_case(num_frames=num_frames)
    once = decode_video(autoencoder, z, references, second_decode=False)
    twice = decode_video(autoencoder, z, references)
    changed = [i for i in range(num_frames) if not torch.equal(once[:, :, i], twice[:, :, i])]
    assert changed == list(middle_frames(num_frames))


def test_second_decode_in_chunks_decodes_only_what_it_keeps():
    autoencoder, z, references = make_case(num_frames=16)
    calls = watch_decoder(autoencoder)
    decode_video(autoencoder, z, references, frames_per_chunk=4)
    second = calls[len(plan_chunks(16, 4, range(16))):]
    assert len(second) <= 2 and not any(any(call[3]) for call in second)


@pytest.mark.parametrize(("length", "tile"), [(4, 4), (6, 4), (40, 16), (64, 24), (5, 1), (7, 3), (7, 100)])
def test_tiles_cover_a_side_and_overlap(length, tile):
    tiles = plan_tiles(length, tile)
    assert {position for span in tiles for position in span} == set(range(length))
    assert all(len(span) == min(tile, length) for span in tiles)
    for earlier, later in pairwise(tiles):
        assert earlier.stop - later.start >= tile // 4


def test_tiles_bound_what_the_decoder_sees():
    autoencoder, z, references = make_case(num_frames=2, height=4, width=10)
    calls = watch_decoder(autoencoder)
    decode_video(autoencoder, z, references, tile=4)
    assert {call[1:3] for call in calls} == {(4, 4)}
    assert len(calls) == 3


def test_blending_leaves_what_tiles_agree_on():
    """A decoder that only repeats pixels sees no borders, so any error would be the blending's or the cutting's."""
    autoencoder, z, references = make_case(num_frames=2, height=9, width=14)
    seen = []

    def repeat(latents, _num_frames, references, **_options):
        seen.append([tuple(reference.shape[-2:]) for reference in references])
        return latents[:, :3].repeat_interleave(8, -2).repeat_interleave(8, -1) + references[0][:, :3, 0]

    autoencoder.decoder.forward = repeat
    whole = decode_video(autoencoder, z, references, second_decode=False)
    found = decode_video(autoencoder, z, references, second_decode=False, tile=4)
    torch.testing.assert_close(found, whole, atol=1e-6, rtol=1e-5)
    assert seen[0][0] == (72, 112) and all(sizes[0] == sizes[4] == (32, 32) for sizes in seen[1:])
    assert seen[1][3] == (6, 6)             # attended to: the corner tile and two positions more on its inner sides


def test_tiles_of_a_smooth_picture_are_near_the_whole_decode():
    """Norms and the middle attention see a tile instead of the picture, so tiling is never exact.

    Measured on waves 8 latents long with these random weights, relative error of the whole tensor: 0.10 for a tile of 16
    latents, 0.46 for one of 8.
    """
    autoencoder = make_autoencoder()
    y, x = torch.arange(16)[:, None] * math.tau / 8, torch.arange(24) * math.tau / 8
    z = torch.stack([(y + x).sin(), y.sin() * x.sin(), (y - x).cos(), x.cos() + 0 * y])[None, :, None].repeat(1, 1, 2, 1, 1)
    end_frames = z[:, :3].repeat_interleave(8, dim=-2).repeat_interleave(8, dim=-1)
    with torch.no_grad():
        references = autoencoder.references(end_frames)
    z = z * LATENT_SCALE
    whole = plain_decode(autoencoder, z, references)
    errors = {tile: relative_error(decode_video(autoencoder, z, references, tile=tile), whole) for tile in (8, 16)}
    assert errors[16] < 0.15, errors
    assert errors[16] < errors[8] < 0.6, errors


@pytest.mark.parametrize("options", [{"frames_per_chunk": 0}, {"tile": 0}])
def test_empty_chunks_and_tiles_are_refused(options):
    autoencoder, z, references = make_case(num_frames=2)
    with pytest.raises(ValueError, match="at least 1"):
        decode_video(autoencoder, z, references, **options)


def test_output_keeps_the_decoders_dtype_and_no_graph():
    autoencoder, z, references = make_case(num_frames=2, height=5, width=5)
    autoencoder, references = autoencoder.bfloat16(), tuple(reference.bfloat16() for reference in references)
    found = decode_video(autoencoder, z.bfloat16(), references, tile=4)
    assert found.dtype == torch.bfloat16 and not found.requires_grad
