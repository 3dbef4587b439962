"""Promise: a list of films is read whole, shared without a gap, and its first mistake names the line and the word."""

import json

import pytest
from sampling_jobs import make_job, save_drawing, save_sketch

from pipeline.errors import UserError
from training.sampling.jobs import read_requests, share
from training.sampling.long import clip_frames, clip_seed, film_length


@pytest.fixture
def folder(tmp_path):
    for name in ("a", "b", "c"):
        save_drawing(tmp_path / f"{name}.png", ord(name))
    return tmp_path


def write_list(folder, *lines):
    (folder / "films.jsonl").write_text("\n".join(line if isinstance(line, str) else json.dumps(line) for line in lines))
    return f"jobs={folder / 'films.jsonl'}"


def test_lines_take_what_they_lack_from_the_command(folder):
    lines = [{"first": "a.png", "last": "b.png"}, "", {"name": "walk", "keys": ["a.png", "b.png", "c.png"], "prompt": "x, y",
                                                     "fps": 5, "seed": 9}]
    plain, walk = read_requests(make_job(write_list(folder, *lines), "prompt=a cat, running", "seed=7"))
    assert (plain.name, plain.keys, plain.prompt, plain.fps, plain.seed) == (
        "00001", (folder / "a.png", folder / "b.png"), "a cat, running", 10, 7)
    assert (walk.name, len(walk.keys), walk.prompt, walk.fps, walk.seed, walk.film_length) == ("walk", 3, "x, y", 5, 9, 15)


def test_ranks_share_the_list_without_gap_or_overlap():
    films = list(range(7))
    assert [share(films, rank, 3) for rank in range(3)] == [[0, 3, 6], [1, 4], [2, 5]]


@pytest.mark.parametrize(("line", "sentence"), [
    ({"frist": "a.png"}, "films.jsonl line 1: frist is no option. Did you mean first?"),
    ({"first": "a.png", "last": "d.png"}, "films.jsonl line 1: last="),
    ({"first": 3}, "films.jsonl line 1: first=3 must be text."),
    ({"first": "a.png", "last": "b.png", "fps": True}, "films.jsonl line 1: fps=True must be a whole number."),
    ({"first": "a.png", "last": "b.png", "fps": 0}, "films.jsonl line 1: fps=0 must be at least 1."),
    ({"keys": []}, "films.jsonl line 1: keys=[] must be a folder or a list of pictures."),
    ({"keys": ["a.png", "b.png"], "last": "c.png"}, "films.jsonl line 1: keys and first or last are both given."),
    ({"first": "a.png", "last": "b.png", "name": "../x"}, "films.jsonl line 1: name=../x is no name of a folder."),
    ({"prompt": "x"}, "films.jsonl line 1: there is no key frame."),
    ({"first": "a.png"}, "films.jsonl line 1: there is one key frame and no sketch of frame 2:"),
    ("{first", "films.jsonl line 1: no JSON:"), ("[1]", "films.jsonl line 1: no object.")])
def test_mistake_in_a_line_is_named(folder, line, sentence):
    with pytest.raises(UserError) as caught:
        read_requests(make_job(write_list(folder, line)))
    assert str(caught.value).startswith(sentence) and "\n" not in str(caught.value)


def test_two_films_of_one_name_are_refused(folder):
    line = {"name": "a", "first": "a.png", "last": "b.png"}
    with pytest.raises(UserError, match="line 2: the name a is taken"):
        read_requests(make_job(write_list(folder, line, line)))


@pytest.mark.parametrize(("options", "sentence"), [
    ([], "there is no key frame"), (["first={a}"], "one key frame and no sketch of frame 2"),
    (["first={a}", "keys={f}"], "first and keys are both given"), (["keys={f}", "last={a}"], "needs first"),
    (["first={a}", "last={f}/none.png"], "does not exist"), (["keys={f}/none"], "is no folder")])
def test_mistake_in_the_options_is_named(folder, options, sentence):
    with pytest.raises(UserError, match=sentence):
        read_requests(make_job(*(option.format(a=folder / "a.png", f=folder) for option in options)))


def test_one_reference_is_enough_with_a_sketch_of_every_other_frame(folder):
    for frame in range(2, 9):
        save_sketch(folder / "lines" / f"{frame}.png")
    request, = read_requests(make_job(f"first={folder / 'a.png'}", f"sketch.folder={folder / 'lines'}"))
    assert (request.keys, request.film_length) == ((folder / "a.png",), 8)
    (folder / "lines" / "5.png").unlink()
    with pytest.raises(UserError, match="no sketch of frame 5"):
        read_requests(make_job(f"first={folder / 'a.png'}", f"sketch.folder={folder / 'lines'}"))


def test_clips_of_a_long_film_share_their_key_frames():
    assert [list(clip_frames(clip, 4)) for clip in range(3)] == [[1, 2, 3, 4], [4, 5, 6, 7], [7, 8, 9, 10]]
    assert film_length(4, 4) == 10 and film_length(1, 4) == film_length(2, 4) == 4


def test_every_clip_has_a_seed_of_its_own_and_the_first_that_of_the_film():
    seeds = [clip_seed(5, clip) for clip in range(20)]
    assert seeds[0] == 5 and len(set(seeds)) == 20 and seeds == [clip_seed(5, clip) for clip in range(20)]
