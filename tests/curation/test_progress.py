"""Promise: whoever watches a curation reads true counts in plain ASCII, a line every few seconds and no more."""

import io
from pathlib import Path

import pytest
from ledger_rows import make_clip, make_record
from rich.console import Console

from curation.executor import Timing
from curation.funnel import summarise
from curation.progress import LINE_EVERY_S, Progress, clock_text, print_summary


class Clock:
    """A clock that moves when it is told to."""

    def __init__(self) -> None:
        self.now_s = 100.0

    def __call__(self) -> float:
        return self.now_s


def survey(progress: Progress, clock: Clock, *, num_sources: int, seconds_each: float) -> None:
    """Rows as a worker gives them: the record, two clips (one dropped), the timings of two stages."""
    for index in range(num_sources):
        clock.now_s += seconds_each
        name = f"{index}.mkv"
        for row in (make_record(name, num_frames=240, num_shots=2), make_clip(name, 0),
                    make_clip(name, 1, dropped_by="motion"), Timing("survey", 1, 1.0, 1.0),
                    Timing("propose", 1, 1.0, 1.0)):
            progress.add(row)


def test_lines_say_how_far_it_is_and_how_long_it_takes() -> None:
    clock, text = Clock(), io.StringIO()
    with Progress(4, console=Console(file=text, width=40), clock=clock) as progress:
        progress.stage("survey", 4)
        survey(progress, clock, num_sources=3, seconds_each=2.0)
        middle = text.getvalue().splitlines()
        survey(progress, clock, num_sources=1, seconds_each=2.0)
    # After 6 s the third film's first row arrives: two films (2 x 2 shots) are done and its own 2 shots are known.
    # 720 frames in 6 s; two of four films took 6 s.
    assert len(middle) == 1
    assert middle[0][9:] == "survey 2/4 sources 6 shots 4 clips 2 dropped 120 frames/s eta 0:06"
    assert text.getvalue().splitlines()[-1][9:] == "survey 4/4 sources 8 shots 8 clips 4 dropped 120 frames/s took 0:08"


def test_lines_are_rare_and_every_stage_ends_with_one() -> None:
    clock, text = Clock(), io.StringIO()
    with Progress(200, console=Console(file=text), clock=clock) as progress:
        progress.stage("identify")
        survey(progress, clock, num_sources=1, seconds_each=0.0)
        progress.stage("survey", 200)
        survey(progress, clock, num_sources=200, seconds_each=0.1)
        progress.stage("shards")
    lines = text.getvalue().splitlines()
    # 20 s of survey give at most 20 / LINE_EVERY_S lines and a last one; the others one each.
    assert len(lines) <= 2 + 20.0 / LINE_EVERY_S + 1
    assert [line.split()[1] for line in lines if "took" in line] == ["identify", "survey", "shards"]
    assert lines[0].split()[1:4] == ["identify", "1/200", "files"]


def test_what_came_from_the_store_does_not_count_as_decoded() -> None:
    clock, text = Clock(), io.StringIO()
    with Progress(1, console=Console(file=text), clock=clock) as progress:
        progress.stage("survey", 1)
        clock.now_s += 1
        progress.add(make_record(cpu_s=0.0))
    assert "frames/s" not in text.getvalue()


def test_nothing_is_printed_when_quiet_and_no_last_line_after_an_error() -> None:
    text = io.StringIO()
    with Progress(1, quiet=True, console=Console(file=text)) as progress:
        progress.stage("survey", 1)
        progress.add(make_record())
    with pytest.raises(KeyError), Progress(1, console=Console(file=text)) as progress:
        progress.stage("survey", 1)
        raise KeyError
    assert text.getvalue() == ""


def test_a_terminal_shows_a_bar_for_every_stage() -> None:
    clock, text = Clock(), io.StringIO()
    console = Console(file=text, force_terminal=True, width=120, legacy_windows=False)
    with Progress(2, console=console, clock=clock) as progress:
        progress.stage("identify", 2)
        progress.stage("survey", 2)
        survey(progress, clock, num_sources=2, seconds_each=1.0)
    assert "identify  [########################]" in text.getvalue()
    assert "2/2 sources 4 shots" in text.getvalue()
    assert text.getvalue().isascii()


@pytest.mark.parametrize(("seconds", "text"), [(0.4, "0:00"), (41, "0:41"), (59.6, "1:00"), (725, "12:05"),
                                               (11409, "3:10:09")])
def test_times_read_like_a_clock(seconds: float, text: str) -> None:
    assert clock_text(seconds) == text


def test_summary_is_plain_text_with_the_funnel_and_the_paths() -> None:
    clips = [make_clip(index=0), make_clip(index=1, dropped_by="motion"), make_clip(index=2, dropped_by="text_area")]
    summary = summarise([make_record(num_shots=3)], clips, {"survey": {"rows": 1, "wall_s": 2.0, "cpu_s": 1.5}}, 3.0)
    text = io.StringIO()
    out = Path("a folder with a long name/[bold]and brackets[/bold]/" + "deep/" * 20)
    print_summary(summary, out, console=Console(file=text))
    lines = text.getvalue().splitlines()
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if line.count("|") > 4]
    cells = {row[1]: row[2:4] for row in rows}
    # Three clips; duration and quality drop none, motion one, text_area one; one is left.
    assert cells["clips"] == ["3", ""] and cells["motion"] == ["2", "1"] and cells["text_area"] == ["1", "1"]
    assert cells["kept"] == ["1", ""]
    assert any(str(out / "report.html") in line for line in lines), "paths are not wrapped"
    assert any("train-*.tar  1 samples" in line for line in lines)
    assert not any("eval-" in line for line in lines), "no shards of a split without samples"
    assert text.getvalue().isascii() and "\x1b" not in text.getvalue()
