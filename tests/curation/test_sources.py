"""Promise: everything in an archive becomes a row, and nothing outside it is touched."""

from __future__ import annotations

import functools
import hashlib
import http.server
import os
import threading

import numpy as np
import pytest
from archive_files import FILMS, NOISE, identify, make_config, make_zip, read_bytes, reason
from counter_film import counter_picture, read_number
from PIL import Image

from curation.decode import FilmReader, luma_plane
from curation.ledger import Source
from curation.sources import Entry, EntryKind, Identify, walk
from pipeline.errors import UserError

# --- walking a folder

def test_a_walk_lists_every_visible_file_sorted_by_name(tmp_path):
    for name in ("b/two.mp4", "a.mkv", "b/one.mp4", "pack.zip", "late/x.tar.gz", ".hidden.mp4", ".git/film.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    entries = walk(str(tmp_path), make_config())
    assert [(entry.name, entry.kind) for entry in entries] == [
        ("a.mkv", EntryKind.FILE), ("b/one.mp4", EntryKind.FILE), ("b/two.mp4", EntryKind.FILE),
        ("late/x.tar.gz", EntryKind.ARCHIVE), ("pack.zip", EntryKind.ARCHIVE)]


def test_our_own_outputs_are_passed_over_but_a_manifest_of_others_is_not(tmp_path):
    for name in ("run/shards/train-000000.tar", "run/artifacts/clip/film.mp4", "set/film.mp4"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"x")
    (tmp_path / "run/shards/manifest.json").write_text('{"schema": 1, "key": "k", "shards": []}')
    (tmp_path / "set/manifest.json").write_text('{"files": {}}')
    assert [entry.name for entry in walk(str(tmp_path), make_config())] == ["set/film.mp4", "set/manifest.json"]


def test_links_are_followed_only_inside_the_archive(tmp_path):
    outside = tmp_path / "outside"
    outside.mkdir()
    (outside / "secret.mp4").write_bytes(b"secret")
    inside = tmp_path / "inside"
    inside.mkdir()
    (inside / "film.mp4").write_bytes(NOISE)
    (inside / "again.mp4").symlink_to("film.mp4")
    (inside / "leaves.mp4").symlink_to(outside / "secret.mp4")
    (inside / "folder").symlink_to(outside)
    (inside / "nowhere.mp4").symlink_to("absent.mp4")
    os.mkfifo(inside / "pipe.mp4")               # reading it would wait for ever
    rows = identify(inside, tmp_path / "spool")
    assert rows["again.mp4"].sha256 == rows["film.mp4"].sha256 == hashlib.sha256(NOISE).hexdigest()
    assert "leaves the archive" in reason(rows["leaves.mp4"])
    assert "link to a folder" in reason(rows["folder"])
    assert "cannot be read" in reason(rows["nowhere.mp4"])
    assert "pipe" in reason(rows["pipe.mp4"])


@pytest.mark.parametrize("content", [None, []])
def test_a_missing_or_empty_archive_is_the_users_error(content, tmp_path):
    path = tmp_path / "archive"
    if content is not None:
        path.mkdir()
    with pytest.raises(UserError, match="archive="):
        walk(str(path), make_config())


def test_other_files_are_listed_with_a_reason_and_unknown_ones_left_to_the_probe(tmp_path):
    for name in ("notes.txt", "cover.jpg", "show.rar", "raw.h264x", "film"):
        (tmp_path / name).write_bytes(b"x")
    rows = identify(tmp_path, tmp_path / "spool")
    assert "not a video: .txt file" in reason(rows["notes.txt"])
    assert "single picture" in reason(rows["cover.jpg"])
    assert ".rar archives are not read" in reason(rows["show.rar"])
    assert isinstance(rows["raw.h264x"], Source) and isinstance(rows["film"], Source)


def test_numbered_pictures_become_one_film_in_the_order_of_their_numbers(tmp_path):
    folder = tmp_path / "scene"
    folder.mkdir()
    shown = [8, 9, 10, 12, 13, 14, 15, 100 - 84, 17]          # a small gap, and 10 after 9
    for number in shown:
        Image.fromarray(counter_picture(number)).save(folder / f"frame_{number}.png")
    Image.fromarray(counter_picture(0)).save(folder / "cover_1.png")
    rows = identify(tmp_path, tmp_path / "spool")
    assert "single picture" in reason(rows["scene/cover_1.png"])
    film = rows["scene/frame_*.png"]
    with FilmReader(film.access) as reader:
        assert [read_number(luma_plane(frame.picture)) for frame in reader.frames()] == shown
    pixel = np.asarray(Image.open(folder / "frame_9.png")).copy()
    pixel[0, 0] ^= 1
    Image.fromarray(pixel).save(folder / "frame_9.png")
    assert identify(tmp_path, tmp_path / "spool")["scene/frame_*.png"].sha256 != film.sha256


def test_few_or_scattered_pictures_are_no_film(tmp_path):
    for number in [*range(5), *range(1000, 20000, 1000)]:
        (tmp_path / f"img{number}.jpg").write_bytes(b"x")
    assert {entry.kind for entry in walk(str(tmp_path), make_config())} == {EntryKind.FILE}


# --- over HTTP

@pytest.fixture
def server(tmp_path):
    class Quiet(http.server.SimpleHTTPRequestHandler):
        def log_message(self, *_):
            pass

        def do_GET(self):
            if self.path.startswith("/broken"):
                self.send_response(200)
                self.send_header("Content-Length", "1000")
                self.end_headers()
                self.wfile.write(b"too short")
                self.close_connection = True
            else:
                super().do_GET()

    root = tmp_path / "www"
    root.mkdir()
    httpd = http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(Quiet, directory=str(root)))
    thread = threading.Thread(target=httpd.serve_forever, daemon=True)
    thread.start()
    yield root, f"http://127.0.0.1:{httpd.server_port}"
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_a_film_an_archive_and_a_page_of_links_are_downloaded(server, tmp_path):
    root, url = server
    (root / "films").mkdir()
    (root / "films/my film.mp4").write_bytes(NOISE)
    make_zip(root / "films/pack.zip", FILMS)
    spool = tmp_path / "spool"
    assert read_bytes(identify(f"{url}/films/my%20film.mp4", spool)["my film.mp4"]) == NOISE
    assert read_bytes(identify(f"{url}/films/pack.zip", spool)["pack.zip!/a/film.mp4"]) == NOISE
    rows = identify(f"{url}/films/", spool)
    assert sorted(rows) == ["my film.mp4", "pack.zip!/a/film.mp4", "pack.zip!/b.mkv", "pack.zip!/notes.txt"]
    assert not list(spool.glob("*.part")) and not list(spool.glob(".*"))


def test_a_missing_address_is_the_users_error_and_a_broken_download_a_row(server, tmp_path):
    _, url = server
    with pytest.raises(UserError, match="does not exist"):
        walk(f"{url}/none.mp4", make_config())
    with pytest.raises(UserError, match="cannot be listed"):
        walk("http://127.0.0.1:9/films/", make_config())
    broken = Entry("broken.mp4", f"{url}/broken.mp4", EntryKind.URL)
    [[row]] = Identify(make_config(), str(tmp_path / "spool"))([broken])
    assert "download failed" in reason(row) and url not in reason(row)
    assert not list((tmp_path / "spool").iterdir())


def test_an_unknown_protocol_is_the_users_error():
    with pytest.raises(UserError, match="archive=carrier-pigeon"):
        walk("carrier-pigeon://loft/film.mp4", make_config())
