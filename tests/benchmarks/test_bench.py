"""Promise: `make bench` times the real curation on the films it names, every time from nothing, and leaves nothing behind."""

import json
import tempfile
import time

import av
import numpy as np
import pytest

from benchmarks import __main__ as bench
from benchmarks import stages
from benchmarks.meter import Meter, Spread, peak_rss_mb
from curation.ledger import Access
from curation.survey import load_survey
from pipeline import config
from pipeline.errors import UserError
from pipeline.records import read_json
from pipeline.store import Store

WIDTH, HEIGHT, FRAMES, REPEATS = 320, 240, 30, 2


def write_film(path, num_frames=FRAMES):
    """A bright box that walks on twos over a textured ground."""
    ground = np.random.default_rng(0).integers(60, 120, (HEIGHT // 8, WIDTH // 8, 3), np.uint8).repeat(8, 0).repeat(8, 1)
    with av.open(str(path), "w") as film:
        stream = film.add_stream("libx264", rate=24, options={"threads": "1"})
        stream.width, stream.height, stream.pix_fmt = WIDTH, HEIGHT, "yuv420p"
        for index in range(num_frames):
            picture = ground.copy()
            left = 20 + index // 2 * 12
            picture[80:140, left : left + 60] = (240, 220, 40)
            film.mux(stream.encode(av.VideoFrame.from_ndarray(picture, format="rgb24")))
        film.mux(stream.encode(None))
    return path


@pytest.fixture(scope="module")
def archive(tmp_path_factory):
    """Two films, one broken file and one that is no film."""
    folder = tmp_path_factory.mktemp("films")
    write_film(folder / "one.mp4")
    write_film(folder / "two.mp4", FRAMES + 6)
    (folder / "broken.mp4").write_bytes(b"not a film at all" * 100)
    (folder / "notes.txt").write_text("no film")
    return folder


@pytest.fixture(scope="module")
def finished(archive, tmp_path_factory):
    """One run of the command; (printed, report, desk, surveys written into a store)."""
    desk, report, surveys = tmp_path_factory.mktemp("desk"), tmp_path_factory.mktemp("report") / "new" / "bench.json", []
    publish = Store.publish

    def counted(store, kind, key):
        surveys.append(key) if kind == "survey" else None
        return publish(store, kind, key)

    with pytest.MonkeyPatch.context() as patch, tempfile.TemporaryFile("w+") as printed:
        patch.setattr(tempfile, "tempdir", str(desk))
        patch.setattr(Store, "publish", counted)
        patch.setattr("sys.stdout", printed)
        code = bench.main([str(archive), f"repeats={REPEATS}", "peers=true", f"report={report}"])
        printed.seek(0)
        text = printed.read()
    assert code == 0, text
    return text, read_json(report, 1), desk, surveys


def row(report, name):
    return next(row for row in report["rows"] if row["name"] == name)


def test_films_that_can_be_decoded_are_named_with_their_frames(finished):
    printed, report, _, _ = finished
    assert [(film["name"], film["frames"]) for film in report["films"]] == [("one.mp4", FRAMES), ("two.mp4", FRAMES + 6)]
    assert "one.mp4" in printed and "two.mp4" in printed and "broken.mp4" not in printed


def test_every_stage_saw_every_frame(finished):
    _, report, _, _ = finished
    for name in ("bare decode", "survey without flow", "all scoring", "survey", "survey: signals", "PySceneDetect content"):
        assert row(report, name)["amount"] == 2 * FRAMES + 6, name
    assert row(report, "survey: looks")["amount"] == 4          # of each film the first frame and the one after a second
    assert row(report, "survey: flow")["amount"] > 0


def test_ratios_are_cpu_time_over_a_bare_decode(finished):
    printed, report, _, _ = finished
    bare, scoring = row(report, "bare decode")["cpu_s"], row(report, "all scoring")["cpu_s"]
    ratio = report["ratios"]["all_scoring"]
    # Each repeat is divided by its own decode, so the median lies between the extremes of all pairs.
    assert scoring["min"] / bare["max"] <= ratio["min"] <= ratio["median"] <= ratio["max"] <= scoring["max"] / bare["min"]
    assert report["ratios"]["survey_without_flow"]["median"] >= 1.0
    assert f"{ratio['median']:.2f} times the CPU time of a bare decode" in printed


def test_parts_of_the_survey_and_the_rest_make_up_the_survey(finished):
    _, report, _, _ = finished
    names = ("decode", "signals", "flow", "looks", "rest")
    parts = sum(row(report, f"survey: {name}")["cpu_s"]["median"] for name in names)
    assert parts == pytest.approx(row(report, "survey")["cpu_s"]["median"], rel=0.01)     # medians of two are means
    assert row(report, "all scoring")["cpu_s"]["min"] >= row(report, "survey")["cpu_s"]["min"]


def test_every_pass_begins_with_an_empty_store_and_leaves_nothing(finished):
    _, _, desk, surveys = finished
    # The warming up surveys one film; each repeat two films alone, and within the curation these and tries the broken one.
    assert len(surveys) == 1 + REPEATS * (2 + 3)
    assert list(desk.iterdir()) == []


def test_what_is_printed_is_plain_ascii_in_lines_that_fit(finished):
    printed, _, _, _ = finished
    assert printed.isascii()
    assert max(map(len, printed.splitlines())) <= 130


def test_the_report_says_on_which_machine_and_with_which_versions(finished):
    _, report, _, _ = finished
    assert report["machine"]["pyav"] == av.__version__
    assert report["machine"]["cores"] >= 1 and report["repeats"] == REPEATS
    json.dumps(report, allow_nan=False)


def test_the_survey_alone_measures_no_flow_and_everything_else(archive, tmp_path):
    job = config.load([f"archive={archive}"])
    films = stages.find_films(job, str(archive), tmp_path / "films")
    _, num_frames = stages.survey_alone(job, films[:1], tmp_path)
    key = stages.Survey(job.curation.survey, job.curation.sources, "").key(films[0].source)
    survey = load_survey(Store(tmp_path / "store"), key)
    assert num_frames == survey.num_frames == FRAMES
    assert np.isnan(survey.signals["pan_x"]).all()
    assert survey.signals["change_peak"].max() > 50 and len(survey.looks) == 2


def test_the_bare_decode_counts_members_of_archives_and_pictures(archive, tmp_path):
    film = (archive / "one.mp4").read_bytes()
    (tmp_path / "pack").write_bytes(b"before" + film + b"after")
    assert stages._decode(Access(str(tmp_path / "pack"), offset=6, length=len(film))) == FRAMES
    for index in range(3):
        picture = np.zeros((2, 2, 3), np.uint8)
        (tmp_path / f"{index}.ppm").write_bytes(b"P6 2 2 255\n" + picture.tobytes())
    pictures = Access(str(tmp_path), pictures=("0.ppm", "1.ppm", "2.ppm"))
    assert sum(map(stages._decode, stages._files(pictures))) == 3


class Worker:
    def work(self):
        end = time.thread_time() + 0.02
        while time.thread_time() < end:
            pass
        return "done"

    def items(self):
        for item in range(3):
            self.work()
            yield item


def test_watching_measures_calls_and_steps_and_puts_the_functions_back():
    before, meter = (Worker.work, Worker.items), Meter(time.thread_time)
    with meter.watching({"work": [(Worker, "work")]}):
        assert Worker().work() == "done"
    assert (Worker.work, Worker.items) == before
    with meter.watching({"items": [(Worker, "items")]}):
        for _ in Worker().items():
            time.sleep(0.01)                   # the consumer's time is not the generator's
            Worker().work()
    assert meter.usages["work"].calls == 1
    assert 0.02 <= meter.usages["work"].cpu_s < 0.04
    assert 0.06 <= meter.usages["items"].cpu_s < 0.1


def test_watching_what_does_not_exist_is_an_error():
    with pytest.raises(AttributeError, match="wrok"), Meter().watching({"work": [(Worker, "wrok")]}):
        pass


def test_peak_memory_is_that_of_the_measurement_and_of_those_within():
    if not peak_rss_mb():
        pytest.skip("the peak of resident memory is absent: no /proc/self/status")
    meter = Meter(with_memory=True)
    with meter.measure("before"):
        pass
    with meter.measure("outer"):
        with meter.measure("inner"):
            del_me = b"x" * 80_000_000
            del del_me
        with meter.measure("after"):
            pass
    peaks = {name: usage.peak_rss_mb for name, usage in meter.usages.items()}
    assert peaks["inner"] >= peaks["before"] + 75
    assert peaks["outer"] >= peaks["inner"]
    assert peaks["after"] <= peaks["inner"] - 40          # the peak begins anew, if this kernel lets it


def test_a_spread_is_median_smallest_and_largest():
    assert Spread.of([3.0, 1.0, 10.0]) == Spread(3.0, 1.0, 10.0)


@pytest.mark.parametrize(("arguments", "said"), [
    (["repeat=3"], "Did you mean repeats?"),
    (["repeats=0"], "repeats=0"),
    (["peers=maybe"], "peers=maybe"),
    (["out=elsewhere"], "out=elsewhere has no effect here"),
    (["gates.text_area.maxx=1"], "gates.text_area.max"),
    (["archive=/nowhere/at/all"], "does not exist"),
])
def test_a_mistake_is_one_sentence_and_exit_code_2(arguments, said, capsys):
    assert bench.main(arguments) == 2
    error = capsys.readouterr().err
    assert error.startswith("toonforge: error: ") and said in error and error.count("\n") == 1


def test_an_archive_without_a_film_is_refused(tmp_path, capsys):
    (tmp_path / "notes.txt").write_text("no film")
    assert bench.main([str(tmp_path)]) == 2
    assert "no film that can be decoded" in capsys.readouterr().err


def test_a_word_alone_is_the_archive_and_the_rest_goes_to_the_curation():
    options = bench.parse(["films", "gates=strict", "repeats=5"])
    assert options.overrides == ("archive=films", "gates=strict")
    assert (options.repeats, options.peers) == (5, False)
    with pytest.raises(UserError):
        bench.parse(["curation.workers=2"])


def test_every_row_of_the_report_is_a_line_of_the_table(finished):
    printed, report, _, _ = finished
    for name in (row["name"] for row in report["rows"]):
        assert any(line.strip().startswith(name.rpartition(": ")[2]) for line in printed.splitlines()), name
