"""Promise: a weight file arrives whole and checked or not at all, and without network one sentence says what to do."""

import hashlib
import http.server
import io
import re
import threading
import zipfile
from dataclasses import replace

import pytest

from pipeline import download, fetch, weight_files
from pipeline.errors import UserError

CONTENT = bytes(range(256)) * 4096                     # 1 MiB


class Server:
    """Serves CONTENT at every path; may cut answers short, forget ranges or change the content."""

    def __init__(self):
        self.content, self.tag, self.cut_at, self.has_ranges, self.status = CONTENT, '"one"', None, True, None
        self.requested = []
        owner = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                owner.answer(self)

            def log_message(self, *args):
                pass

        self.http = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.http.serve_forever, daemon=True).start()
        self.address = f"http://127.0.0.1:{self.http.server_port}"

    def answer(self, request):
        asked = request.headers.get("Range")
        self.requested.append(asked)
        if self.status:
            request.send_error(self.status)
            return
        start = int(re.fullmatch(r"bytes=(\d+)-", asked)[1]) if asked else 0
        is_rest = asked and self.has_ranges and request.headers.get("If-Range", self.tag) == self.tag
        body = self.content[start:] if is_rest else self.content
        request.send_response(206 if is_rest else 200)
        request.send_header("Content-Length", str(len(body)))
        if self.tag:
            request.send_header("ETag", self.tag)
        request.end_headers()
        request.wfile.write(body[:self.cut_at])


@pytest.fixture
def server():
    found = Server()
    yield found
    found.http.shutdown()
    found.http.server_close()


def files_in(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def interrupted(server, path, cut_at=300_000):
    server.cut_at = cut_at
    with pytest.raises(download.Unreachable, match="the same command goes on there"):
        download.get(f"{server.address}/w", path)
    server.cut_at = None


def test_download_appears_whole_and_leaves_nothing_beside_it(server, tmp_path):
    download.get(f"{server.address}/w", tmp_path / "new" / "w")
    assert (tmp_path / "new" / "w").read_bytes() == CONTENT and files_in(tmp_path) == ["new/w"]


def test_interrupted_download_goes_on_where_it_stopped(server, tmp_path):
    interrupted(server, tmp_path / "w")
    assert files_in(tmp_path) == ["w.part", "w.part.mark"], "the file itself does not exist yet"
    download.get(f"{server.address}/w", tmp_path / "w")
    assert server.requested == [None, "bytes=300000-"]
    assert (tmp_path / "w").read_bytes() == CONTENT and files_in(tmp_path) == ["w"]


@pytest.mark.parametrize("change", ["content", "no ranges", "no tag"])
def test_download_starts_anew_where_it_cannot_go_on(server, tmp_path, change):
    if change == "no tag":
        server.tag = None
    interrupted(server, tmp_path / "w")
    if change == "content":
        server.content, server.tag = CONTENT[::-1], '"two"'
    server.has_ranges = change != "no ranges"
    download.get(f"{server.address}/w", tmp_path / "w")
    assert (tmp_path / "w").read_bytes() == server.content and files_in(tmp_path) == ["w"]


def test_server_that_refuses_is_quoted(server, tmp_path):
    server.status = 404
    with pytest.raises(download.Unreachable, match="404"):
        download.get(f"{server.address}/w", tmp_path / "w")
    server.http.server_close()
    with pytest.raises(download.Unreachable):
        download.get("http://127.0.0.1:9/w", tmp_path / "w")
    with pytest.raises(UserError, match="no http"):
        download.get("file:///etc/hostname", tmp_path / "w")
    assert files_in(tmp_path) == []


# The command

def catalogue_of(monkeypatch, *files):
    monkeypatch.setattr(weight_files, "CATALOGUE", files)


def entry(name="one", **changes):
    file = weight_files.WeightFile(name=name, profiles=(weight_files.WeightProfile.PAPER,), reference=f"hf:own/name/{name}.ckpt",
                                   file=f"own/name/{name}.ckpt", purpose="tests", licence="MIT", size_mb=1.05, origin="nobody")
    return replace(file, **changes)


@pytest.fixture
def hub(monkeypatch):
    """A hub that knows every file and holds CONTENT; `hub.asked` lists what was asked for."""
    class Hub:
        asked: list[tuple[str, ...]] = []  # noqa: RUF012
        error = None
        is_online = True

        def file(self, repository, file, *, revision, local_dir):
            self.asked.append((repository, file, revision))
            if self.error:
                raise self.error
            (local_dir / file).parent.mkdir(parents=True, exist_ok=True)
            (local_dir / file).write_bytes(CONTENT)

        def folder(self, repository, *, revision, local_dir, allow_patterns):
            self.asked.append((repository, *allow_patterns))
            local_dir.mkdir(parents=True)
            (local_dir / "config.json").write_text("{}")

    found = Hub()
    found.asked = []
    monkeypatch.setattr(download, "answers", lambda address: found.is_online)
    monkeypatch.setattr("huggingface_hub.hf_hub_download", found.file)
    monkeypatch.setattr("huggingface_hub.snapshot_download", found.folder)
    return found


def test_table_shows_terms_and_sizes_and_dry_run_fetches_nothing(monkeypatch, hub, tmp_path, capsys):
    catalogue_of(monkeypatch, entry(size_mb=10_500, licence="Some-Licence-1.0"), entry("two", is_optional=True))
    assert fetch.main_weights(["profile=paper", "dry_run=true", f"folder={tmp_path}"]) == 0
    shown = capsys.readouterr().out
    for word in ("Some-Licence-1.0", "10.5 GB", "absent, optional", "dry run: 1 to fetch, 10.5 GB"):
        assert word in shown
    assert hub.asked == [] and files_in(tmp_path) == []


def test_profile_fetches_what_is_absent_once_and_records_digests(monkeypatch, hub, tmp_path):
    (tmp_path / "own/name").mkdir(parents=True)
    (tmp_path / "own/name/two.ckpt").write_bytes(b"by hand")
    catalogue_of(monkeypatch, entry(sha256=hashlib.sha256(CONTENT).hexdigest()), entry("two"), entry("three", is_optional=True),
                 entry("all", reference="hf:own/all", file="own/all", patterns=("*.json",)))
    for _ in range(2):
        assert fetch.main_weights(["profile=paper", f"folder={tmp_path}"]) == 0
    assert hub.asked == [("own/name", "one.ckpt", None), ("own/all", "*.json")]
    assert files_in(tmp_path) == ["own/all/config.json", "own/name/one.ckpt", "own/name/one.ckpt.sha256",
                                  "own/name/two.ckpt", "own/name/two.ckpt.sha256"]
    assert (tmp_path / "own/name/two.ckpt").read_bytes() == b"by hand"
    assert hashlib.sha256(CONTENT).hexdigest() in (tmp_path / "own/name/one.ckpt.sha256").read_text()


def test_wrong_bytes_do_not_stay_but_a_users_file_does(monkeypatch, hub, tmp_path):
    catalogue_of(monkeypatch, entry(sha256="0" * 64))
    with pytest.raises(UserError, match="not the file it should be"):
        fetch.main_weights(["profile=paper", f"folder={tmp_path}"])
    assert files_in(tmp_path) == []
    (tmp_path / "own/name/one.ckpt").write_bytes(b"by hand")
    with pytest.raises(UserError, match="Remove it"):
        fetch.main_weights(["profile=paper", f"folder={tmp_path}"])
    assert (tmp_path / "own/name/one.ckpt").read_bytes() == b"by hand"


def test_named_files_are_fetched_even_if_optional_or_unknown(monkeypatch, hub, tmp_path):
    catalogue_of(monkeypatch, entry(), entry("two", is_optional=True))
    fetch.main_weights(["files=two,hf:other/place/sub/w.ckpt@v1", f"folder={tmp_path}"])
    assert hub.asked == [("own/name", "two.ckpt", None), ("other/place", "sub/w.ckpt", "v1")]
    assert (tmp_path / "other/place@v1/sub/w.ckpt").is_file()


def hub_errors():
    import httpx
    from huggingface_hub import errors

    answer = httpx.Response(401, request=httpx.Request("GET", "http://127.0.0.1"))
    yield errors.LocalEntryNotFoundError("offline"), "cannot be reached"
    yield errors.OfflineModeIsEnabled("offline"), "cannot be reached"
    yield httpx.ConnectError("no route"), "cannot be reached"
    yield errors.GatedRepoError("gated", response=answer), "HF_TOKEN"
    yield errors.RepositoryNotFoundError("gone", response=answer), "not on the hub"


@pytest.mark.parametrize(("error", "words"), list(hub_errors()), ids=lambda value: type(value).__name__)
def test_without_network_one_sentence_says_what_to_put_where(monkeypatch, hub, tmp_path, error, words):
    catalogue_of(monkeypatch, entry(size_mb=10_500, origin="own/name on the hub"))
    hub.error = error
    monkeypatch.setattr(fetch.shutil, "disk_usage", lambda path: type("Usage", (), {"free": 1e12})())
    with pytest.raises(UserError, match=words) as found:
        fetch.main_weights(["profile=paper", f"folder={tmp_path}"])
    message = str(found.value)
    assert "one (10.5 GB) cannot be downloaded" in message and str(tmp_path / "own/name/one.ckpt") in message
    assert "\n" not in message


def test_hub_out_of_reach_is_told_at_once(monkeypatch, hub, tmp_path):
    hub.is_online = False
    catalogue_of(monkeypatch, entry())
    with pytest.raises(UserError, match="cannot be reached"):
        fetch.main_weights(["profile=paper", f"folder={tmp_path}"])
    assert hub.asked == []


def test_any_answer_counts_as_an_answer(server):
    assert download.answers(server.address), "the test server knows no HEAD and answers 501"
    assert not download.answers("http://127.0.0.1:9")


def test_disk_that_is_too_small_is_refused_before_the_first_byte(monkeypatch, hub, tmp_path):
    catalogue_of(monkeypatch, entry(size_mb=1e12))
    with pytest.raises(UserError, match="too small"):
        fetch.main_weights(["profile=paper", f"folder={tmp_path}"])
    assert hub.asked == []


def test_file_by_hand_is_named_with_its_place_after_the_others_came(monkeypatch, hub, tmp_path):
    catalogue_of(monkeypatch, entry(), entry("hand", reference="h.pt", file="h.pt", origin="somebody's page"))
    with pytest.raises(UserError, match=r"somebody's page to .*h\.pt"):
        fetch.main_weights(["profile=paper", f"folder={tmp_path}"])
    assert (tmp_path / "own/name/one.ckpt").is_file()


def test_address_of_the_user_serves_a_file_by_hand(monkeypatch, server, tmp_path):
    digest = hashlib.sha256(CONTENT).hexdigest()
    catalogue_of(monkeypatch, entry("hand", reference="h.pt", file="h.pt", sha256=digest),
                 entry("copy", reference="c.pt", file="c.pt", sha256=digest))
    (tmp_path / "mine").write_bytes(CONTENT)
    fetch.main_weights(["profile=paper", f"folder={tmp_path / 'weights'}", f"source.hand={server.address}/h",
                        f"source.copy={tmp_path / 'mine'}"])
    assert (tmp_path / "weights/h.pt").read_bytes() == (tmp_path / "weights/c.pt").read_bytes() == CONTENT


@pytest.mark.slow
def test_torchvision_file_is_checked_against_the_digits_in_its_name(monkeypatch, server, tmp_path):
    name = f"net-{hashlib.sha256(CONTENT).hexdigest()[:8]}.pth"
    known = type("Known", (), {"url": f"{server.address}/{name}"})
    monkeypatch.setattr("torchvision.models.get_weight", lambda asked: known)
    file = entry("net", reference="torchvision:Net_Weights.ONE", file=f"torchvision/{name}")
    assert fetch.fetch(file, tmp_path).read_bytes() == CONTENT
    (tmp_path / "torchvision" / name).unlink()
    server.content = CONTENT[::-1]
    with pytest.raises(UserError, match="cannot be downloaded"):
        fetch.fetch(file, tmp_path)
    assert name not in {path.name for path in tmp_path.rglob("*.pth")}


@pytest.mark.slow
def test_archive_of_easyocr_is_unpacked_and_checked(monkeypatch, server, tmp_path):
    config = pytest.importorskip("easyocr.config")
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("craft_mlt_25k.pth", CONTENT)
    server.content = packed.getvalue()
    known = {"filename": "craft_mlt_25k.pth", "url": f"{server.address}/craft.zip", "md5sum": hashlib.md5(CONTENT).hexdigest()}
    monkeypatch.setitem(config.detection_models, "craft", known)
    file = entry("craft", reference="easyocr:craft", file="easyocr/craft_mlt_25k.pth")
    assert fetch.fetch(file, tmp_path).read_bytes() == CONTENT
    assert files_in(tmp_path) == ["easyocr/craft_mlt_25k.pth", "easyocr/craft_mlt_25k.pth.sha256"]
    monkeypatch.setitem(known, "md5sum", "0" * 32)
    with pytest.raises(UserError, match="not the one that EasyOCR knows"):
        fetch.fetch(file, tmp_path)


@pytest.mark.parametrize(("arguments", "words"), [
    (["profile=papr"], "Did you mean paper"), (["profil=paper"], "Did you mean profile"), (["paper"], "no option"),
    (["folder=x"], "profile is missing"), (["profile=paper", "dry_run=yes"], "no choice"), (["files=raft_smal"], "raft_small"),
    (["profile=paper", "source.i3e=x"], "i3d"), (["files=hf:own/name"], "names no file"),
])
def test_misspelt_option_is_told_with_the_nearest(arguments, words):
    with pytest.raises(UserError, match=words):
        fetch.main_weights(arguments)


def test_every_profile_has_files_and_every_source_a_way():
    for profile in weight_files.WeightProfile:
        for file in weight_files.profile_files(profile):
            assert file.is_by_hand or callable(fetch._fetcher(file))
