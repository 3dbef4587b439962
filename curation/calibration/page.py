"""What a calibration shows: an ASCII table on the console, and calibration.html, which needs no network and no script.

Both are pure functions of calibration.json's content.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from rich import box
from rich.console import Console
from rich.table import Table

from curation.calibration.curves import CURVES
from curation.charts import HISTOGRAM_H, HISTOGRAM_W
from curation.progress import PLAIN_WIDTH
from pipeline.records import write_text

TEMPLATE = "calibration.html"
MAX_MISTAKES = 400           # in the page; calibration.json has them all
LINES = ("precision", "recall", "f1")
COUNTS = ("true_positives", "false_positives", "false_negatives", "true_negatives", "judged")

# Column: its heading, where the number is, and which.
COLUMNS = (
    ("cuts F1 +-0", ("cuts", "0"), "f1"), ("+-1", ("cuts", "1"), "f1"), ("+-2", ("cuts", "2"), "f1"),
    ("gradual F1", ("gradual",), "f1"), ("static", ("static",), "accuracy"), ("text", ("text",), "accuracy"),
    ("still pan", ("camera",), "accuracy"), ("holds", ("holds",), "accuracy"), ("cadence", ("cadence",), "accuracy"),
)


@dataclass(frozen=True, slots=True)
class CurveChart:
    """One curve as polylines in a view box of HISTOGRAM_W x HISTOGRAM_H; limits are spread evenly from left to right."""

    title: str
    option: str
    lines: list[tuple[str, str]]       # name and points
    low: str
    high: str
    limit: float
    limit_x: float
    suggested: float | None
    suggested_x: float | None
    best: float                        # F1


def print_calibration(result: Mapping[str, Any], out: Path, *, console: Console | None = None) -> None:
    """Prints agreement per film and overall, suggested limits, and where the results lie."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(file=console.file, width=PLAIN_WIDTH + 30, highlight=False)
    console.print(_agreement_table(result))
    if "stock" in result:
        console.print(_stock_table(result["stock"]))
    lines = []
    for option, value in result["suggested"].items():
        if value is not None:
            lines.append(f"{option}={value:g} would fit these labels best; now {result['limits'][option]:g}")
    lines += [f"{name}: not counted, because the label leaves it open: cuts at {', '.join(map(str, film['open_cuts']))}"
              for name, film in result["films"].items() if film["open_cuts"]]
    not_compared = {"films without a label": result["without_truth"], "labels without a film": result["truth_without_film"],
                    "could not be read": list(result["unreadable"])}
    lines += [f"{len(names)} {what}: {', '.join(names)}" for what, names in not_compared.items() if names]
    for line in (*lines, str(out / "calibration.json"), str(out / "calibration.html")):
        console.print(line, markup=False, soft_wrap=True)


def write_page(path: Path, result: Mapping[str, Any], *, title: str) -> None:
    """Writes the page."""
    environment = Environment(loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined,
                              trim_blocks=True, lstrip_blocks=True)
    mistakes = [(name, mistake) for name, film in result["films"].items() for mistake in film["mistakes"]]
    write_text(path, environment.get_template(TEMPLATE).render(
        title=title, result=result, columns=[heading for heading, _, _ in COLUMNS],
        rows=[(name, cells(film)) for name, film in result["films"].items()], overall=cells(result["overall"]),
        charts=[chart for name in result["curves"] if (chart := curve_chart(name, result)) is not None],
        mistakes=mistakes[:MAX_MISTAKES], num_mistakes=len(mistakes),
        stock=_stock_rows(result["stock"]) if "stock" in result else [], width=HISTOGRAM_W, height=HISTOGRAM_H))


def cells(agreement: Mapping[str, Any]) -> list[str]:
    """One text for each of COLUMNS; "-" where nothing was labelled or found."""
    return [_cell(agreement, where, which) for _, where, which in COLUMNS]


def curve_chart(name: str, result: Mapping[str, Any]) -> CurveChart | None:
    """None for a curve without points."""
    rows = result["curves"][name]
    if not rows:
        return None
    option, title = CURVES[name]
    limits = [row["limit"] for row in rows]
    step = HISTOGRAM_W / max(1, len(rows) - 1)
    tall = HISTOGRAM_H - 2             # a line's width stays inside
    lines = [(line, " ".join(f"{index * step:.1f},{(1 - row[line]) * tall + 1:.1f}" for index, row in enumerate(rows)))
             for line in LINES]
    suggested = result["suggested"].get(option)
    return CurveChart(title, option, lines, f"{limits[0]:g}", f"{limits[-1]:g}", result["limits"][option],
                      _place(limits, result["limits"][option]) * step, suggested,
                      None if suggested is None else _place(limits, suggested) * step, max(row["f1"] for row in rows))


def _place(limits: Sequence[float], value: float) -> float:
    """Position of a value among rising limits, in steps, between its neighbours where it is none of them."""
    above = bisect_left(limits, value)
    if above == 0 or above == len(limits):
        return float(min(above, len(limits) - 1))
    below = limits[above - 1]
    return above - 1 + (value - below) / (limits[above] - below)


def _cell(agreement: Mapping[str, Any], where: Sequence[str], which: str) -> str:
    row: Any = agreement
    for name in where:
        row = row.get(name)
        if row is None:
            return "-"
    return f"{row[which]:.3f}" if any(row.get(name) for name in COUNTS) else "-"


def _agreement_table(result: Mapping[str, Any]) -> Table:
    table = Table(box=box.ASCII)
    table.add_column("film", overflow="fold")
    for heading, _, _ in COLUMNS:
        table.add_column(heading, justify="right")
    for name, film in result["films"].items():
        table.add_row(name, *cells(film))
    table.add_section()
    table.add_row("overall", *cells(result["overall"]))
    return table


def _stock_rows(stock: Mapping[str, Any]) -> list[tuple[str, list[str]]]:
    """Tool by tool: precision, recall and F1 of cuts within 2 frames, F1 within 1 and 0, and accuracy of static or moving."""
    names = {"content_27": "PySceneDetect Content 27", "adaptive_3": "PySceneDetect Adaptive 3", "ours": "ours"}
    rows = []
    for name, cuts in stock["cuts"].items():
        shown = (("2", "precision"), ("2", "recall"), ("2", "f1"), ("1", "f1"), ("0", "f1"))
        texts = [f"{cuts[tolerance][which]:.3f}" for tolerance, which in shown]
        rows.append((names[name], [*texts, f"{stock['static']['ours']['accuracy']:.3f}" if name == "ours" else "-"]))
    rows.insert(-1, ("even-stride 2-fps motion", ["-"] * 5 + [f"{stock['static']['even_stride_2fps']['accuracy']:.3f}"]))
    return rows


def _stock_table(stock: Mapping[str, Any]) -> Table:
    table = Table(box=box.ASCII)
    table.add_column("tool")
    for heading in ("cuts P +-2", "R +-2", "F1 +-2", "F1 +-1", "F1 +-0", "static"):
        table.add_column(heading, justify="right")
    for name, texts in _stock_rows(stock):
        table.add_row(name, *texts)
    return table
