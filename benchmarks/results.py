"""From usages to medians, ratios, a table and out/bench.json."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import av
import cv2
import numpy as np

from benchmarks.meter import Spread, Usage
from benchmarks.peers import PeerPass
from benchmarks.stages import Film, WholePass

BENCH_SCHEMA = 1
PARTS_OF = {"survey": ("decode", "signals", "flow", "looks"), "text_area": ("reading",)}
UNITS = {"flow": "pairs", "looks": "looks", "reading": "looks", "shards": "MB", "identify": "MB"}
CALLS_PER_UNIT = {"flow": 2, "looks": 3}       # functions that are watched for one of them
HEAD = ("stage", "amount", "", "a second", "wall s", "CPU s", "min-max", "CPU / bare", "peak MB")


@dataclass(frozen=True, slots=True)
class Repeat:
    """One round: every pass once."""

    bare: Usage
    bare_by_film: dict[str, tuple[int, float]]     # frames and CPU-seconds
    survey_alone: Usage
    whole: WholePass
    peers: dict[str, PeerPass] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Row:
    """One line of the table."""

    name: str
    amount: float
    unit: str
    wall_s: Spread
    cpu_s: Spread
    to_bare: Spread                # CPU time over that of the bare decode in the same repeat
    peak_rss_mb: float             # largest of the repeats; 0: not measured


@dataclass(frozen=True, slots=True)
class Results:
    """Everything one run of the benchmark found."""

    archive: str
    films: list[dict[str, Any]]
    repeats: int
    machine: dict[str, str | int]
    reader_start: Usage
    rows: list[Row]

    def row(self, name: str) -> Row:
        return next(row for row in self.rows if row.name == name)

    @property
    def ratios(self) -> dict[str, Spread]:
        """CPU time over one bare decode of the same films."""
        return {"survey_without_flow": self.row("survey without flow").to_bare, "all_scoring": self.row("all scoring").to_bare}

    def record(self) -> dict[str, Any]:
        """As it stands in the JSON file."""
        return {"schema": BENCH_SCHEMA, **asdict(self), "ratios": {name: asdict(ratio) for name, ratio in self.ratios.items()}}


def collect(archive: str, films: Sequence[Film], repeats: Sequence[Repeat], reader_start: Usage) -> Results:
    """Medians over the repeats; parts indented below their stage, with what is left of it as "rest"."""
    whole = repeats[0].whole
    num_bare = sum(count for count, _ in repeats[0].bare_by_film.values())
    source_mb = sum(film.source.num_bytes for film in films) / 1e6
    bare = [repeat.bare for repeat in repeats]
    rows = [_row("bare decode", num_bare, "frames", bare, bare),
            _row("survey without flow", whole.num_frames, "frames", [repeat.survey_alone for repeat in repeats], bare),
            _row("all scoring", whole.num_frames, "frames", [repeat.whole.stages["scoring"] for repeat in repeats], bare)]
    amounts = {"identify": source_mb, "encode": whole.num_kept_frames, "shards": whole.shard_bytes / 1e6}
    for name in (name for name in whole.stages if name != "scoring"):
        usages = [repeat.whole.stages[name] for repeat in repeats]
        rows.append(_row(name, amounts.get(name, whole.num_frames), UNITS.get(name, "frames"), usages, bare))
        parts = [[repeat.whole.parts[part] for repeat in repeats] for part in PARTS_OF.get(name, ())]
        for part, of_part in zip(PARTS_OF.get(name, ()), parts, strict=True):
            amount = of_part[0].calls // CALLS_PER_UNIT.get(part, 1) if part in UNITS else whole.num_frames
            rows.append(_row(f"{name}: {part}", amount, UNITS.get(part, "frames"), of_part, bare))
        if parts:
            rest = [Usage(1, usage.wall_s - sum(part.wall_s for part in of_repeat), usage.cpu_s - sum(
                part.cpu_s for part in of_repeat)) for usage, of_repeat in zip(usages, zip(*parts, strict=True), strict=True)]
            rows.append(_row(f"{name}: rest", whole.num_frames, "frames", rest, bare))
    for name, peer in repeats[0].peers.items():
        num_frames = sum(repeats[0].bare_by_film[film][0] for film in peer.films)
        of_films = [Usage(1, 0.0, sum(repeat.bare_by_film[film][1] for film in peer.films)) for repeat in repeats]
        label = name if len(peer.films) == len(films) else f"{name}, {len(peer.films)} of {len(films)} films"
        rows.append(_row(label, num_frames, "frames", [repeat.peers[name].usage for repeat in repeats], of_films))
    return Results(archive, [_film(film, repeats[0].bare_by_film) for film in films], len(repeats), machine(), reader_start, rows)


def table(results: Results) -> str:
    """Plain ASCII, one line a stage; below it the two ratios the project is held to."""
    lines = [HEAD]
    for row in results.rows:
        owner, _, part = row.name.partition(": ")
        lines.append((f"  {part}" if part else owner, f"{row.amount:.0f}" if row.unit != "MB" else f"{row.amount:.1f}", row.unit,
                      f"{row.amount / row.wall_s.median:.0f}" if row.wall_s.median > 0 else "-", f"{row.wall_s.median:.2f}",
                      f"{row.cpu_s.median:.2f}", f"{row.cpu_s.min:.2f}-{row.cpu_s.max:.2f}", f"{row.to_bare.median:.2f}",
                      f"{row.peak_rss_mb:.0f}" if row.peak_rss_mb else ""))
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEAD))]
    aligned = [" | ".join(cell.ljust(width) if column in (0, 2) else cell.rjust(width)
                          for column, (cell, width) in enumerate(zip(line, widths, strict=True))).rstrip() for line in lines]
    aligned.insert(1, "-+-".join("-" * width for width in widths))
    said = {"survey_without_flow": "survey alone (decode, signals, looks, bars; no flow)",
            "all_scoring": "survey with all scoring (flow, text, captions, duplicates, verdicts)"}
    ratios = [f"{said[name]}: {ratio.median:.2f} times the CPU time of a bare decode ({ratio.min:.2f}-{ratio.max:.2f})"
              for name, ratio in results.ratios.items()]
    start = f"text reader: starts in {results.reader_start.cpu_s:.1f} CPU-s, once per worker; not counted above"
    return "\n".join([*aligned, "", *ratios, start])


def preface(results: Results) -> str:
    """Which films, which machine."""
    films, made = results.films, results.machine
    lines = [f"{film['name']}: {film['codec']} {film['pix_fmt']} {film['width']}x{film['height']}, {film['frames']} frames"
             for film in films]
    head = f"films of {results.archive}: {len(films)}, {sum(film['frames'] for film in films)} frames"
    return "\n".join([head, *(f"  {line}" for line in lines), ", ".join(f"{name} {value}" for name, value in made.items()),
                      f"one process, one thread, an empty store each time; medians of {results.repeats} repeats"])


def machine() -> dict[str, str | int]:
    """What speed depends on; no names of hosts."""
    return {"cores": len(os.sched_getaffinity(0)), "processor": _processor(), "python": platform.python_version(),
            "pyav": av.__version__, "opencv": cv2.__version__, "numpy": np.__version__}


def _row(name: str, amount: float, unit: str, usages: Sequence[Usage], bare: Sequence[Usage]) -> Row:
    ratios = [usage.cpu_s / max(decode.cpu_s, 1e-9) for usage, decode in zip(usages, bare, strict=True)]
    return Row(name, amount, unit, Spread.of([usage.wall_s for usage in usages]), Spread.of([usage.cpu_s for usage in usages]),
               Spread.of(ratios), max(usage.peak_rss_mb for usage in usages))


def _film(film: Film, bare_by_film: dict[str, tuple[int, float]]) -> dict[str, Any]:
    probe = film.probe
    return {"name": film.source.name, "sha256": film.source.sha256, "codec": probe.codec, "pix_fmt": probe.pix_fmt,
            "width": probe.width, "height": probe.height, "frames": bare_by_film[film.source.name][0]}


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.machine()
    return next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), platform.machine())
