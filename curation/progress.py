"""What a curation shows while it runs and when it is done: a live picture on a terminal, plain lines elsewhere.

Everything is plain ASCII. Progress goes to stderr, the summary to stdout, so that a pipe holds only results.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from rich import box
from rich.console import Console, RenderableType
from rich.live import Live
from rich.table import Table
from rich.text import Text

from curation.executor import Timing
from curation.ledger import Clip, SourceRecord
from pipeline.shards import MANIFEST_FILE, SPLITS

LINE_EVERY_S = 5.0           # between two lines of a stage where there is no terminal
REFRESH_PER_S = 4.0
BAR_CHARS = 24
PLAIN_WIDTH = 100            # of tables that go into a file or a pipe
UNITS = {"identify": "files", "survey": "sources", "captions": "clips", "encode": "sources"}


@dataclass(slots=True)
class _StageCount:
    """One stage of the driver: how far it is and what came out of it."""

    name: str
    total: int                         # rows that go in; 0 where that is not known
    started_s: float
    ended_s: float | None = None
    leader: str = ""                   # of the stages in this chain, the one that every row enters first
    done: int = 0                      # rows that went through it
    sources: int = 0
    frames_decoded: int = 0
    shots: int = 0
    clips: int = 0
    dropped: int = 0
    others: int = 0                    # rows of other types that came out

    def add(self, row: object) -> None:
        match row:
            case Timing():
                self.leader = self.leader or row.stage
                self.done += row.num_rows if row.stage == self.leader else 0
            case SourceRecord():
                self.sources += 1
                self.shots += row.num_shots
                self.frames_decoded += row.num_frames if row.cpu_s > 0 else 0
            case Clip():
                self.clips += 1
                self.dropped += row.verdict is not None and not row.verdict.keep
            case _:
                self.others += 1

    def counts(self, now_s: float) -> str:
        """"12/40 sources 318 shots 402 clips 57 dropped 2113 frames/s": what is known, and nothing that is zero."""
        parts = [f"{self.done}/{self.total} {UNITS.get(self.name, 'rows')}"] if self.total else []
        if self.name == "survey":
            for count, unit in ((self.shots, "shots"), (self.clips, "clips"), (self.dropped, "dropped")):
                parts += [f"{count} {unit}"] if count else []
            seconds = (self.ended_s or now_s) - self.started_s
            if self.frames_decoded and seconds > 0:
                parts.append(f"{self.frames_decoded / seconds:.0f} frames/s")
        elif self.name == "encode" and self.others:
            parts.append(f"{self.others} clips")
        return " ".join(parts)

    def remaining(self, now_s: float) -> str:
        """"eta 0:41" while it runs, "took 1:02" afterwards, and nothing as long as nothing can be told."""
        if self.ended_s is not None:
            return f"took {clock_text(self.ended_s - self.started_s)}"
        if not self.done or self.done > self.total:
            return ""
        return f"eta {clock_text((now_s - self.started_s) / self.done * (self.total - self.done))}"

    @property
    def bar(self) -> str:
        share = 1.0 if self.ended_s is not None else min(1.0, self.done / self.total) if self.total else 0.0
        filled = int(share * BAR_CHARS)
        return f"[{'#' * filled}{'.' * (BAR_CHARS - filled)}]"


class Progress:
    """Shows how far a curation is; use as a context manager. `total_sources` are the entries found by name."""

    def __init__(self, total_sources: int, *, quiet: bool = False, console: Console | None = None,
                 clock: Callable[[], float] = time.monotonic) -> None:
        self.total_sources, self.quiet, self.clock = total_sources, quiet, clock
        self.console = console or Console(stderr=True, highlight=False)
        self._stages: list[_StageCount] = []
        self._line_s = 0.0
        self._live = Live(console=self.console, get_renderable=self._render, refresh_per_second=REFRESH_PER_S) \
            if self.console.is_terminal and not quiet else None

    def __enter__(self) -> Progress:
        if self._live:
            self._live.start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None,
                 trace: TracebackType | None) -> None:
        if kind is None:
            self._end_stage()
        if self._live:
            self._live.stop()

    def stage(self, name: str, total: int | None = None) -> None:
        """Ends the stage before and begins the next. `total`: rows that go in; None: for "identify" every entry."""
        self._end_stage()
        if total is None:
            total = self.total_sources if name == "identify" else 0
        self._stages.append(_StageCount(name, total, self.clock()))
        self._line_s = self.clock()

    def add(self, row: object) -> None:
        """Counts a row that came out of the stage that is running; its Timings tell how many went in."""
        now_s = self.clock()
        self._stages[-1].add(row)
        if now_s - self._line_s >= LINE_EVERY_S:
            self._line(now_s)

    def _end_stage(self) -> None:
        if self._stages and self._stages[-1].ended_s is None:
            self._stages[-1].ended_s = self.clock()
            self._line(self.clock())

    def _line(self, now_s: float) -> None:
        self._line_s = now_s
        if self.quiet or self._live:
            return
        stage = self._stages[-1]
        words = [time.strftime("%H:%M:%S"), stage.name, stage.counts(now_s), stage.remaining(now_s)]
        self.console.print(" ".join(word for word in words if word), markup=False, soft_wrap=True)

    def _render(self) -> RenderableType:
        now_s = self.clock()
        table = Table.grid(padding=(0, 1))
        for stage in self._stages:
            table.add_row(*map(Text, (f"{stage.name:<9}", stage.bar, stage.counts(now_s), stage.remaining(now_s))))
        return table


def clock_text(seconds: float) -> str:
    """"0:41", "12:05" or "3:10:09"."""
    whole = round(seconds)
    hours, minutes = whole // 3600, whole // 60 % 60
    return f"{hours}:{minutes:02d}:{whole % 60:02d}" if hours else f"{minutes}:{whole % 60:02d}"


def print_summary(summary: Mapping[str, Any], out: Path, *, console: Console | None = None) -> None:
    """Prints the funnel, the time of every stage and where the results lie."""
    console = console or Console(highlight=False)
    if not console.is_terminal:
        console = Console(file=console.file, width=PLAIN_WIDTH, highlight=False)
    console.print(_funnel_table(summary))
    console.print(_stage_table(summary))
    kept = summary["kept"]
    lines = [(f"{split} shards", f"{out / f'{split}-*.tar'}  {kept[split]} samples") for split in SPLITS if kept[split]]
    lines += [(name.partition(".")[0], str(out / name)) for name in (MANIFEST_FILE, "summary.json", "report.html")]
    for what, where in lines:
        console.print(f"{what + ':':<14}{where}", markup=False, soft_wrap=True)


def _funnel_table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=box.ASCII)
    for name in ("step", "left", "dropped"):
        table.add_column(name, justify="left" if name == "step" else "right")
    table.add_column("remarks")
    sources, kept = summary["sources"], summary["kept"]
    remarks = [f"{sources[name]} {name}" for name in ("quarantined", "duplicates", "damaged") if sources[name]]
    table.add_row("sources", str(sources["found"]), "", ", ".join(remarks))
    table.add_row("shots", str(summary["shots"]), "", f"{summary['film_seconds']:.0f} s of film")
    left = summary["clips"]
    table.add_row("clips", str(left))
    for gate, count in summary["dropped"].items():
        left -= count
        table.add_row(f"  {gate}", str(left), str(count))
    table.add_row("kept", str(left), "", f"{kept['train']} train, {kept['eval']} eval, {summary['kept_seconds']:.0f} s")
    return table


def _stage_table(summary: Mapping[str, Any]) -> Table:
    table = Table(box=box.ASCII)
    table.add_column("stage")
    for name in ("rows", "worker s", "cpu s", "frames/cpu s"):
        table.add_column(name, justify="right")
    for name, stage in summary["stages"].items():
        speed = stage.get("frames_per_cpu_s")
        table.add_row(name, str(stage["rows"]), f"{stage['wall_s']:.1f}", f"{stage['cpu_s']:.1f}",
                      "" if speed is None else f"{speed:.0f}")
    table.add_row("whole run", "", f"{summary['wall_s']:.1f}", "", "")
    return table
