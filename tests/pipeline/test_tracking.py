"""Promise: every measurement is in metrics.jsonl, and nothing about Weights & Biases ever stops a run."""

import builtins
import json
import logging
import sys
import types

import pytest

from pipeline.tracking import Tracker


@pytest.fixture(autouse=True)
def no_environment(monkeypatch):
    monkeypatch.delenv("WANDB_MODE", raising=False)


def make_tracker(folder, mode="offline"):
    return Tracker(folder, mode=mode, project="p", group=None, job_type="curate", config={"a": {"b": 1}})


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


class FakeRun:
    def __init__(self):
        self.logged, self.num_finished = [], 0

    def log(self, values):
        self.logged.append(values)

    def finish(self):
        self.num_finished += 1


def fake_wandb(monkeypatch, init):
    module = types.SimpleNamespace(
        init=init, Settings=lambda **settings: settings, Histogram=lambda values: ("histogram", values),
        Table=lambda columns, data, allow_mixed_types: ("table", columns, data))
    monkeypatch.setitem(sys.modules, "wandb", module)


def test_line_is_on_disk_as_soon_as_it_is_logged(tmp_path):
    tracker = make_tracker(tmp_path, "disabled")
    tracker.log({"step": 1, "train/loss": 0.5})
    (line,) = lines(tmp_path)  # before finish: the run may be killed
    assert line.pop("time_s") >= 0
    assert line == {"step": 1, "train/loss": 0.5}
    tracker.finish()


def test_tables_and_histograms_are_in_the_file_whole(tmp_path):
    tracker = make_tracker(tmp_path, "disabled")
    tracker.log_table("dropped", ["gate", "clips"], [["motion", 3], ["text_area", None]])
    tracker.log_histogram("motion_mean", [0.5, float("nan")])
    tracker.finish()
    table, histogram = lines(tmp_path)
    assert (table["table"], table["columns"]) == ("dropped", ["gate", "clips"])
    assert table["rows"] == [["motion", 3], ["text_area", None]]
    assert histogram["values"] == [0.5, "nan"]  # JSON has no NaN, and it is not turned into a number


def test_second_run_adds_to_the_file(tmp_path):
    for step in (1, 2):
        tracker = make_tracker(tmp_path, "disabled")
        tracker.log({"step": step})
        tracker.finish()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]


def test_copy_gets_everything_and_is_finished_once(tmp_path, monkeypatch):
    run, calls = FakeRun(), []
    fake_wandb(monkeypatch, lambda **options: calls.append(options) or run)
    tracker = make_tracker(tmp_path)
    tracker.log({"clips": 3})
    tracker.log_table("t", ["a"], [[1]])
    tracker.log_histogram("h", [1.0, float("inf")])
    tracker.log_histogram("nothing", [])
    tracker.finish()
    tracker.finish()
    assert run.logged == [{"clips": 3}, {"t": ("table", ["a"], [[1]])}, {"h": ("histogram", [1.0])}]
    assert run.num_finished == 1
    assert (calls[0]["mode"], calls[0]["dir"], calls[0]["config"]) == ("offline", str(tmp_path), {"a": {"b": 1}})
    assert calls[0]["settings"]["silent"] and calls[0]["settings"]["console"] == "off"


def test_failing_copy_is_reported_once_and_stops_nothing(tmp_path, monkeypatch, caplog):
    class Broken(FakeRun):
        def log(self, values):
            raise OSError("disk full")

    run = Broken()
    fake_wandb(monkeypatch, lambda **options: run)
    tracker = make_tracker(tmp_path)
    tracker.log({"step": 1})
    tracker.log({"step": 2})
    tracker.finish()
    assert [line["step"] for line in lines(tmp_path)] == [1, 2]
    assert [record.getMessage() for record in caplog.records] == ["not copied to W&B: log (OSError: disk full)"]
    assert run.num_finished == 1


def test_dead_network_falls_back_to_files(tmp_path, monkeypatch, caplog):
    run, modes = FakeRun(), []

    def init(**options):
        modes.append(options["mode"])
        if options["mode"] == "online":
            raise TimeoutError("no route")
        return run

    fake_wandb(monkeypatch, init)
    tracker = make_tracker(tmp_path, "online")
    tracker.log({"step": 1})
    tracker.finish()
    assert modes == ["online", "offline"]
    assert run.logged == [{"step": 1}]


def test_environment_wins_over_the_configuration(tmp_path, monkeypatch):
    monkeypatch.setenv("WANDB_MODE", "disabled")
    fake_wandb(monkeypatch, lambda **options: pytest.fail("W&B was started"))
    make_tracker(tmp_path, "online").finish()


def test_missing_package_is_one_line_in_the_log(tmp_path, monkeypatch, caplog):
    real = builtins.__import__

    def without_wandb(name, *arguments, **options):
        if name == "wandb":
            raise ModuleNotFoundError("No module named 'wandb'", name="wandb")
        return real(name, *arguments, **options)

    monkeypatch.setattr(builtins, "__import__", without_wandb)
    with caplog.at_level(logging.WARNING):
        tracker = make_tracker(tmp_path)
        tracker.log({"step": 1})
        tracker.finish()
    assert [record.getMessage() for record in caplog.records] == ["no copy to W&B: wandb is not installed"]
    assert lines(tmp_path)[0]["step"] == 1


@pytest.mark.slow
def test_real_package_writes_offline_files_and_nothing_on_the_console(tmp_path, capfd):
    pytest.importorskip("wandb", reason="wandb is absent: it is not installed")
    tracker = make_tracker(tmp_path)
    tracker.log({"clips": 3})
    tracker.log_table("t", ["a", "b"], [[1, "x"], ["y", None]])
    tracker.log_histogram("h", [1.0, 2.0])
    tracker.finish()
    assert len(list(tmp_path.glob("wandb/offline-run-*/*.wandb"))) == 1
    assert capfd.readouterr() == ("", "")


def test_continued_run_is_one_run_with_its_own_step_axis(tmp_path, monkeypatch):
    class WithAxis(FakeRun):
        axes = ()

        def define_metric(self, name, step_metric):
            self.axes = (*self.axes, (name, step_metric))

    run, calls = WithAxis(), []
    fake_wandb(monkeypatch, lambda **options: calls.append(options) or run)
    for _ in range(2):
        Tracker(tmp_path, mode="offline", project="p", group=None, job_type="train", config={}, name="n", run_id="abc").finish()
    assert [(call["id"], call["resume"], call["name"]) for call in calls] == [("abc", "allow", "n")] * 2
    assert run.axes == (("*", "step"),) * 2


def test_results_and_inputs_are_named_by_reference_and_their_bytes_are_not_sent(tmp_path, monkeypatch):
    class Artifact:
        def __init__(self, name, type, metadata):
            self.described, self.references = (name, type, metadata), []

        def add_reference(self, uri, checksum):
            assert checksum is False  # with it W&B would read the files
            self.references.append(uri)

    class Linking(FakeRun):
        offline = False

        def __init__(self):
            super().__init__()
            self.made, self.used = [], []

        def log_artifact(self, artifact):
            self.made.append(artifact)

        def use_artifact(self, artifact):
            self.used.append(artifact)

    run = Linking()
    fake_wandb(monkeypatch, lambda **options: run)
    sys.modules["wandb"].Artifact = Artifact
    tracker = make_tracker(tmp_path)
    tracker.use_artifact("shards", "dataset", "s3://bucket/shards", metadata={"key": "k"})
    tracker.log_artifact("weights", "model", tmp_path / "w.safetensors", metadata={"step": 3})
    tracker.finish()
    assert [(one.described, one.references) for one in run.used] == [(("shards", "dataset", {"key": "k"}), ["s3://bucket/shards"])]
    assert [(one.described, one.references) for one in run.made] == [
        (("weights", "model", {"step": 3}), [(tmp_path / "w.safetensors").resolve().as_uri()])]
    used, made = lines(tmp_path)
    assert (used["uses"], used["metadata"]) == ("shards", {"key": "k"})
    assert (made["artifact"], made["metadata"]) == ("weights", {"step": 3})
