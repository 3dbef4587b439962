"""Promise: the study's page is a function of films and seed, and tells nobody which film is whose."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest
from study_results import SYSTEMS, film, make_study, write_pictures, write_results

from pipeline.errors import UserError
from training.study import films
from training.study.config import BuildOptions
from training.study.key import BLACK, CLIP, COPY, ORIGINAL, SHUFFLED, read_key
from training.study.page import build


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A study of five systems and two clips, with both kinds of check."""
    folder = tmp_path_factory.mktemp("study")
    make_study(folder)
    return folder


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in sorted(folder.rglob("*")) if path.is_file()}


def films_on(folder, trial):
    return {name: films.read_frames(folder / "study" / "page" / "films" / f"{name}.mp4") for name in trial.labels}


def test_same_films_and_seed_give_the_same_bytes(folder, tmp_path):
    make_study(tmp_path)
    assert files_of(tmp_path / "study") == files_of(folder / "study")


def test_another_seed_gives_other_names(folder, tmp_path):
    make_study(tmp_path, seed=1)
    assert not set(files_of(tmp_path / "study" / "page" / "films")) & set(files_of(folder / "study" / "page" / "films"))


def test_no_name_and_no_byte_of_the_page_tells_the_system_or_the_clip(folder):
    page = folder / "study" / "page"
    words = [word.encode() for word in (*SYSTEMS, "clip0", "clip1", ORIGINAL, SHUFFLED, BLACK)]
    for name, content in files_of(page).items():
        text = name.encode() + content.replace(b"shuffled(", b"")        # the function that orders, in the page's script
        assert not [word for word in words if word in text], name
    assert all(re.fullmatch(r"films/[0-9a-f]{16}\.mp4|index\.html", name) for name in files_of(page))


def test_places_in_the_page_do_not_follow_the_systems(folder):
    text = (folder / "study" / "page" / "index.html").read_text()
    trials = json.loads(re.search(r'id="study">(.*?)</script>', text)[1])["trials"]
    assert [trial["id"] for trial in trials] == sorted(trial["id"] for trial in trials)
    assert all(trial["films"] == sorted(trial["films"]) and len(trial["films"]) == 5 for trial in trials)


def test_names_do_not_follow_from_seed_and_system_alone(tmp_path):
    for number, brightness in enumerate((0, 30)):
        for system in range(2):
            write_pictures(tmp_path / str(number) / "in" / SYSTEMS[system] / "clip0", film(0, system) + np.uint8(brightness))
        build(BuildOptions(systems=str(tmp_path / str(number) / "in"), out=str(tmp_path / str(number) / "out"), checks=0))
    first, second = (set(read_key(tmp_path / str(number) / "out").trials.popitem()[1].labels) for number in range(2))
    assert not first & second


def test_times_of_files_do_not_tell_the_order_of_writing(folder):
    assert len({path.stat().st_mtime for path in (folder / "study" / "page" / "films").iterdir()}) == 1


def test_the_page_asks_nothing_of_a_network(folder):
    text = (folder / "study" / "page" / "index.html").read_text()
    assert not re.search(r"https?:|//[a-z]|@import|<link|src=\"", text.replace("// ", ""))


def test_each_comparison_holds_one_film_of_each_system_or_one_original_and_copies(folder):
    trials = read_key(folder / "study").trials.values()
    assert sorted(trial.kind for trial in trials) == [BLACK, CLIP, CLIP, SHUFFLED]
    for trial in trials:
        expected = SYSTEMS if trial.kind == CLIP else [COPY] * 4 + [ORIGINAL]
        assert sorted(trial.labels.values()) == sorted(expected)


def test_films_show_what_their_label_says(folder):
    for trial in read_key(folder / "study").trials.values():
        shown = films_on(folder, trial)
        for name, frames in shown.items():
            label = trial.labels[name]
            if trial.kind == CLIP:
                given = film(int(trial.clip[-1]), SYSTEMS.index(label))
                assert np.abs(frames.astype(int) - given).mean() < 6       # lossy, and colours at half size
            elif label == ORIGINAL:
                original = frames
        if trial.kind == CLIP:
            continue
        for name, frames in shown.items():
            if trial.labels[name] == COPY and trial.kind == BLACK:
                assert frames.max() < 20 < original.max()
            elif trial.labels[name] == COPY:
                assert films.change(frames) > films.change(original) + 0.5


def test_a_film_is_written_without_a_trace_of_its_file(folder, tmp_path):
    """The same picture out of an mp4 with a title and out of pictures: the same bytes on the page."""
    import av

    for place in ("pictures", "titled"):
        write_pictures(tmp_path / place / "in" / SYSTEMS[0] / "clip0", film(0, 0))
    frames = film(0, 1)
    path = tmp_path / "titled" / "in" / SYSTEMS[1] / "clip0.mkv"
    path.parent.mkdir()
    with av.open(str(path), "w") as container:
        container.metadata["title"] = "made by basilisk"
        stream = container.add_stream("ffv1", rate=30)
        stream.height, stream.width, stream.pix_fmt = *frames.shape[1:3], "bgr0"
        for frame in frames:
            container.mux(stream.encode(av.VideoFrame.from_ndarray(frame, format="rgb24").reformat(format="bgr0")))
        container.mux(stream.encode(None))
    write_pictures(tmp_path / "pictures" / "in" / SYSTEMS[1] / "clip0", films.read_frames(path))
    for place in ("pictures", "titled"):
        build(BuildOptions(systems=str(tmp_path / place / "in"), out=str(tmp_path / place / "out")))
    assert files_of(tmp_path / "pictures" / "out") == files_of(tmp_path / "titled" / "out")


def test_folders_of_the_sampler_are_read_and_clips_that_not_all_have_are_left_out(tmp_path):
    write_pictures(tmp_path / "in" / "one" / "walk" / "frames", film(0, 0))
    write_pictures(tmp_path / "in" / "two" / "walk", film(0, 1))
    write_pictures(tmp_path / "in" / "two" / "run", film(1, 1))
    built = build(BuildOptions(systems=f"{tmp_path}/in/one,{tmp_path}/in/two", out=str(tmp_path / "out"), checks=0))
    assert built.left_out == {"run": ["one"]}
    assert [trial.clip for trial in built.key.trials.values()] == ["walk"]


def test_as_many_clips_are_chosen_as_asked_for(tmp_path):
    results = write_results(tmp_path / "in", num_clips=4, systems=SYSTEMS[:2])
    built = build(BuildOptions(systems=str(results), out=str(tmp_path / "out"), clips=3, checks=0))
    assert len({trial.clip for trial in built.key.trials.values()}) == 3


def test_odd_sizes_become_films(tmp_path):
    films.write_film(tmp_path / "odd.mp4", film(0, 0, height=33, width=47), 8)
    assert films.read_frames(tmp_path / "odd.mp4").shape == (6, 34, 48, 3)


def told(capfd, *arguments):
    """What the command says, which ends with exit code 2 and one sentence or two on one line."""
    from training.study.__main__ import main

    assert main(list(arguments)) == 2
    error = capfd.readouterr().err
    assert error.startswith("toonforge: error: ") and error.count("\n") == 1
    return error


def test_mistakes_are_told_in_one_line(tmp_path, capfd):
    results = write_results(tmp_path / "in", num_clips=1, systems=SYSTEMS[:2])
    out = f"out={tmp_path}/out"
    assert "Did you mean build" in told(capfd, "biuld")
    assert "Did you mean systems=" in told(capfd, "build", "sytems=x", out)
    assert "systems has no value" in told(capfd, "build", out)
    assert "seed=x is no whole number" in told(capfd, "build", f"systems={results}", out, "seed=x")
    assert "clips must be at least 1" in told(capfd, "build", f"systems={results}", out, "clips=0")
    assert f"Did you mean {results}" in told(capfd, "build", f"systems={tmp_path}/inn", out)
    assert "gives 1 systems" in told(capfd, "build", f"systems={results}/{SYSTEMS[0]}", out)
    assert "lies inside" in told(capfd, "build", f"systems={results}", f"out={results}/study")


def test_films_of_other_sizes_or_lengths_are_refused(tmp_path):
    write_pictures(tmp_path / "in" / "one" / "walk", film(0, 0))
    write_pictures(tmp_path / "in" / "two" / "walk", film(0, 1, num_frames=5))
    with pytest.raises(UserError, match="one has 6 frames of 48x32, two has 5 frames of 48x32"):
        build(BuildOptions(systems=str(tmp_path / "in"), out=str(tmp_path / "out")))
    assert not (tmp_path / "out").exists()


def test_a_damaged_film_is_refused(tmp_path):
    for system in ("one", "two"):
        (tmp_path / "in" / system).mkdir(parents=True)
        (tmp_path / "in" / system / "walk.mp4").write_bytes(b"not a film")
    with pytest.raises(UserError, match=r"walk\.mp4 cannot be read"):
        build(BuildOptions(systems=str(tmp_path / "in"), out=str(tmp_path / "out")))


def test_a_check_is_refused_where_nothing_moves(tmp_path):
    for system in range(2):
        write_pictures(tmp_path / "in" / SYSTEMS[system] / "still", np.repeat(film(0, system)[:1], 4, axis=0))
    with pytest.raises(UserError, match="no film moves enough"):
        build(BuildOptions(systems=str(tmp_path / "in"), out=str(tmp_path / "out")))


def test_a_folder_with_another_study_is_refused_and_left_as_it_is(folder, tmp_path):
    make_study(tmp_path)
    before = files_of(tmp_path / "study")
    with pytest.raises(UserError, match="holds another study"):
        build(BuildOptions(systems=str(tmp_path / "results"), out=str(tmp_path / "study"), seed=5))
    assert files_of(tmp_path / "study") == before


def test_the_command_builds_and_says_what_to_hand_out(tmp_path):
    results = write_results(tmp_path / "in", num_clips=1, systems=SYSTEMS[:2])
    done = subprocess.run([sys.executable, "-m", "training.study", "build", f"systems={results}", f"out={tmp_path}/out"],
                          capture_output=True, text=True, check=True)
    assert "2 systems, 1 clips, 2 attention checks" in done.stdout and "page" in done.stdout
    data = re.search(r'id="study">(.*?)</script>', (tmp_path / "out" / "page" / "index.html").read_text())[1]
    assert json.loads(data)["study"] == read_key(tmp_path / "out").study


def test_the_launcher_hands_its_arguments_on(monkeypatch):
    from pipeline.launch import study

    called = []
    monkeypatch.setattr(study.os, "execv", lambda program, command: called.append((program, command)))
    study.study(["build", "systems=a"])
    assert called == [(sys.executable, [sys.executable, "-m", "training.study", "build", "systems=a"])]
