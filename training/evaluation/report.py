"""The report in one folder: results.json with everything, and the tables as Markdown, CSV, LaTeX and a page with films.

Each number stands beside its interval, each column has a footnote with its protocol, and published numbers, stand-ins and random
networks are marked wherever they are printed. Nothing here depends on a clock or a machine.
"""

from __future__ import annotations

import csv
import io
import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

from pipeline.records import Json, to_plain, write_json, write_text
from training.evaluation.config import EvaluateJob
from training.evaluation.films import write_side_by_side
from training.evaluation.published import find_published
from training.evaluation.samples import Entry
from training.evaluation.store import frames_folder, read_bytes, to_bytes
from training.evaluation.systems import System
from training.evaluation.table import Cell, Column, Row, Table
from training.metrics.metric import Direction

RESULTS, FILMS = "results.json", "films"
SCHEMA = 1
TEMPLATE = "report.html"
STAND_IN_MARK, RANDOM_MARK = "stand-in", "random weights"
# Places of the job that are no part of what is reported.
PLACES = ("shards", "triplets", "out", "folders", "checkpoints", "decoders", "animeinterp", "networks", "device", "ranks",
          "tracker")


@dataclass(frozen=True, slots=True)
class Shown:
    """A table as texts: what all formats print."""

    title: str
    num_clips: int
    heads: list[str]
    rows: list[list[str]]
    is_published: list[bool]


def write_report(out: Path, job: EvaluateJob, tables: Sequence[Table], systems: Sequence[System], shown: Sequence[Entry],
                 random_systems: Sequence[str]) -> list[str]:
    """Writes all files; returns their names. `shown` are the clips with films."""
    films = [(entry.key, str(_film(out, entry, systems))) for entry in shown]
    _write_json(out / RESULTS, job, tables, systems, random_systems)
    places = {column.name: place for place, column in enumerate(tables[0].columns, 1)}
    texts = [as_text(table, random_systems, places) for table in tables]
    notes = footnotes(tables, job)
    write_text(out / "report.md", markdown(texts, notes))
    write_text(out / "report.csv", csv_text(tables, random_systems))
    write_text(out / "report.tex", latex(texts, notes))
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    page = environment.get_template(TEMPLATE).render(tables=texts, notes=notes, films=films)
    write_text(out / "report.html", page)
    return [RESULTS, "report.md", "report.csv", "report.tex", "report.html", *([FILMS] if films else [])]


def as_text(table: Table, random_systems: Sequence[str], places: Mapping[str, int]) -> Shown:
    """Heads "psnr@interior, higher [1]" and cells "31.20 [30.91, 31.54]"; the best measured value of a column has a star.

    `places` are the numbers of the columns' footnotes.
    """
    best = {column.name: _best(column, table.rows, random_systems) for column in table.columns}
    rows = []
    for row in table.rows:
        name = row.system + (f" ({RANDOM_MARK})" if row.system in random_systems and row.source == "measured" else "")
        is_ours = row.source == "measured"
        cells = [_cell(row.cells.get(column.name), best[column.name] if is_ours else None) for column in table.columns]
        rows.append([name, row.source, *cells])
    heads = ["system", "source", *(_head(column, places[column.name]) for column in table.columns)]
    return Shown(table.title, table.num_clips, heads, rows, [row.source != "measured" for row in table.rows])


def footnotes(tables: Sequence[Table], job: EvaluateJob) -> list[str]:
    """A note for each column of the first table, in its order, then what holds for all."""
    whole = tables[0]
    notes = []
    for place, column in enumerate(whole.columns, 1):
        protocol = column.protocol
        size = f"{protocol['width_px']}x{protocol['height_px']} px" if protocol["width_px"] is not None else "regions of motion"
        cells = [row.cells[column.name] for row in whole.rows if column.name in row.cells]
        clips = " or ".join(str(count) for count in sorted({cell.num_clips for cell in cells if cell.num_clips}))
        truths = sorted({cell.of_truth for cell in cells if cell.of_truth is not None})
        of_truth = f"; the truth itself scores {_number(truths[0])}" if truths else ""
        notes.append(f"[{place}] {column.name}: {protocol['implementation']}; {protocol['weights']}; "
                     f"{protocol['frames']} frames, {protocol['num_frames']} of a clip, {size}; {clips} clips; "
                     f"{column.direction}: {column.note}{of_truth}")
    rounding = "made frames are rounded to 8 bits" if job.rounding else "made frames are measured as they are, in floating point"
    unit = "drawings" if job.drawings else "frames"
    seen = f"; {job.num_frames} frames at a stride of {job.stride} {unit} from the middle of each clip" if job.shards else ""
    notes.append(f"In brackets: {job.confidence:.0%} intervals of a bootstrap over clips, {job.replicates} replicates, "
                 f"seed {job.seed}; {rounding}{seen}. * is the best value measured here.")
    if any(column.is_stand_in for column in whole.columns):
        notes.append(f"Columns marked {STAND_IN_MARK} look through small random networks: their numbers compare with nothing "
                     "else.")
    for table in find_published(job.published):
        is_shown = any(row.source == table.mark for found in tables for row in found.rows)
        lacking = "" if is_shown else " Its numbers are not shown, because no column here is measured as they were."
        notes.append(f"{table.mark}: not measured here. {table.note}.{lacking}")
    return notes


def markdown(tables: Sequence[Shown], notes: Sequence[str]) -> str:
    parts = ["# Evaluation"]
    for table in tables:
        lines = [f"## {table.title} (N = {table.num_clips})", "", _line(table.heads), _line(["---"] * len(table.heads))]
        parts.append("\n".join([*lines, *(_line(row) for row in table.rows)]))
    parts.append("\n".join(f"- {_escaped(note)}" for note in notes))
    return "\n\n".join(parts) + "\n"


def csv_text(tables: Sequence[Table], random_systems: Sequence[str]) -> str:
    """One line for each number, with its protocol."""
    file = io.StringIO()
    protocol = ("implementation", "weights", "frames", "region", "num_frames", "width_px", "height_px")
    writer = csv.writer(file, lineterminator="\n")
    writer.writerow(["clips", "system", "source", "random_weights", "metric", "value", "low", "high", "num_clips", "of_truth",
                     *protocol])
    for table in tables:
        for row in table.rows:
            for column in table.columns:
                cell = row.cells.get(column.name)
                if cell is None:
                    continue
                is_ours = row.source == "measured"
                known = [column.protocol[name] for name in protocol] if is_ours else [""] * len(protocol)
                writer.writerow([table.title, row.system, row.source, is_ours and row.system in random_systems, column.name,
                                 *cell.record().values(), *known])
    return file.getvalue()


def latex(tables: Sequence[Shown], notes: Sequence[str]) -> str:
    """Tables for \\input; needs the package booktabs."""
    parts = []
    for table in tables:
        body = [" & ".join(_tex(text) for text in row) + r" \\" for row in table.rows]
        head = " & ".join(_tex(text) for text in table.heads) + r" \\"
        parts.append("\n".join([
            r"\begin{table}", rf"\caption{{{_tex(table.title)}, $N = {table.num_clips}$}}",
            rf"\begin{{tabular}}{{ll{'r' * (len(table.heads) - 2)}}}", r"\toprule", head, r"\midrule", *body, r"\bottomrule",
            r"\end{tabular}", r"\end{table}"]))
    parts.append("\n".join([r"\begin{itemize}", *(rf"\item {_tex(note)}" for note in notes), r"\end{itemize}"]))
    return "\n\n".join(parts) + "\n"


def _write_json(path: Path, job: EvaluateJob, tables: Sequence[Table], systems: Sequence[System],
                random_systems: Sequence[str]) -> None:
    settings = to_plain(job)
    assert isinstance(settings, dict)
    shown: dict[str, Json] = {name: value for name, value in settings.items() if name not in PLACES}
    found: list[Json] = []
    for table in tables:
        rows: list[Json] = []
        for row in table.rows:
            numbers: dict[str, Json] = {}
            for column in table.columns:
                if column.name in row.cells:
                    protocol = {**column.protocol, "rounded": job.rounding, "confidence": job.confidence,
                                "replicates": job.replicates, "num_clips": row.cells[column.name].num_clips}
                    numbers[column.name] = {**row.cells[column.name].record(), "direction": column.direction,
                                            "protocol": protocol if row.source == "measured" else row.source}
            rows.append({"system": row.system, "source": row.source, "numbers": numbers})
        found.append({"clips": table.title, "num_clips": table.num_clips, "rows": rows})
    identities: dict[str, Json] = {system.name: dict(system.identity) for system in systems}
    write_json(path, {"schema": SCHEMA, "settings": shown, "systems": identities, "random_weights": list(random_systems),
                      "tables": found, "footnotes": list(footnotes(tables, job))}, indent=1)


def _film(out: Path, entry: Entry, systems: Sequence[System]) -> Path:
    videos = {"truth": to_bytes(entry.load().truth).permute(0, 2, 3, 1).numpy()}
    videos |= {system.name: read_bytes(frames_folder(out, system.name, entry.key)) for system in systems}
    return Path(FILMS) / write_side_by_side(out / FILMS / entry.key, videos)


def _best(column: Column, rows: Sequence[Row], random_systems: Sequence[str]) -> float | None:
    """The best value measured; None where no direction is better, for stand-ins, and where fewer than two systems have one."""
    found = [row.cells[column.name].value for row in rows
             if row.source == "measured" and column.name in row.cells and row.system not in random_systems]
    if len(found) < 2 or column.is_stand_in or column.direction == Direction.NEITHER.value:
        return None
    return max(found) if column.direction == Direction.HIGHER.value else min(found)


def _head(column: Column, place: int) -> str:
    mark = f" ({STAND_IN_MARK})" if column.is_stand_in else ""
    arrow = {Direction.HIGHER.value: "higher", Direction.LOWER.value: "lower"}.get(column.direction, "see note")
    return f"{column.name}{mark}, {arrow} [{place}]"


def _cell(cell: Cell | None, best: float | None) -> str:
    if cell is None:
        return "-"
    interval = f" [{_number(cell.low)}, {_number(cell.high)}]" if cell.low is not None and cell.high is not None else ""
    return f"{_number(cell.value)}{'*' if cell.value == best else ''}{interval}"


def _number(value: float) -> str:
    """Four significant digits or more, without an exponent where that is short."""
    if not math.isfinite(value):
        return str(value)
    if value and abs(value) < 1e-3:
        return f"{value:.2e}"
    return f"{value:.2f}" if abs(value) >= 10 else f"{value:.4f}"


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(_escaped(cell) for cell in cells) + " |"


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("*", "\\*")


def _tex(text: str) -> str:
    return re.sub(r"([&%$#_{}])", r"\\\1", text.replace("\\", r"\textbackslash "))
