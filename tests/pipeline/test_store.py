"""Promise: an artifact is in the store whole or not at all, whoever writes it and whenever that is interrupted."""

import json
import subprocess
import sys

import pytest

from pipeline.hashing import content_key
from pipeline.store import Store

KEY = content_key(test="store")

HANG_IN_PUBLISH = """
import sys, time
from pathlib import Path
from pipeline.store import Store
with Store(Path(sys.argv[1])).publish("survey", sys.argv[2]) as folder:
    (folder / "half").write_bytes(b"x")
    print("ready", flush=True)
    time.sleep(60)
"""


def everything_in(root):
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def test_published_artifact_lies_under_its_key_and_lists_its_files(tmp_path):
    store = Store(tmp_path)
    with store.publish("survey", KEY) as folder:
        (folder / "looks").mkdir()
        (folder / "looks" / "0.jpg").write_bytes(b"abc")
        assert not store.has("survey", KEY)
    assert store.has("survey", KEY)
    assert store.path("survey", KEY) == tmp_path / "survey" / KEY[:2] / KEY
    assert json.loads((store.path("survey", KEY) / "step.json").read_text()) == {
        "schema": 1, "kind": "survey", "key": KEY, "files": {"looks/0.jpg": 3},
    }


def test_failed_publication_leaves_nothing(tmp_path):
    store = Store(tmp_path)
    with pytest.raises(RuntimeError), store.publish("survey", KEY) as folder:
        (folder / "a").write_bytes(b"x")
        raise RuntimeError
    assert not store.has("survey", KEY)
    assert everything_in(tmp_path) == []


def test_second_of_two_publishers_is_dropped_quietly(tmp_path):
    store = Store(tmp_path)
    with store.publish("survey", KEY) as slow:
        (slow / "a").write_bytes(b"slow")
        with Store(tmp_path).publish("survey", KEY) as fast:
            (fast / "a").write_bytes(b"fast")
    assert (store.path("survey", KEY) / "a").read_bytes() == b"fast"
    assert len(everything_in(tmp_path)) == 2  # a and step.json: nothing of the slow one


def test_folder_without_step_record_does_not_exist_and_is_replaced(tmp_path):
    store = Store(tmp_path)
    store.path("survey", KEY).mkdir(parents=True)
    (store.path("survey", KEY) / "debris").write_bytes(b"x")
    assert not store.has("survey", KEY)
    with store.publish("survey", KEY) as folder:
        (folder / "a").write_bytes(b"x")
    assert sorted(path.name for path in store.path("survey", KEY).iterdir()) == ["a", "step.json"]


def test_sweep_removes_what_a_killed_process_left_and_nothing_in_use(tmp_path):
    command = [sys.executable, "-c", HANG_IN_PUBLISH, str(tmp_path), KEY]
    process = subprocess.Popen(command, stdout=subprocess.PIPE)
    try:
        assert process.stdout.readline() == b"ready\n"
        store = Store(tmp_path)
        with store.publish("survey", content_key(other=1)) as ours:
            assert store.sweep() == 0  # both are alive
            process.kill()
            process.wait()
            assert store.sweep() == 1
            assert ours.is_dir()
    finally:
        process.kill()
        process.stdout.close()
        process.wait()
    assert not store.has("survey", KEY)
    assert "half" not in " ".join(everything_in(tmp_path))


def test_sweep_of_a_store_that_does_not_exist_yet_does_nothing(tmp_path):
    assert Store(tmp_path / "none").sweep() == 0
    assert not (tmp_path / "none").exists()


def test_removed_artifact_is_gone_and_removing_again_is_no_error(tmp_path):
    store = Store(tmp_path)
    with store.publish("spool", KEY) as folder:
        (folder / "a").write_bytes(b"x")
    store.remove("spool", KEY)
    store.remove("spool", KEY)
    assert not store.has("spool", KEY)
    assert everything_in(tmp_path) == []


@pytest.mark.parametrize(("kind", "key"), [("survey", "../../escape"), ("../survey", KEY), ("survey", "")])
def test_names_that_leave_the_store_are_refused(tmp_path, kind, key):
    with pytest.raises(AssertionError):
        Store(tmp_path).path(kind, key)
