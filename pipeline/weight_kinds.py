"""What a weight file is, told by its names and shapes, and the message for one that does not fit."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

from pipeline.errors import UserError

Shape: TypeAlias = tuple[int, ...]
Shapes: TypeAlias = Mapping[str, Shape]

NUM_SHOWN = 4                  # rows of each sort in a message
_UNET = "model.diffusion_model."
_WHOLE = "It holds several models: give it as the whole model, or only the part that is asked for"


@dataclass(frozen=True, slots=True)
class Kind:
    name: str                  # fits into "this looks like ..."
    advice: str = ""           # a sentence without its full stop


def size_text(size_mb: float) -> str:
    """Returns "10.5 GB", "218 MB" or "4 kB"; of 0 "size not known"."""
    if not size_mb:
        return "size not known"
    if size_mb >= 1000:
        return f"{size_mb / 1000:.1f} GB"
    return f"{size_mb:.0f} MB" if size_mb >= 1 else f"{max(size_mb * 1000, 1):.0f} kB"


def guess(shapes: Shapes) -> Kind:
    """Tells what a file is from the names and shapes of its tensors; "a file of another kind" where nothing is known."""
    if _has(shapes, "lora_A.", "lora_B.", "lora_up.", "lora_down.", "lora_unet"):
        return Kind("a LoRA", "It adds to weights and does not replace them: merge it first")
    if _has(shapes, "exp_avg", "param_groups"):
        return Kind("the state of an optimizer", "Give the file of the weights themselves")
    if _has(shapes, "down_blocks.", "mid_block.", "up_blocks."):
        return Kind("a file with the names of diffusers", "Give the original single file of that model; its names are used here")
    if any(name.startswith(_UNET) for name in shapes):
        return _guess_whole(shapes)
    if "input_hint_block.0.weight" in {name.removeprefix("control_model.") for name in shapes}:
        return _guess_control({name.removeprefix("control_model."): shape for name, shape in shapes.items()})
    if "input_blocks.0.0.weight" in shapes:
        return _guess_unet(shapes)
    if _has(shapes, "decoder.conv_in.") or "encoder.conv_in.weight" in shapes:
        return _guess_first_stage(shapes)
    for marks, kind in _OTHERS:
        if all(any(mark in name for name in shapes) for mark in marks):
            return kind
    return Kind("a file of another kind", "Look at docs/weights.md for what fits")


# Each is known by fragments that all have to occur.
_OTHERS: tuple[tuple[tuple[str, ...], Kind], ...] = (
    (("latents", "to_kv.weight"), Kind("the image-context projector (Resampler)")),
    (("text_model.encoder",), Kind("a CLIP with the names of transformers", "Give OpenCLIP's own file")),
    (("vision_model.encoder",), Kind("a CLIP or BLIP-2 with the names of transformers", "Give OpenCLIP's own file")),
    (("visual.transformer", "token_embedding"), Kind("an OpenCLIP with its image tower")),
    (("transformer.resblocks", "token_embedding"), Kind("the text tower of an OpenCLIP")),
    (("fnet.", "update_block."), Kind("RAFT with its original names", "torchvision's file has the names wanted here")),
    (("feature_encoder.", "update_block."), Kind("RAFT of torchvision")),
    (("basenet.slice1",), Kind("CRAFT")),
    (("Conv3d_1a_7x7",), Kind("I3D")),
    (("lin0.model",), Kind("the heads of LPIPS", "They need a backbone beside them")),
    (("features.0.weight", "classifier."), Kind("a torchvision classifier (VGG or AlexNet)")),
    (("main.0.weight", "main.2.weight"), Kind("a PatchGAN discriminator")),
)


def _guess_whole(shapes: Shapes) -> Kind:
    if _has(shapes, "first_stage_model.decoder.attn_refinement."):
        return Kind("the whole of ToonCrafter", _WHOLE)
    if _has(shapes, "conditioner.embedders."):
        return Kind("the whole of Stable Video Diffusion", "Only its temporal decoder is of use here")
    unet = {name.removeprefix(_UNET): shape for name, shape in shapes.items() if name.startswith(_UNET)}
    if _has(unet, ".alpha") and _has(unet, "init_attn.", "temopral_conv."):
        return Kind("the whole of DynamiCrafter 256", "It is another kind of model; the 512 interpolation model fits")
    channels = _channels(unet, "input_blocks.0.0.weight")
    if _has(unet, "init_attn.", "temopral_conv."):
        if channels == 8 and _has(shapes, "image_proj_model."):
            return Kind("the whole of DynamiCrafter with 8 input channels (image-to-video or interpolation)", _WHOLE)
        if _has(shapes, "image_proj_model."):
            return Kind(f"the whole of DynamiCrafter with {channels} input channels", "Interpolation needs 8")
        return Kind(f"a text-to-video checkpoint with {channels} input channels", "Interpolation needs 8")
    inner = _guess_unet(unet)
    return Kind(f"the whole of {inner.name.removeprefix('the UNet of ')}", _WHOLE)


def _guess_unet(shapes: Shapes) -> Kind:
    channels = _channels(shapes, "input_blocks.0.0.weight")
    if _has(shapes, "init_attn.", "temopral_conv."):
        if channels == 8:
            return Kind("the UNet of ToonCrafter or DynamiCrafter")
        return Kind(f"a video UNet with {channels} input channels, as of text-to-video", "Interpolation needs 8 input channels")
    width = next((shape[-1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")), None)
    version = {1024: "Stable Diffusion 2.x", 768: "Stable Diffusion 1.x"}.get(width or 0, "an image diffusion model")
    inpainting = " for inpainting" if channels == 9 else ""
    return Kind(f"the UNet of {version}{inpainting}", "It has no temporal layers; it can start the sketch encoder")


def _guess_control(shapes: Shapes) -> Kind:
    hints = _channels(shapes, "input_hint_block.0.weight")
    width = next((shape[-1] for name, shape in shapes.items() if name.endswith(".attn2.to_k.weight")), None)
    if hints != 1:
        return Kind(f"a ControlNet for hints of {hints} channels", "The sketch encoder reads one channel")
    if width == 768:
        return Kind("a ControlNet of Stable Diffusion 1.x", "The sketch encoder is one of 2.1")
    return Kind("a sketch encoder (ControlNet with one hint channel)", "Give it as the sketch encoder")


def _guess_first_stage(shapes: Shapes) -> Kind:
    if _has(shapes, "quantize."):
        return Kind("a VQGAN", "The first stage is a KL autoencoder")
    if _has(shapes, "attn_refinement."):
        return Kind("the autoencoder of ToonCrafter, with the dual-reference decoder")
    if _has(shapes, ".time_stack."):
        return Kind("the temporal decoder of Stable Video Diffusion", "It has no references; give it as the first stage")
    return Kind("the VAE of Stable Diffusion", "It has neither time nor references; give it as the first stage")


def mismatch(model: str, expected: Shapes, given: Shapes, *, source: str, prefix: str, whole: Shapes) -> UserError:
    """Returns the error for a file that does not fit: counts, a guess what it is, and a table of the first few names.

    expected, given: shapes by name, with `prefix` cut off; whole: those of all tensors in the file.
    """
    missing = [f"{name} {_text(shape)}" for name, shape in expected.items() if name not in given]
    unexpected = [f"{name} {_text(shape)}" for name, shape in given.items() if name not in expected]
    reshaped = [f"{name}: file {_text(given[name])}, model {_text(shape)}"
                for name, shape in expected.items() if name in given and given[name] != shape]
    kind = guess(whole)
    counts = f"{len(missing)} missing, {len(unexpected)} unexpected, {len(reshaped)} of another shape"
    where = f" below {prefix}" if prefix else ""
    lines = [f"This looks like {kind.name}. {kind.advice}".rstrip(" .")]
    for title, rows in (("missing", missing), ("unexpected", unexpected), ("another shape", reshaped)):
        if len(rows) > NUM_SHOWN:
            rows = [*rows[:NUM_SHOWN], f"and {len(rows) - NUM_SHOWN:,} more"]
        lines += [f"  {title if index == 0 else '':<14} {row}" for index, row in enumerate(rows)]
    return UserError(f"{source} does not fit {model}", f"{counts}{where}", "\n".join(lines))


def _has(shapes: Shapes, *fragments: str) -> bool:
    return any(fragment in name for name in shapes for fragment in fragments)


def _channels(shapes: Shapes, name: str) -> int | None:
    shape = shapes.get(name, ())
    return shape[1] if len(shape) > 1 else None


def _text(shape: Shape) -> str:
    return "x".join(map(str, shape)) or "scalar"
