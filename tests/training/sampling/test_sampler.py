"""Promise: a clip depends on its seed and conditions alone, never on the batch, and every switch of the sampler does its work."""

import pytest
import torch
from sampling_jobs import fresh_networks, make_clip, make_job, make_key, make_sampler, tiny_networks

from training.config import Precision
from training.diffusion import ddim
from training.diffusion.guidance import guide
from training.models.autoencoder import LATENT_SCALE
from training.models.decoding import decode_video
from training.models.kl_blocks import to_frames
from training.models.sketch_encoder import SketchContext, sketch_context
from training.sampling.sampler import Clip
from training.sampling.weights import find_sources, load_networks


def hinted(seed, frames, *, num_frames=6):
    hints, guided = torch.zeros(1, num_frames, 64, 64), torch.zeros(num_frames, dtype=torch.bool)
    for frame in frames:
        hints[0, frame, :, 30:40], guided[frame] = 1, True
    return make_clip(seed, hints=hints, guided=guided, num_frames=num_frames)


def test_a_seed_gives_the_same_video_in_any_batch():
    clips = [make_clip(seed) for seed in range(4)]
    fresh, trained = make_sampler(networks=fresh_networks()), make_sampler()
    together, together_trained = fresh.draw(clips), trained.draw(clips)
    for index in (0, 2):
        alone = fresh.draw([clips[index]])[0]
        torch.testing.assert_close(together[index], alone, atol=1e-5, rtol=0)
        frames = [fresh.decode(z, clips[index]) for z in (together[index], alone)]
        torch.testing.assert_close(frames[0], frames[1], atol=1e-5, rtol=0)
        # Where the branches differ, guidance multiplies the rounding of sums by 7.5: relative to all of the latent, not to each.
        alone = trained.draw([clips[index]])[0]
        assert (together_trained[index] - alone).norm() / alone.norm() < 1e-5
    assert (together[0] - together[1]).abs().max() > 0.1


def test_noise_is_the_same_to_the_bit_in_any_batch():
    noise = [ddim.seeded_noise(seeds, (4, 6, 8, 8)) for seeds in ([0, 1, 2, 3], [2])]
    for step in (ddim.START, 0, 1):
        assert torch.equal(noise[0](step)[2], noise[1](step)[0])
    batches = [make_sampler()._conditions(clips)[0] for clips in ([make_clip(0), make_clip(1)], [make_clip(1)])]
    assert torch.equal(batches[0].ends[1], batches[1].ends[0])      # the posterior's noise, too


def test_default_settings_are_those_of_the_release():
    settings, job = make_job().sampler, make_job()
    assert (settings.spacing.value, settings.eta) == ("uniform_trailing", 1)
    assert (settings.guidance, settings.guidance_rescale) == (7.5, 0.7)
    assert (settings.second_decode, settings.finish_rescale, settings.temperature) == (True, False, 1)
    assert (job.framing.pad.value, job.framing.embedded.value, job.seed, job.output.fps, job.output.crf) == (
        "black", "cropped", 123, 8, 10)


def test_one_step_of_the_sampler_is_the_formula_of_the_release():
    sampler, clip = make_sampler("sampler.steps=1", "sampler.eta=0"), make_clip(3)
    given, shape = sampler._conditions([clip])
    x = ddim.seeded_noise([clip.seed], shape)(ddim.START)
    t = torch.tensor([999])
    with torch.no_grad():
        v_cond, v_uncond = (sampler.networks.unet(torch.cat([x, given.ends], dim=1), t, given.context[branch], torch.tensor([10]))
                            for branch in ("full", "uncond"))
    v = guide(v_cond, v_uncond, 7.5, 0.7)
    abar_0 = sampler.schedule.abar[0]          # x0 = -v and eps = x at abar 0; the last step goes to abar of step 0
    expected = -abar_0.sqrt() * v + (1 - abar_0).sqrt() * x
    torch.testing.assert_close(sampler.draw([clip]), expected.float(), atol=1e-5, rtol=1e-5)


def test_end_latents_are_posterior_samples_of_the_key_frames_and_the_rest_is_zero():
    sampler, clip = make_sampler(), make_clip(1)
    given, _ = sampler._conditions([clip])
    posterior = sampler.networks.first_stage.encode(torch.stack([clip.first.pixels, clip.last.pixels]))
    noise = (given.ends[0][:, [0, -1]].transpose(0, 1) / LATENT_SCALE - posterior.mean) / posterior.std
    assert not given.ends[0][:, 1:-1].any()
    assert 0.8 < noise.std() < 1.2 and (noise[0] - noise[1]).abs().max() > 1


def test_neighbouring_clips_see_the_very_same_joint():
    sampler, joint = make_sampler(), make_key(5, index=1)
    before = sampler._end_latents(Clip(make_key(4), joint, 8, "", 10, 1))
    after = sampler._end_latents(Clip(joint, make_key(6, index=2), 8, "", 10, 2))
    assert torch.equal(before[:, -1], after[:, 0]) and before[:, -1].any()


@pytest.mark.parametrize("options", [
    "sampler.finish_rescale=true", "sampler.guidance=3", "sampler.guidance=1", "sampler.guidance_rescale=0", "sampler.eta=0",
    "sampler.temperature=0.5", "sampler.spacing=uniform", "sampler.image_guidance=2"])
def test_each_switch_of_the_sampler_changes_the_latents(options):
    clip, base = make_clip(1), make_sampler()
    assert (make_sampler(options).draw([clip]) - base.draw([clip])).abs().max() > 1e-4


def test_finish_rescale_takes_the_last_shrinking_back():
    plain, finished = (make_sampler(f"sampler.finish_rescale={word}", "sampler.steps=1", "sampler.eta=0").draw([make_clip(1)])
                       for word in ("false", "true"))
    x = ddim.seeded_noise([1], plain.shape[1:])(ddim.START)
    abar_0 = make_sampler().schedule.abar[0]
    left = (1 - abar_0).sqrt() * x
    torch.testing.assert_close((finished - left).float(), ((plain - left) / 0.7).float(), atol=1e-5, rtol=1e-5)    # scale at 999


@pytest.mark.parametrize(("one", "other"), [({"fps": 5}, {"fps": 30}), ({"prompt": "a cat"}, {"prompt": "a house on fire"})])
def test_fps_and_prompt_are_conditions(one, other):
    sampler = make_sampler()
    assert (sampler.draw([make_clip(1, **one)]) - sampler.draw([make_clip(1, **other)])).abs().max() > 1e-5


@pytest.mark.parametrize("num_frames", [3, 5, 17])
def test_other_lengths_work(num_frames):
    clip, sampler = make_clip(1, num_frames=num_frames), make_sampler()
    latents = sampler.draw([clip])
    assert latents.shape == (1, 4, num_frames, 8, 8)
    pixels = sampler.decode(latents[0], clip)
    assert pixels.shape == (3, num_frames, 64, 64) and pixels.isfinite().all() and pixels.abs().max() <= 1


def test_second_decode_replaces_the_middle_two_frames_only():
    clip, z = make_clip(1), torch.randn(4, 6, 8, 8, generator=torch.Generator().manual_seed(0))
    with_it, without = (make_sampler(f"sampler.second_decode={word}").decode(z, clip) for word in ("true", "false"))
    changed = [(with_it[:, frame] - without[:, frame]).abs().max() > 1e-6 for frame in range(6)]
    assert [bool(each) for each in changed] == [False, False, True, True, False, False]


def test_memory_settings_reach_the_decoder_and_offload_changes_nothing():
    clip, base = make_clip(1), make_sampler()
    z = base.draw([clip])
    whole = base.decode(z[0], clip)
    saving = make_sampler("memory.offload=true", "memory.attention_frames=2")
    assert torch.equal(saving.draw([clip]), z)
    torch.testing.assert_close(saving.decode(z[0], clip), whole, atol=1e-5, rtol=0)
    stage = base.networks.first_stage
    parts = make_sampler("memory.tile_px=48", "memory.frames_per_chunk=4").decode(z[0], clip)
    with torch.no_grad():
        expected = decode_video(stage, z, stage.references(clip.ends), tile=6, frames_per_chunk=4)
    torch.testing.assert_close(parts, expected[0].clamp(-1, 1), atol=1e-5, rtol=0)
    assert not torch.equal(parts, whole)


def test_bf16_is_close_to_float32():
    config, clip = make_job().networks, make_clip(1)
    half = load_networks(config, find_sources(config, with_sketches=True), Precision.BF16)
    for name in ("unet", "first_stage"):
        getattr(half, name).load_state_dict(getattr(tiny_networks(), name).state_dict())
    assert {parameter.dtype for parameter in half.unet.parameters()} == {torch.bfloat16}
    one_pass = "sampler.guidance=1"       # guidance multiplies the rounding by 7.5
    sampler, exact = make_sampler(one_pass, networks=half), make_sampler(one_pass)
    z, z_exact = sampler.draw([clip]), exact.draw([clip])
    assert z.dtype == torch.float32 and (z - z_exact).norm() / z_exact.norm() < 0.02
    assert (sampler.decode(z_exact[0], clip) - exact.decode(z_exact[0], clip)).abs().mean() < 0.02


def test_sketches_steer_and_scale_zero_is_none():
    def draw(*options, frames=(3,)):
        return make_sampler(*options).draw([hinted(1, frames)])

    plain = make_sampler().draw([make_clip(1)])
    assert torch.equal(draw("sketch.scale=0"), plain)
    assert (draw() - plain).abs().max() > 1e-3 and (draw() - draw("sketch.scale=0.5")).abs().max() > 1e-3
    assert (draw() - draw(frames=(5,))).abs().max() > 1e-4
    assert (draw() - draw("networks.sketch_context=all_tokens")).abs().max() > 1e-5


def test_residuals_are_those_of_the_paper_and_zero_gate_silences_unguided_frames():
    clip, x, t = hinted(1, (2, 4)), torch.randn(1, 4, 6, 8, 8, generator=torch.Generator().manual_seed(0)), torch.tensor([500])
    sampler = make_sampler("sketch.scale=0.6")
    gated = make_sampler("sketch.scale=0.6", "sketch.zero_gate=true")
    with torch.no_grad():
        given, _ = sampler._conditions([clip])
        context = given.context["full"]
        found, silenced = (each._residuals(each._conditions([clip])[0], context, x, t) for each in (sampler, gated))
        expected = tiny_networks().sketch(to_frames(x), to_frames(clip.hints[None]), t.repeat(6),
                                          sketch_context(context, 6, SketchContext.TEXT))
    for part, quiet, raw in zip(found, silenced, expected, strict=True):
        torch.testing.assert_close(part, 0.6 * raw)
        torch.testing.assert_close(quiet[[2, 4]], part[[2, 4]])
        assert not quiet[[0, 1, 3, 5]].any() and part[0].any()     # a frame without a sketch has residuals, too


def test_reconstruction_is_the_key_frames_own():
    sampler, key = make_sampler(), make_key(3, index=1)
    found = sampler.reconstruct(key)
    assert found.shape == (3, 64, 64) and torch.equal(found, sampler.reconstruct(key))
    assert (found - sampler.reconstruct(make_key(9, index=1))).abs().max() > 0.05
