"""Promise: the report is one page that needs nothing else, tells the numbers of the summary and trusts no file name."""

import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pytest
from ledger_rows import digest, make_clip, make_record, make_store

from curation.charts import MAX_TIMELINE_SPANS, SCORES, Fate, histogram, timeline
from curation.config import GatesConfig
from curation.examples import nearest_to_limits, spread
from curation.funnel import summarise
from curation.gates.aesthetic import Aesthetic
from curation.gates.alignment import Alignment
from curation.gates.duration import Duration
from curation.gates.motion import Motion
from curation.ledger import Clip, SourceRecord, Status
from curation.report import write_report
from pipeline.config import load
from pipeline.store import Store

LIMITS = load([]).gates
SOURCES = ["a.mkv", "b.mkv", "c.mkv"]


class Page(HTMLParser):
    """Tags, attributes and text of a page."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.links: list[str] = []
        self.words: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.links += [value or "" for name, value in attrs if name in ("src", "href", "srcset", "data", "action")]

    def handle_data(self, data: str) -> None:
        self.words.append(" ".join(data.split()))

    @property
    def text(self) -> str:
        return " ".join(word for word in self.words if word)


def rows() -> tuple[list[SourceRecord], list[Clip]]:
    records = [make_record(name, num_shots=4) for name in SOURCES]
    records += [SourceRecord("lost.mp4", Status.QUARANTINED, error="no film in it")]
    clips = [make_clip(name, index, dropped_by={2: "motion", 3: "text_area"}.get(index, "")) for name in SOURCES
             for index in range(4)]
    return records, clips


def report(folder: Path, records: list[SourceRecord], clips: list[Clip], store: Store | None = None, *,
           limits: GatesConfig = LIMITS, **more: Any) -> str:
    summary = summarise(records, clips, {"survey": {"rows": len(records), "wall_s": 2.0, "cpu_s": 1.0}}, 3.0)
    write_report(folder / "report.html", records, clips, summary, limits, store or Store(folder / "store"),
                 **{"title": "films", **more})
    return (folder / "report.html").read_text()


def test_page_needs_no_other_file_and_no_network(tmp_path: Path) -> None:
    records, clips = rows()
    html = report(tmp_path, records, clips, make_store(tmp_path / "s", SOURCES, [0, 24, 47, 60, 100]))
    page = Page(html)
    assert page.links, "pictures and links within the page are there"
    assert all(link.startswith(("data:image/jpeg;base64,", "#")) for link in page.links)
    assert not re.search(r"https?://|//\w+\.\w+|@import|url\(", html)
    assert not {"script", "link", "iframe", "object", "embed"} & set(page.tags)


def test_page_tells_the_counts_of_the_summary(tmp_path: Path) -> None:
    records, clips = rows()
    text = Page(report(tmp_path, records, clips)).text
    # 3 sources of 4 clips, of which motion drops the third and text the fourth; 1 source is no film.
    for words in ("4 sources", "12 shots", "12 clips", "6 clips kept", "6 train, 0 eval", "after motion 9 3 dropped",
                  "after text_area 6 3 dropped", "after duplicates 6", "kept for train 6", "motion: 3 of 3",
                  "text_area: 3 of 3", "6 of 6:", "lost.mp4 quarantined no film in it", "3 of 3 films"):
        assert words in text, words
    assert "aesthetic not measured" in text and "alignment not measured" in text


@pytest.mark.parametrize("hostile", ["<script>alert(1)</script>.mkv", '"><img src=x onerror=alert(1)>.mkv',
                                     "{{ 7*7 }}.mkv"])
def test_hostile_names_stay_text(tmp_path: Path, hostile: str) -> None:
    records = [make_record(hostile), SourceRecord(f"bad {hostile}", Status.QUARANTINED, error=hostile)]
    clips = [make_clip(hostile, caption=hostile), make_clip(hostile, 1, dropped_by="motion")]
    html = report(tmp_path, records, clips, make_store(tmp_path / "s", [hostile], [0, 60]), title=hostile)
    page = Page(html)
    assert "script" not in page.tags and not any(link == "x" for link in page.links)
    assert hostile in page.text


def test_same_rows_give_the_same_page_in_any_order(tmp_path: Path) -> None:
    records, clips = rows()
    store = make_store(tmp_path / "s", SOURCES, [0, 24, 47, 60, 100])
    first = report(tmp_path, records, clips, store)
    assert report(tmp_path, records[::-1], clips[::-1], store) == first


def test_page_stays_small_for_a_big_archive(tmp_path: Path) -> None:
    names = [f"{index:04d}-{'long name ' * 20}.mkv" for index in range(300)]
    records = [make_record(name, num_frames=96_000, num_shots=1000) for name in names[:3]]
    records += [make_record(name) for name in names[3:150]]
    records += [SourceRecord(name, Status.QUARANTINED, error="x" * 2000) for name in names[150:]]
    clips = [make_clip(name, index, dropped_by="" if index % 3 else "motion", caption="y" * 2000) for name in names[:3]
             for index in range(1000)]
    clips += [make_clip(name, index, dropped_by="" if index else "quality") for name in names[3:150]
              for index in range(5)]
    store = make_store(tmp_path / "s", names[:150], list(range(0, 96, 12)))
    html = report(tmp_path, records, clips, store)
    assert len(html) < 5_000_000
    assert html.count("<article") == 24 + 2 * 6, "24 kept clips and 6 of each of two gates"
    assert html.count('class="name" title=') <= 40


def test_a_page_can_be_made_of_nothing(tmp_path: Path) -> None:
    text = Page(report(tmp_path, [], [])).text
    assert "0 sources" in text and "0 clips kept" in text


def test_a_gate_that_is_off_says_so_and_has_no_limit_line(tmp_path: Path) -> None:
    limits = load(["gates.text_area.enabled=false"]).gates
    records, clips = rows()
    assert "text_area off" in Page(report(tmp_path, records, clips, limits=limits)).text
    [text] = [spec for spec in SCORES if spec.gate == "text_area"]
    found = histogram(text, clips, limits)
    assert found is not None and found.limit_x is None


def test_histogram_counts_every_clip_once_on_its_side_of_the_limit() -> None:
    [frames] = [spec for spec in SCORES if (spec.gate, spec.field) == ("duration", "frames")]
    clips = [make_clip(index=index).with_score("duration", Duration(count, 1.0, 8, 0)) for index, count in
             enumerate([4, 15, 15, 16, 30, 30, 500])]
    clips = [replace(clip, verdict=make_clip(dropped_by="duration").verdict) if index < 3 else clip
             for index, clip in enumerate(clips)]
    found = histogram(frames, clips, LIMITS)
    assert found is not None and found.num_clips == 7 and found.limit == "at least 16"
    told = {fate: sum(int(bar.tip.split()[0]) for bar in found.bars if bar.fate is fate) for fate in Fate}
    assert told == {Fate.KEPT: 4, Fate.DROPPED: 3, Fate.ELSEWHERE: 0}
    assert found.limit_x is not None
    assert all(bar.x + bar.width <= found.limit_x + 0.1 for bar in found.bars if bar.fate is Fate.DROPPED)
    assert all(bar.x >= found.limit_x - 0.1 for bar in found.bars if bar.fate is Fate.KEPT)


def test_a_score_that_no_clip_has_gives_no_histogram() -> None:
    [distance] = [spec for spec in SCORES if spec.gate == "duplicates"]
    assert histogram(distance, [make_clip()], LIMITS) is None


def test_examples_come_from_every_source_before_a_second_of_any() -> None:
    clips = [make_clip("long.mkv", index) for index in range(50)] + [make_clip(f"{index}.mkv") for index in range(3)]
    assert len({clip.source for clip in spread(clips, 4)}) == 4
    assert len(spread(clips, 20)) == 20


def test_examples_include_the_clip_nearest_to_each_limit() -> None:
    # The limit is 20 % of drawn motion: of the kept the one with 21 % is nearest, of the dropped the one with 19 %.
    shares = {0: 0.9, 1: 0.21, 2: 0.25, 3: 0.19, 4: 0.01}
    clips = [make_clip(index=index, drawn_share=share, dropped_by="motion" if share < 0.2 else "")
             for index, share in shares.items()]
    motion = [spec for spec in SCORES if spec.field == "drawn_share"]
    kept = nearest_to_limits([clip for clip in clips if not clip.verdict or clip.verdict.keep], 1, motion, LIMITS)
    dropped = nearest_to_limits([clip for clip in clips if clip.verdict and not clip.verdict.keep], 1, motion, LIMITS)
    assert kept == {clips[1].key: "motion.min_drawn_share"}
    assert dropped == {clips[3].key: "motion.min_drawn_share"}


def test_strips_show_the_first_middle_and_last_look_of_their_own_clip(tmp_path: Path) -> None:
    # Clip 0 holds frames 0..47 and the looks 0, 12, 24, 36, 47; clip 1 has one look; clip 2 has none.
    store = make_store(tmp_path / "s", ["a.mkv"], [0, 12, 24, 36, 47, 60])
    clips = [make_clip("a.mkv", index) for index in range(3)]
    html = report(tmp_path, [make_record("a.mkv")], clips, store)
    cards = html.split("<article")[1:]
    assert [card.count("<img") for card in cards] == [3, 1, 0]
    assert "no picture was kept" in cards[2]
    assert len(set(re.findall(r"base64,([^\"]+)", cards[0]))) == 3
    assert all(size in cards[0] for size in ('width="160"', 'height="90"'))  # 512x288 made to fit 160x120


def test_timelines_lay_spans_where_their_frames_are() -> None:
    record = make_record(num_frames=192)
    line = timeline(record, [make_clip(index=0), make_clip(index=2, dropped_by="motion")])
    # 48 of 192 frames are a quarter of 1000; frames 48..95 belong to no clip and stay empty.
    places = [(span.x, span.width, span.fate) for span in line.spans]
    assert places == [(0.0, 250.0, Fate.KEPT), (500.0, 250.0, Fate.DROPPED)]
    assert line.cuts == [500.0]


def test_timelines_of_long_films_have_bounded_detail() -> None:
    record = make_record(num_frames=48 * 3000)
    line = timeline(record, [make_clip(index=index, dropped_by="motion" if index % 2 else "") for index in range(3000)])
    assert len(line.spans) <= MAX_TIMELINE_SPANS + 1 and not any(span.tip for span in line.spans)
    assert line.spans[-1].x + line.spans[-1].width == pytest.approx(1000, abs=0.2)


def test_scores_of_the_report_are_real_fields_and_options() -> None:
    clip = make_clip().with_score("aesthetic", Aesthetic(5.0, 4.0, 6.0))
    clip = clip.with_score("alignment", Alignment(0.3, 0.3, 0.3, 0.3, 0.3))
    for spec in SCORES:
        assert hasattr(clip.scores[spec.gate], spec.field)
        assert hasattr(getattr(LIMITS, spec.gate), spec.option)
    assert isinstance(clip.scores["motion"], Motion) and clip.survey_key == digest(clip.source)


def test_models_and_versions_are_told(tmp_path: Path) -> None:
    records, clips = rows()
    text = Page(report(tmp_path, records, clips, models={"flow": "OpenCV DIS"}, versions={"survey": 7})).text
    assert "flow OpenCV DIS" in text and "survey version 7" in text
