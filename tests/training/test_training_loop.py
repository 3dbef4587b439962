"""Promise: the loop looks, saves, stops and steps when it should, says so while it runs, and stops before it does harm."""

import json
import re

import pytest
import torch
from run_results import assert_same_run, losses, status
from toy_task import Faults, ToyGan, ToyTask, batches_from, heldout_of, make_batch, make_job, make_optim, plan_of, run_toy

import training.monitor as monitor_module
from pipeline.errors import EXIT_STOPPED, UserError
from training.engine import build_engines
from training.loop import evaluate, train
from training.monitor import duration, peak_flops
from training.ranks import Ranks
from training.stop import StopRequest
from training.tasks.task import Trained

RANKS = Ranks(0, 1, 0, torch.device("cpu"))


def run(kind, run_dir, faults=None, **changes):
    return run_toy(kind, make_job(**changes), run_dir, faults, RANKS)


def train_task(task, job, run_dir):
    engines = build_engines(task, job, RANKS, run_dir)
    return train(job, task, engines, batches_from(job, RANKS, make_batch), lambda: heldout_of(job, RANKS, make_batch), run_dir,
                 RANKS)


@pytest.mark.parametrize("kind", ["one", "gan"])
@pytest.mark.parametrize("accumulate", [1, 2])
def test_stopped_run_goes_on_with_the_same_bits(tmp_path, kind, accumulate):
    assert run(kind, tmp_path / "whole", accumulate=accumulate) == 0
    stop = Faults(stop_at=6 * accumulate, stop_file=str(tmp_path / "cut" / "STOP"))  # in the fourth step
    assert run(kind, tmp_path / "cut", stop, accumulate=accumulate) == EXIT_STOPPED
    assert status(tmp_path / "cut")["state"] == "paused"
    assert status(tmp_path / "cut")["step"] == 4
    assert run(kind, tmp_path / "cut", accumulate=accumulate) == 0
    assert_same_run(tmp_path / "cut", tmp_path / "whole")


def test_stop_inside_evaluation_is_heard(tmp_path):
    seen = []

    class Watched(ToyTask):
        def heldout(self, engines, batch):
            seen.extend(batch.numbers.tolist())
            return super().heldout(engines, batch)

    job = make_job()
    outcome = train_task(Watched(job, Faults(stop_in_heldout=9002, stop_file=str(tmp_path / "STOP"))), job, tmp_path)
    assert (outcome.exit_code, outcome.step, outcome.checkpoint) == (EXIT_STOPPED, 0, None)
    assert seen == [9001, 9002], "the evaluation went on"


def test_score_that_a_stopped_run_did_not_measure_is_made_up_for(tmp_path):
    def scores(run_dir):
        return {path.name: json.loads((path / "manifest.json").read_text())["score"]
                for path in (run_dir / "checkpoints").iterdir()}

    assert run("one", tmp_path / "whole") == 0
    stop = Faults(stop_at=7, stop_file=str(tmp_path / "cut" / "STOP"))      # in the fourth step; it ends before an evaluation
    assert run("one", tmp_path / "cut", stop) == EXIT_STOPPED
    assert scores(tmp_path / "cut")["step_00000004"] is None
    assert run("one", tmp_path / "cut") == 0
    assert scores(tmp_path / "cut") == scores(tmp_path / "whole")
    assert status(tmp_path / "cut")["best"] == status(tmp_path / "whole")["best"]


def test_finished_run_that_is_started_again_does_nothing(tmp_path):
    assert run("one", tmp_path, num_steps=4) == 0
    before = (tmp_path / "metrics.jsonl").read_text()
    assert run("one", tmp_path, num_steps=4) == 0
    assert (tmp_path / "metrics.jsonl").read_text() == before
    assert status(tmp_path)["state"] == "done"


def test_more_steps_go_on_from_a_finished_run(tmp_path):
    assert run("one", tmp_path / "whole", num_steps=6) == 0
    assert run("one", tmp_path / "longer", num_steps=4) == 0
    assert run("one", tmp_path / "longer", num_steps=6) == 0
    assert_same_run(tmp_path / "longer", tmp_path / "whole")


def test_bad_loss_stops_before_the_update_and_names_the_sample(tmp_path):
    assert run("one", tmp_path, Faults(bad_sample=9), accumulate=2) == 2     # step 2 holds samples 8 to 11
    message = (tmp_path / "error_0.txt").read_text()
    assert "the loss is not finite at step 2, before its update" in message
    assert "clip0009 (t=9)" in message
    assert "clip0008" not in message
    assert "step_00000002" in message
    found = status(tmp_path)
    assert (found["state"], found["step"]) == ("failed", 2)
    assert "clip0009" in found["error"]
    assert set(losses(tmp_path)) == {1, 2}


def test_bad_gradient_stops_before_the_update(tmp_path):
    class Exploding(ToyTask):
        def backward(self, engines, batch, step):
            report = super().backward(engines, batch, step)
            if step == 1:
                engines["net"].module.first.weight.grad[0, 0] = float("nan")
            return report

    job = make_job()
    with pytest.raises(UserError, match=r"gradients of net have norm nan at step 1.*clip0002.*no checkpoint was written yet"):
        train_task(Exploding(job), job, tmp_path)


def test_engine_that_is_not_active_gets_no_update_and_no_gradient(tmp_path):
    job = make_job(num_steps=1)      # the judge begins at step 1, the second one
    task = ToyGan(job)
    before = {name: tensor.clone() for name, tensor in task.trained["discriminator"].module.state_dict().items()}
    train_task(task, job, tmp_path)
    after = task.trained["discriminator"].module.state_dict()
    assert all(torch.equal(tensor, before[name]) for name, tensor in after.items())


def test_gradients_left_in_an_idle_engine_are_noticed(tmp_path):
    class Leaking(ToyGan):
        def backward(self, engines, batch, step):
            engines["discriminator"].module(batch.video.flatten(1)).sum().backward()
            return super().backward(engines, batch, step)

    job = make_job(num_steps=1)
    with pytest.raises(AssertionError, match=r"gradients were left in \{'discriminator'\} at step 0"):
        train_task(Leaking(job), job, tmp_path)


def test_training_that_moves_frozen_weights_is_found_out(tmp_path):
    class Meddling(ToyTask):
        def backward(self, engines, batch, step):
            engines["net"].module.kept.bias.data += 1e-4
            return super().backward(engines, batch, step)

    job = make_job(num_steps=1)
    with pytest.raises(AssertionError, match="frozen weights changed"):
        train_task(Meddling(job), job, tmp_path)


def test_wrong_trainable_count_refuses_to_start(tmp_path, capfd):
    job = make_job()
    task = ToyTask(job)
    net = task.trained["net"].module
    task.trained["net"] = Trained(net, plan_of(net, "kept"), job.task.optim, expected=841)
    with pytest.raises(UserError, match="840 parameters would be trained"):
        train_task(task, job, tmp_path)
    assert re.search(r"kept +2 +272 +no", capfd.readouterr().out), "the table comes before the refusal"


def test_heldout_losses_are_means_over_clips_that_count():
    class Given(ToyTask):
        def heldout(self, engines, batch):
            return {"loss": torch.where(batch.weight > 0, batch.numbers.float(), float("nan"))}

    job = make_job()
    batches = [make_batch([1, 2], [1.0, 1.0]), make_batch([6, 100], [1.0, 0.0])]
    stop = StopRequest.__new__(StopRequest)
    stop._signal, stop._file = None, None
    assert evaluate(Given(job), {}, batches, RANKS, stop) == {"loss": 3.0}  # (1 + 2 + 6) / 3


def test_evaluation_leaves_dropout_on_and_changes_no_result(tmp_path):
    assert run("one", tmp_path / "often", heldout_every=1) == 0
    assert run("one", tmp_path / "never", heldout_every=1000) == 0
    assert losses(tmp_path / "often") == losses(tmp_path / "never")


def test_dropout_is_a_function_of_the_sample(tmp_path):
    torch.manual_seed(1)
    assert run("one", tmp_path / "a", num_steps=2) == 0
    torch.manual_seed(2)
    assert run("one", tmp_path / "b", num_steps=2) == 0
    assert losses(tmp_path / "a") == losses(tmp_path / "b")


def test_line_has_fixed_columns_and_no_invented_utilisation(tmp_path, capfd):
    assert run("one", tmp_path) == 0
    out = capfd.readouterr().out
    line = next(line for line in out.splitlines() if line.startswith("step 4/6"))
    assert re.fullmatch(r"step 4/6  loss \d\.\d{4}  lr 1\.0e-02  grad \d+\.\d\d  clips/s \d+\.\d\d  wait \d+%  mem \d+\.\d GB  "
                        r"eta \d+m\d\ds", line)
    assert line in (tmp_path / "logs" / "rank_00.log").read_text()


def test_status_and_metrics_say_where_the_run_is(tmp_path):
    assert run("one", tmp_path) == 0
    found = status(tmp_path)
    assert found["state"] == "done"
    assert found["samples_seen"] == 12       # 6 steps of 2 clips
    assert found["checkpoint"] == "checkpoints/step_00000006"
    scores = {step: values["heldout/loss"] for step, values in losses(tmp_path, "heldout/").items()}
    assert set(scores) == {0, 2, 4, 6}
    assert found["best"] == f"checkpoints/step_{min((2, 4, 6), key=scores.get):08d}"
    record = [json.loads(line) for line in (tmp_path / "metrics.jsonl").read_text().splitlines() if "train/loss" in line][-1]
    assert {"step", "samples_seen", "train/loss", "train/grad_norm_net", "perf/clips_per_s", "perf/data_wait"} <= record.keys()
    assert "perf/mfu" not in record


def test_utilisation_is_measured_against_the_data_sheet_of_known_devices_only(monkeypatch, tmp_path):
    names = {"NVIDIA A800-SXM4-80GB": 312e12, "NVIDIA H100 PCIe": 756e12, "NVIDIA H100 80GB HBM3": 989e12,
             "NVIDIA GeForce RTX 4090": 165e12, "Some GPU": None}
    for name, peak in names.items():
        monkeypatch.setattr(torch.cuda, "get_device_name", lambda device, name=name: name)
        assert peak_flops(torch.device("cuda", 0)) == peak
    assert peak_flops(torch.device("cpu")) is None
    monkeypatch.setattr(monitor_module, "peak_flops", lambda device: 1e12)
    job = make_job(precision="bf16")
    monitor = monitor_module.Monitor(tmp_path, job, RANKS, None, flops_per_clip=1e11)
    assert monitor._utilisation(4.0) == pytest.approx(0.4)      # 4 clips/s at 1e11 FLOP each, of 1e12


def test_durations_are_readable():
    assert [duration(seconds) for seconds in (0, 65, 3599, 75840)] == ["0m00s", "1m05s", "59m59s", "21h04m"]


def test_previews_are_written_for_clips_that_count(tmp_path, monkeypatch):
    import training.loop as loop
    shown = {}
    monkeypatch.setattr(loop, "write_preview", lambda folder, step, pictures: shown.update({step: (folder.name, len(pictures))}))
    job = make_job(preview_every=2, num_steps=4, micro_batch=1, optim=make_optim())
    job.data.num_previews = 4
    assert run_toy("one", job, tmp_path, None, RANKS) == 0
    assert shown == {step: ("samples", 3) for step in (0, 2, 4)}   # the fourth clip only fills up


def test_saving_by_the_clock(tmp_path):
    assert run("one", tmp_path, save_every=1000, save_minutes=1e-9, keep_every=1, num_steps=3) == 0
    assert len(list((tmp_path / "checkpoints").glob("step_*"))) == 3
