"""Memory-saving decoding of whole clips: in chunks of frames, in tiles, and the second decode of the middle frames.

The second decode is the public sampler's (ToonCrafter's release; it gives no reason): the two middle frames come from a decode
in which the second and the second-last latents were left out. It costs as much again and is on for parity.

Chunks and tiles are approximations that sources do not define; the decoder knows frames and positions by its group norms, which
pool over everything it sees at once, by its convolutions' reach and by the attention of the middle stage. Tones may differ a
little between neighbouring tiles or chunks; the smaller they are, the more. What we chose:

* References are added only to the clip's true end frames; every chunk attends to both. Neighbouring chunks overlap by up to two
  frames on each side, which are decoded and thrown away: a frame then has real neighbours for the first convolution pair.
* Tiles overlap by a quarter of their side and are blended linearly. They add exactly their own region of the references and
  attend to that region plus half a tile on each side, so that a drawing found elsewhere in a reference is found up to there.

Where the clip fits into one chunk and the picture into one tile, the result is that of the plain decode, to the bit.
"""

from collections.abc import Callable
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor

from training.models.autoencoder import LATENT_SCALE, DualRefAutoencoder
from training.models.dualref_decoder import DualRefDecoder, References
from training.models.kl_blocks import to_frames, to_video

MAX_CHUNK_MARGIN = 2                    # frames decoded beyond a chunk's border: the reach of one pair of temporal convolutions
TILE_OVERLAP = 0.25                     # of a tile's side
REFERENCE_MARGIN = 0.5                  # of a tile's side, seen beyond it by cross-attention

DecodeRegion = Callable[[Tensor, References | None], Tensor]    # [b, z, t, h, w] -> [b, 3, frames, H, W]


@dataclass(frozen=True, slots=True)
class Chunk:
    """Frames given to the decoder at once, and which of them are kept; positions in the clip."""

    seen: range
    kept: range


@torch.no_grad()
def decode_video(
    autoencoder: DualRefAutoencoder, z: Tensor, references: References | None, *, frames_per_chunk: int | None = None,
    tile: int | None = None, second_decode: bool = True, skip_temporal: bool = False, post_quant: bool = False,
) -> Tensor:
    """Decodes scaled latents [b, z, t, h, w] of whole clips to pixels [b, 3, t, H, W] about [-1, 1], not clipped.

    `frames_per_chunk` is the most frames the decoder sees at once, `tile` the largest side of what it sees, in latent positions;
    None means all. `second_decode` concerns clips of five frames or more; without temporal mixing it would change nothing and
    is left out. Raises ValueError for a chunk or tile below 1.
    """
    if (frames_per_chunk is not None and frames_per_chunk < 1) or (tile is not None and tile < 1):
        raise ValueError(f"frames_per_chunk and tile must be at least 1, found {frames_per_chunk} and {tile}")
    num_frames = z.shape[2]
    z = z / LATENT_SCALE
    if post_quant:
        z = to_video(autoencoder.post_quant_conv(to_frames(z)), num_frames)

    def decode(latents: Tensor, wanted: range) -> Tensor:
        def decode_region(part: Tensor, part_references: References | None) -> Tensor:
            chunks = plan_chunks(part.shape[2], frames_per_chunk, wanted)
            return _decode_chunks(autoencoder.decoder, part, part_references, chunks, skip_temporal)
        return _decode_tiles(autoencoder.decoder, latents, references, tile, decode_region)

    pixels = decode(z, range(num_frames))
    middle = middle_frames(num_frames)
    if second_decode and middle and not skip_temporal:
        again = decode(z[:, :, second_decode_indices(num_frames)], range(middle.start - 1, middle.stop - 1))
        pixels[:, :, middle.start:middle.stop] = again
    return pixels


def middle_frames(num_frames: int) -> range:
    """Returns the frames the second decode replaces: the middle two, or one of an odd number (our choice), none below five."""
    if num_frames < 5:
        return range(0)
    return range((num_frames - 1) // 2, num_frames // 2 + 1)


def second_decode_indices(num_frames: int) -> list[int]:
    """Returns the latents of the second decode: all but the second and the second-last."""
    return [i for i in range(num_frames) if i not in (1, num_frames - 2)]


def plan_chunks(num_frames: int, frames_per_chunk: int | None, wanted: range) -> list[Chunk]:
    """Returns chunks whose kept parts are the wanted frames, in order, none twice; none sees more than `frames_per_chunk`."""
    size = min(frames_per_chunk or num_frames, num_frames)
    overlap = 2 * min(MAX_CHUNK_MARGIN, (size - 1) // 4)           # a quarter at most, or nearly all work would be thrown away
    starts = _starts(num_frames, size, overlap)
    borders = [0, *((later + earlier + size) // 2 for earlier, later in pairwise(starts)), num_frames]
    chunks = []
    for i, start in enumerate(starts):
        kept = range(max(borders[i], wanted.start), min(borders[i + 1], wanted.stop))
        if kept:
            chunks.append(Chunk(seen=range(start, start + size), kept=kept))
    return chunks


def _starts(length: int, size: int, overlap: int) -> list[int]:
    """Starts of windows that cover the length; the last is moved back to end with it, so all have the full size."""
    return [*range(0, length - size, size - overlap), length - size]


def _decode_chunks(
    decoder: DualRefDecoder, z: Tensor, references: References | None, chunks: list[Chunk], skip_temporal: bool,
) -> Tensor:
    parts = []
    for chunk in chunks:
        ends = (chunk.seen.start == 0, chunk.seen.stop == z.shape[2])
        latents = to_frames(z[:, :, chunk.seen.start:chunk.seen.stop])
        pixels = to_video(
            decoder(latents, len(chunk.seen), references, skip_temporal=skip_temporal, ends=ends), len(chunk.seen))
        parts.append(pixels[:, :, chunk.kept.start - chunk.seen.start:chunk.kept.stop - chunk.seen.start])
    return torch.cat(parts, dim=2)


def _decode_tiles(
    decoder: DualRefDecoder, z: Tensor, references: References | None, tile: int | None, decode_region: DecodeRegion,
) -> Tensor:
    height, width = z.shape[-2:]
    if tile is None or tile >= max(height, width):
        return decode_region(z, references)
    rows, columns = plan_tiles(height, tile), plan_tiles(width, tile)
    scale = decoder.upscale
    total: Tensor | None = None
    share = torch.zeros(height * scale, width * scale, device=z.device)
    for y in rows:
        for x in columns:
            weight = _ramps(y, height, scale, z.device)[:, None] * _ramps(x, width, scale, z.device)
            pixels = decode_region(z[..., _cut(y), _cut(x)], _cut_references(decoder, references, (y, x), (height, width), tile))
            if total is None:
                total = torch.zeros(*pixels.shape[:3], *share.shape, device=z.device)
                dtype = pixels.dtype
            total[..., _cut(y, scale), _cut(x, scale)] += weight * pixels        # float32, whatever the decoder's dtype
            share[_cut(y, scale), _cut(x, scale)] += weight
    assert total is not None
    return (total / share).to(dtype)


def plan_tiles(length: int, tile: int) -> list[range]:
    """Returns overlapping ranges of latent positions that cover a side; one if it fits."""
    size = min(tile, length)
    return [range(start, start + size) for start in _starts(length, size, int(tile * TILE_OVERLAP))]


def _ramps(span: range, length: int, scale: int, device: torch.device) -> Tensor:
    """Weights of a tile's pixels along one side: rising from an inner border over the overlap, 1 elsewhere."""
    size = len(span) * scale
    ramp_px = max(int(len(span) * TILE_OVERLAP) * scale, 1)
    rising = ((torch.arange(size, device=device) + 0.5) / ramp_px).clamp(max=1.0)
    weights = torch.ones(size, device=device)
    if span.start > 0:
        weights = weights * rising
    if span.stop < length:
        weights = weights * rising.flip(0)
    return weights


def _cut_references(
    decoder: DualRefDecoder, references: References | None, region: tuple[range, range], size: tuple[int, int], tile: int,
) -> References | None:
    """Cuts each level to the tile, with a margin where it is attended to; `region` and `size` in latent positions."""
    if references is None:
        return None
    margin = int(tile * REFERENCE_MARGIN)
    seen = tuple(
        range(max(span.start - margin, 0), min(span.stop + margin, full)) for span, full in zip(region, size, strict=True))
    found = []
    for i, reference in enumerate(references):
        scale = decoder.upscale // 2**i if i < decoder.num_levels else decoder.upscale
        y, x = seen if i in decoder.cross_attention_levels else region
        found.append(reference[..., _cut(y, scale), _cut(x, scale)])
    return tuple(found)


def _cut(span: range, scale: int = 1) -> slice:
    return slice(span.start * scale, span.stop * scale)
