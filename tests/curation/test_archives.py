"""Promise: every member of an archive becomes a row, hostile or broken ones with a reason; no name becomes a path."""

from __future__ import annotations

import gzip
import hashlib
import io
import stat
import struct
import tarfile
import zipfile
from pathlib import Path

import pytest
from archive_files import FILMS, NOISE, identify, make_tar, make_zip, read_bytes, reason
from counter_film import read_number, write_film

from curation.decode import FilmReader, luma_plane
from curation.ledger import Source


@pytest.mark.parametrize("make", [
    lambda folder: make_tar(folder / "pack.tar", FILMS),
    lambda folder: make_zip(folder / "pack.zip", FILMS),
])
def test_plain_members_are_read_in_place_and_equal_the_bytes_put_in(make, tmp_path):
    path = make(tmp_path)
    rows = identify(path, tmp_path / "spool")
    assert not (tmp_path / "spool").exists()
    for name in ("a/film.mp4", "b.mkv"):
        source = rows[f"{path.name}!/{name}"]
        assert source.access.path == str(path) and read_bytes(source) == FILMS[name]
        assert (source.sha256, source.num_bytes) == (hashlib.sha256(FILMS[name]).hexdigest(), len(FILMS[name]))
    assert "not a video" in reason(rows[f"{path.name}!/notes.txt"])


@pytest.mark.parametrize("make", [
    lambda folder: make_tar(folder / "pack.tar.gz", FILMS, "w:gz"),
    lambda folder: make_tar(folder / "pack.tgz", FILMS, "w:gz"),
    lambda folder: make_tar(folder / "pack.tar.bz2", FILMS, "w:bz2"),
    lambda folder: make_tar(folder / "pack.tar.xz", FILMS, "w:xz"),
    lambda folder: make_zip(folder / "pack.zip", FILMS, zipfile.ZIP_DEFLATED),
])
def test_packed_members_are_spooled_once_under_their_digest(make, tmp_path):
    path = make(tmp_path)
    spool = tmp_path / "spool"
    for _ in range(2):
        rows = identify(path, spool)
        for name in ("a/film.mp4", "b.mkv"):
            source = rows[f"{path.name}!/{name}"]
            assert read_bytes(source) == FILMS[name]
            assert Path(source.access.path) == spool / (hashlib.sha256(FILMS[name]).hexdigest() + name[-4:])
        assert len(list(spool.iterdir())) == 2


def test_a_film_inside_a_zip_decodes_in_place(tmp_path):
    film = write_film(tmp_path / "film.mp4", 20)
    path = make_zip(tmp_path / "pack.zip", {"x.txt": b"before", "dir/film.mp4": film.read_bytes()})
    with FilmReader(identify(path, tmp_path / "spool")["pack.zip!/dir/film.mp4"].access) as reader:
        assert [read_number(luma_plane(frame.picture)) for frame in reader.frames()] == list(range(20))


UNSAFE = ("../../escape.mp4", "/etc/escape.mp4", "ok/../../escape.mp4", "..\\escape.mp4", "C:\\escape.mp4")


@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_unsafe_names_links_and_devices_in_a_tar_are_quarantined_and_never_written(mode, tmp_path):
    home = tmp_path / "home" / "deep"
    home.mkdir(parents=True)
    path = home / ("pack.tar" if mode == "w" else "pack.tar.gz")
    with tarfile.open(path, mode) as archive:
        for name in (*UNSAFE, "good.mp4"):
            info = tarfile.TarInfo(name)
            info.size = len(NOISE)
            archive.addfile(info, io.BytesIO(NOISE))
        for name, kind in (("soft.mp4", tarfile.SYMTYPE), ("hard.mp4", tarfile.LNKTYPE), ("disk.mp4", tarfile.BLKTYPE)):
            info = tarfile.TarInfo(name)
            info.type, info.linkname = kind, "/etc/passwd"
            archive.addfile(info)
    rows = identify(path, home / "spool")
    for name in UNSAFE:
        assert "unsafe name" in reason(rows[f"{path.name}!/{name}"])
    assert "link" in reason(rows[f"{path.name}!/soft.mp4"]) and "link" in reason(rows[f"{path.name}!/hard.mp4"])
    assert "device" in reason(rows[f"{path.name}!/disk.mp4"])
    assert read_bytes(rows[f"{path.name}!/good.mp4"]) == NOISE
    written = {found.name for found in tmp_path.rglob("*") if found.is_file()} - {path.name}
    assert written <= {hashlib.sha256(NOISE).hexdigest() + ".mp4"}


def test_a_member_begins_behind_the_extra_field_of_its_own_header(tmp_path):
    with zipfile.ZipFile(tmp_path / "pack.zip", "w") as archive:
        info = zipfile.ZipInfo("film.mp4")
        info.extra = struct.pack("<HH", 0x7875, 11) + bytes(11)      # owner, as Unix tools write it
        archive.writestr(info, NOISE)
    assert read_bytes(identify(tmp_path / "pack.zip", tmp_path / "spool")["pack.zip!/film.mp4"]) == NOISE


def test_unsafe_and_linked_members_of_a_zip_are_quarantined(tmp_path):
    path = make_zip(tmp_path / "pack.zip", dict.fromkeys(UNSAFE, NOISE), zipfile.ZIP_DEFLATED)
    with zipfile.ZipFile(path, "a") as archive:
        link = zipfile.ZipInfo("soft.mp4")
        link.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(link, "/etc/passwd")
    rows = identify(path, tmp_path / "spool")
    assert all("unsafe name" in reason(rows[f"pack.zip!/{name}"]) for name in UNSAFE)
    assert "link" in reason(rows["pack.zip!/soft.mp4"])
    assert not list(tmp_path.rglob("escape*"))


def test_encrypted_members_are_quarantined(tmp_path):
    path = make_zip(tmp_path / "pack.zip", {"film.mp4": NOISE})
    data = bytearray(path.read_bytes())
    for signature, flags_at in ((b"PK\x03\x04", 6), (b"PK\x01\x02", 8)):
        data[data.index(signature) + flags_at] |= 1
    path.write_bytes(data)
    assert reason(identify(path, tmp_path / "spool")["pack.zip!/film.mp4"]) == "encrypted"


def test_archives_inside_archives_are_quarantined(tmp_path):
    path = make_tar(tmp_path / "pack.tar", {"inner.zip": NOISE, "inner.tar.gz": NOISE})
    rows = identify(path, tmp_path / "spool")
    assert all("archive inside an archive" in reason(row) for row in rows.values()) and len(rows) == 2


def test_pictures_inside_archives_are_one_row_per_folder(tmp_path):
    path = make_zip(tmp_path / "pack.zip", {f"scene/{n:04d}.png": b"x" for n in range(30)} | {"top.png": b"x"})
    rows = identify(path, tmp_path / "spool")
    assert "30 pictures" in reason(rows["pack.zip!/scene/"]) and "1 pictures" in reason(rows["pack.zip!/"])
    assert len(rows) == 2


ZEROS = bytes(50 << 20)      # packs about 1000 times


@pytest.mark.parametrize("make", [
    lambda folder: make_zip(folder / "bomb.zip", {"film.mp4": ZEROS}, zipfile.ZIP_DEFLATED),
    lambda folder: make_tar(folder / "bomb.tar.gz", {"film.mp4": ZEROS}, "w:gz"),
    lambda folder: make_tar(folder / "bomb.tar.gz", {"notes.txt": ZEROS, "film.mp4": b"x"}, "w:gz"),
])
def test_a_bomb_stops_at_the_allowed_expansion_and_leaves_nothing(make, tmp_path, monkeypatch):
    path = make(tmp_path)
    spent = []
    monkeypatch.setattr("curation.archives.Budget.spend", _recording(spent))
    rows = identify(path, tmp_path / "spool", max_expansion=100.0)
    assert any("max_expansion" in reason(row) for row in rows.values() if "notes" not in row.name)
    assert sum(spent) <= 100 * path.stat().st_size + (2 << 20)     # no more than a piece beyond
    assert not list((tmp_path / "spool").glob("*"))


def _recording(spent: list[int]):
    from curation.archives import Budget
    original = Budget.spend

    def spend(self, num_bytes):
        spent.append(num_bytes)
        original(self, num_bytes)
    return spend


def test_a_zip_that_lies_about_its_sizes_is_not_believed(tmp_path):
    path = make_zip(tmp_path / "liar.zip", {"film.mp4": ZEROS[: 8 << 20]}, zipfile.ZIP_DEFLATED)
    data = bytearray(path.read_bytes())
    struct.pack_into("<I", data, data.index(b"PK\x01\x02") + 24, 1000)      # unpacked size in the directory
    path.write_bytes(data)
    assert "cannot be unpacked" in reason(identify(path, tmp_path / "spool")["liar.zip!/film.mp4"])
    assert not list((tmp_path / "spool").glob("*"))


def test_members_over_the_size_limit_are_refused(tmp_path):
    path = make_tar(tmp_path / "pack.tar", {"big.mp4": NOISE, "small.mp4": NOISE[:100]})
    rows = identify(path, tmp_path / "spool", max_member_gb=1000 / 2**30)
    assert "max_member_gb" in reason(rows["pack.tar!/big.mp4"])
    assert isinstance(rows["pack.tar!/small.mp4"], Source)


@pytest.mark.parametrize("make", [make_tar, make_zip])
def test_members_beyond_the_allowed_number_are_reported_once(make, tmp_path):
    path = make(tmp_path / f"many.{make.__name__[5:]}", {f"{n}.mp4": b"%d" % n for n in range(10)})
    rows = identify(path, tmp_path / "spool", max_members=4)
    assert sum(isinstance(row, Source) for row in rows.values()) == 4
    assert "max_members" in reason(rows[path.name])


def test_what_cannot_be_opened_as_an_archive_is_quarantined(tmp_path):
    for name in ("a.zip", "b.tar", "c.tar.gz", "d.tar.xz", "e.tar.bz2"):
        (tmp_path / name).write_bytes(b"this is no archive" * 100)
    rows = identify(tmp_path, tmp_path / "spool")
    assert len(rows) == 5 and all("damaged" in reason(row) for row in rows.values())


def test_members_before_the_end_of_a_cut_archive_are_used(tmp_path):
    films = {"one.mp4": NOISE, "two.mp4": NOISE[::-1]}
    plain = make_tar(tmp_path / "cut.tar", films)
    plain.write_bytes(plain.read_bytes()[: 512 + 50176 + 512 + 20_000])    # a header, 98 blocks, a header, a part
    packed = make_tar(tmp_path / "cut.tar.gz", films, "w:gz")
    packed.write_bytes(packed.read_bytes()[:80_000])
    rows = identify(tmp_path, tmp_path / "spool")
    assert read_bytes(rows["cut.tar!/one.mp4"]) == read_bytes(rows["cut.tar.gz!/one.mp4"]) == NOISE
    assert read_bytes(rows["cut.tar!/two.mp4"]) == NOISE[::-1][:20_000]
    assert "damaged" in reason(rows["cut.tar"])
    assert "cannot be unpacked" in reason(rows["cut.tar.gz!/two.mp4"])
    assert len(list((tmp_path / "spool").iterdir())) == 1


def test_giant_tar_headers_are_not_read_into_memory(tmp_path):
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 40 << 20
    with gzip.open(tmp_path / "header.tar.gz", "wb") as file:
        file.write(info.tobuf(tarfile.USTAR_FORMAT) + bytes(40 << 20))
    assert "header of" in reason(identify(tmp_path, tmp_path / "spool", max_expansion=1e6)["header.tar.gz"])


def test_a_full_disk_stops_the_run_and_leaves_no_part(tmp_path, monkeypatch):
    path = make_tar(tmp_path / "pack.tar.gz", {"film.mp4": NOISE}, "w:gz")

    def full(self, target):
        raise OSError(28, "No space left on device")
    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(OSError, match="No space left"):
        identify(path, tmp_path / "spool")
    assert not list((tmp_path / "spool").iterdir())
