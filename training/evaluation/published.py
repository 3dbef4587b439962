"""Numbers of papers, to be printed beside ours and marked as theirs: other clips, other code, nothing measured here.

Sources: ToonCrafter (arXiv 2405.17933) Tables 1, 3 and 4; AnimeInterp (arXiv 2104.02495) Table 1. A paper's column goes into the
column here that is likeliest to mean the same; what the paper leaves open is in the table's note.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from pipeline.errors import UserError, nearest

TOONCRAFTER, ANIMEINTERP = "ToonCrafter (arXiv 2405.17933)", "AnimeInterp (arXiv 2104.02495)"
LEVELS = ("easy", "medium", "hard")


@dataclass(frozen=True, slots=True)
class PublishedRow:
    """A system's numbers: by the name of the number, for the whole set and for each stratum ("difficulty=easy")."""

    system: str
    values: Mapping[str, float]
    strata: Mapping[str, Mapping[str, float]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class PublishedTable:
    name: str
    source: str                        # paper and table
    note: str                          # what was measured, and what is not stated
    rows: tuple[PublishedRow, ...]

    @property
    def mark(self) -> str:
        return f"published: {self.source}"


def find_published(names: Sequence[str]) -> list[PublishedTable]:
    """The tables of these names; UserError for one that is not here."""
    for name in names:
        if name not in TABLES:
            near = nearest(name, TABLES)
            fix = f"Did you mean {near}?" if near else f"There are: {', '.join(TABLES)}"
            raise UserError(f"published has {name}, which is no table", fix=fix)
    return [TABLES[name] for name in names]


def _rows(columns: Sequence[str], lines: Mapping[str, Sequence[float]]) -> tuple[PublishedRow, ...]:
    return tuple(PublishedRow(name, dict(zip(columns, values, strict=True))) for name, values in lines.items())


def _atd12k(lines: Mapping[str, Sequence[float]]) -> tuple[PublishedRow, ...]:
    """PSNR and SSIM of the whole pictures, of the regions of motion and of each level, in the order of the paper."""
    rows = []
    for name, values in lines.items():
        pairs = list(zip(values[0::2], values[1::2], strict=True))
        whole, region, *levels = ({"psnr": psnr, "ssim_table1": ssim} for psnr, ssim in pairs)
        of_all = {**{f"{column}@interior": value for column, value in whole.items()},
                  **{f"{column}@roi": value for column, value in region.items()}}
        strata = {f"difficulty={level}": {f"{column}@interior": value for column, value in found.items()}
                  for level, found in zip(LEVELS, levels, strict=True)}
        rows.append(PublishedRow(name, of_all, strata))
    return tuple(rows)


TABLES: Mapping[str, PublishedTable] = {table.name: table for table in (
    PublishedTable(
        "tooncrafter_table1", f"{TOONCRAFTER}, Table 1",
        "1,000 clips of the paper's own, 512x320, 16 frames, all of them measured; systems fine-tuned on its data. The backbone "
        "of LPIPS and the model of CLIP are not stated: they stand under lpips_alex and ViT-B/32, which fit best",
        _rows(("fvd@all", "kvd@all", "lpips_alex@all", "clip_img@all", "clip_txt@all", "cpbd@all"), {
            "AnimeInterp": (196.66, 8.44, 0.1890, 0.8866, 0.3069, 0.5974),
            "EISAI": (146.65, 5.55, 0.1729, 0.9083, 0.3097, 0.6413),
            "FILM": (189.88, 8.01, 0.1702, 0.9006, 0.3083, 0.6317),
            "SEINE": (98.96, 2.93, 0.2519, 0.8531, 0.2962, 0.6630),
            "ToonCrafter": (43.92, 1.52, 0.1733, 0.9221, 0.3129, 0.6723)})),
    PublishedTable(
        "tooncrafter_table3", f"{TOONCRAFTER}, Table 3",
        "1,000 clips of the paper's own, without the dual-reference decoder. The model of CLIP is not stated",
        _rows(("fvd@all", "clip_img@all"), {
            "I: DCinterp, not trained": (86.62, 0.8637),
            "II: projector, spatial, temporal": (70.73, 0.8978),
            "III: projector, spatial; temporal bypassed": (291.45, 0.7997),
            "IV: projector, spatial; temporal frozen": (52.73, 0.9096),
            "V: projector": (81.45, 0.8875)})),
    PublishedTable(
        "tooncrafter_table4", f"{TOONCRAFTER}, Table 4",
        "reconstruction of 1,000 clips of the paper's own, 256x256. The kinds of SSIM and LPIPS are not stated: they stand "
        "under ssim_rgb and lpips_alex",
        _rows(("psnr@all", "ssim_rgb@all", "lpips_alex@all"), {
            "full decoder": (33.83, 0.9450, 0.0204),
            "without P3D": (32.51, 0.9270, 0.0326),
            "without HAR and P3D": (29.49, 0.8670, 0.0426)})),
    PublishedTable(
        "atd12k_table1", f"{ANIMEINTERP}, Table 1",
        "2,000 test triplets of ATD-12K, 960x540, the middle frame in floating point; SSIM with a range of 2, which raises it. "
        "Levels are means over whole pictures; systems are fine-tuned unless they say otherwise",
        _atd12k({
            "Super SloMo, not tuned": (27.88, 0.946, 24.56, 0.886, 30.66, 0.966, 27.29, 0.948, 24.63, 0.917),
            "Super SloMo": (28.19, 0.949, 24.83, 0.892, 30.86, 0.967, 27.63, 0.950, 25.02, 0.922),
            "DAIN, not tuned": (28.84, 0.953, 25.43, 0.897, 31.40, 0.970, 28.38, 0.955, 25.77, 0.927),
            "DAIN": (29.19, 0.956, 25.78, 0.902, 31.67, 0.971, 28.74, 0.957, 26.22, 0.932),
            "QVI, not tuned": (28.80, 0.953, 25.54, 0.900, 31.14, 0.969, 28.44, 0.955, 25.93, 0.929),
            "QVI": (29.04, 0.955, 25.65, 0.901, 31.46, 0.970, 28.63, 0.956, 26.11, 0.931),
            "AdaCoF, not tuned": (28.10, 0.947, 24.72, 0.886, 31.09, 0.968, 27.43, 0.948, 24.65, 0.916),
            "AdaCoF": (28.29, 0.951, 24.89, 0.894, 31.10, 0.969, 27.63, 0.951, 25.10, 0.925),
            "SoftSplat, not tuned": (29.15, 0.955, 25.75, 0.904, 31.50, 0.970, 28.75, 0.956, 26.29, 0.934),
            "SoftSplat": (29.34, 0.957, 25.95, 0.907, 31.60, 0.970, 28.96, 0.958, 26.59, 0.938),
            "AnimeInterp without SGM": (29.54, 0.958, 26.15, 0.910, 31.80, 0.971, 29.15, 0.959, 26.78, 0.939),
            "AnimeInterp without RFR": (27.62, 0.944, 24.43, 0.887, 29.78, 0.959, 27.29, 0.946, 24.94, 0.920),
            "AnimeInterp": (29.68, 0.958, 26.27, 0.910, 31.86, 0.971, 29.26, 0.959, 27.07, 0.939)})),
)}
