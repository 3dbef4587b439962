"""Promise: a checkpoint is there whole or not at all, enough of them are kept, and a wrong one is refused in words."""

import json
import logging

import pytest
import torch
from run_results import folder_digest
from toy_task import ToyTask, make_job

from pipeline.errors import UserError
from training.checkpoint import NOT_IDENTITY, Checkpoints, TrainState, frozen_digest, identity, read_checkpoint, tensors_digest
from training.config import TrainJob
from training.engine import build_engines
from training.ranks import Ranks

RANKS = Ranks(0, 1, 0, torch.device("cpu"))


@pytest.fixture
def state(tmp_path):
    job = make_job()
    task = ToyTask(job)
    return TrainState(task, build_engines(task, job, RANKS, tmp_path), {}, RANKS)


def make_checkpoints(folder, *, keep_last=2, keep_every=0, settings=None, base="b"):
    return Checkpoints(folder, RANKS, keep_last=keep_last, keep_every=keep_every, identity=settings or {"seed": 5}, base=base)


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_last_ones_every_nth_and_the_best_are_kept(tmp_path, state):
    checkpoints = make_checkpoints(tmp_path, keep_every=4)
    for step, score in enumerate([0.9, 0.2, 0.5, None, 0.6, 0.7, 0.8], start=1):
        checkpoints.save(state, step, 2 * step, score)
    assert names(tmp_path) == [f"step_{step:08d}" for step in (2, 4, 6, 7)]  # 2 is the best, 4 the fourth, 6 and 7 the last
    assert checkpoints.best().step == 2
    assert checkpoints.latest().step == 7


def test_two_complete_ones_are_there_whenever_one_is_deleted(tmp_path, state, monkeypatch):
    counts = []

    def count(path):
        found = [other for other in tmp_path.glob("step_*") if other != path and (other / "manifest.json").exists()]
        counts.append(len(found))
        original(path)

    import training.checkpoint as module
    original = module._delete
    monkeypatch.setattr(module, "_delete", count)
    checkpoints = make_checkpoints(tmp_path)
    for step in range(1, 5):
        checkpoints.save(state, step, step, None)
    assert counts == [2, 2]


@pytest.mark.parametrize("damage", ["shorter", "absent", "no manifest", "other schema"])
def test_damaged_checkpoint_is_skipped_and_named(tmp_path, state, caplog, damage):
    checkpoints = make_checkpoints(tmp_path)
    checkpoints.save(state, 1, 2, None)
    newest = checkpoints.save(state, 2, 4, None).path
    file = newest / "engines" / "net" / "rank_00.safetensors"
    if damage == "shorter":
        file.write_bytes(file.read_bytes()[:-1])
    elif damage == "absent":
        file.unlink()
    elif damage == "no manifest":
        (newest / "manifest.json").unlink()
    else:
        (newest / "manifest.json").write_text('{"schema": 99}')
    with caplog.at_level(logging.WARNING):
        assert make_checkpoints(tmp_path).latest().step == 1
    assert "step_00000002 is skipped" in caplog.text
    checkpoints.save(state, 2, 4, None)  # takes the place of the damaged one
    assert make_checkpoints(tmp_path).latest().step == 2


def test_only_damaged_checkpoints_are_no_reason_to_start_anew(tmp_path, state):
    path = make_checkpoints(tmp_path).save(state, 1, 2, None).path
    (path / "weights.safetensors").write_bytes(b"")
    with pytest.raises(UserError, match="none of the 1 checkpoints"):
        make_checkpoints(tmp_path).latest()


def test_nothing_is_no_checkpoint(tmp_path):
    assert make_checkpoints(tmp_path / "checkpoints").latest() is None


def test_rubbish_of_a_killed_run_is_cleared_and_nothing_else(tmp_path):
    (tmp_path / ".tmp-step_00000003-aa").mkdir()
    (tmp_path / "mine").mkdir()
    make_checkpoints(tmp_path)
    assert names(tmp_path) == ["mine"]


def test_other_settings_are_refused_with_the_difference(tmp_path, state):
    make_checkpoints(tmp_path, settings={"seed": 5, "task.offset_noise": 0.0}).save(state, 1, 2, None)
    with pytest.raises(UserError, match=r"task\.offset_noise: 0\.0 -> 0\.1") as found:
        make_checkpoints(tmp_path, settings={"seed": 5, "task.offset_noise": 0.1}).latest()
    assert "init=" in found.value.fix


def test_other_frozen_weights_are_refused(tmp_path, state):
    make_checkpoints(tmp_path, base="one").save(state, 1, 2, None)
    with pytest.raises(UserError, match="trained on other frozen weights"):
        make_checkpoints(tmp_path, base="two").latest()


def test_score_that_was_measured_later_counts(tmp_path, state):
    checkpoints = make_checkpoints(tmp_path)
    first = checkpoints.save(state, 1, 2, 0.5)
    second = checkpoints.save(state, 2, 4, None)
    assert checkpoints.best().path == first.path
    checkpoints.set_score(second, 0.25)
    assert checkpoints.best().path == second.path
    assert read_checkpoint(second.path).score == 0.25


def test_full_disk_leaves_no_half_checkpoint(tmp_path, state, monkeypatch):
    checkpoints = make_checkpoints(tmp_path)
    checkpoints.save(state, 1, 2, None)
    before = folder_digest(tmp_path)

    def full(*arguments):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(state.engines["net"], "save", full)
    with pytest.raises(UserError, match="No space left"):
        checkpoints.save(state, 2, 4, None)
    assert folder_digest(tmp_path) == before
    assert names(tmp_path) == ["step_00000001"]


def test_identity_holds_settings_that_change_results_and_no_places():
    job, other = make_job(), make_job(num_steps=99, log_every=7)
    other.out, other.shards, other.model.weights = "elsewhere", "there", "other.ckpt"
    assert identity(job, {}) == identity(other, {})
    other.seed = 6
    assert identity(job, {}) != identity(other, {})
    assert identity(job, {"shards": "abc"})["inputs.shards"] == "abc"
    assert json.dumps(identity(job, {}))


def test_every_setting_left_out_of_the_identity_exists():
    job = make_job()
    for name in NOT_IDENTITY:
        owner: object = job
        for part in name.split("."):
            owner = getattr(owner, part)  # AttributeError: the setting was renamed
    assert isinstance(job, TrainJob)


def test_digest_of_frozen_weights_sees_one_bit(state):
    before = frozen_digest(state.task, state.engines, RANKS)
    with torch.no_grad():
        state.engines["net"].module.last.weight += 1.0       # trained
        assert frozen_digest(state.task, state.engines, RANKS) == before
        state.engines["net"].module.kept.bias[3] += 1e-3     # frozen, inside the engine
        changed = frozen_digest(state.task, state.engines, RANKS)
        state.task.frozen["turn"].bias[0] += 1e-3            # frozen, beside it
    assert len({before, changed, frozen_digest(state.task, state.engines, RANKS)}) == 3


def test_digest_depends_on_names_types_and_shapes():
    ones = torch.ones(2, 2)
    digests = {tensors_digest([(name, tensor)]) for name, tensor in
               [("a", ones), ("b", ones), ("a", ones.reshape(4)), ("a", ones.bfloat16()), ("a", torch.ones(()))]}
    assert len(digests) == 5
