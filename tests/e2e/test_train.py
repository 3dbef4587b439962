"""Promise: shards become weights by one command, the same command continues, and no secret gets into a run's folder."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from safetensors.torch import load_file

sys.path.insert(0, str(Path(__file__).parents[1] / "training" / "data"))

from small_shards import make_clip, write_data_set

ROOT = Path(__file__).resolve().parents[2]
SECRET = "hunter2-0123456789abcdef-0123456789abcdef"
SMALL = ["data.num_frames=4", "data.num_previews=1", "run.preview_ddim_steps=1", "run.heldout_every=2", "run.save_every=2",
         "task.gan.adv_start=1"]


@pytest.fixture(scope="module")
def shards(tmp_path_factory):
    return write_data_set(tmp_path_factory.mktemp("shards"), [make_clip(index) for index in range(6)],
                          [make_clip(index) for index in range(20, 22)])


def train(out, shards, *overrides):
    command = [sys.executable, "-m", "pipeline", "train", f"shards={shards}", f"out={out}", *SMALL, *overrides]
    environment = {**os.environ, "WANDB_API_KEY": SECRET, "HF_TOKEN": SECRET, "WANDB_MODE": "offline", "OMP_NUM_THREADS": "1"}
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=300)


def status(out):
    return json.loads((out / "status.json").read_text())


def test_decoder_trains_stops_on_request_and_goes_on_to_the_end(tmp_path, shards):
    out = tmp_path / "run"
    options = ["experiment=tiny_decoder", "task.num_steps=4"]
    first = train(out, shards, *options, "task.num_steps=2")
    assert first.returncode == 0, first.stderr
    assert (status(out)["state"], status(out)["step"]) == ("done", 2)
    assert "dec_har_cross_attn" in first.stdout and "held-out at step 0" in first.stdout        # the table comes first
    second = train(out, shards, *options)
    assert second.returncode == 0 and "event=resumed checkpoint=step_00000002" in second.stdout, second.stderr
    assert status(out)["step"] == 4 and status(out)["samples_seen"] == 8
    weights = load_file(out / status(out)["checkpoint"] / "weights.safetensors")
    assert len(weights) > 250 and all(name.startswith("first_stage_model.") for name in weights)
    assert {path.name for path in (out / "samples").iterdir()} == {
        f"step_{step:08d}{suffix}" for step in (0, 2, 4) for suffix in (".mp4", ".png")}
    steps = [json.loads(line).get("step") for line in (out / "metrics.jsonl").read_text().splitlines()]
    assert 4 in steps
    refused = train(out, shards, *options, "seed=1")
    assert refused.returncode == 2 and refused.stderr.count("\n") == 1
    assert refused.stderr.startswith(f"toonforge: error: out={out} holds another training: changed: seed 20230211 -> 1.")
    for path in tmp_path.rglob("*"):
        assert not path.is_file() or SECRET.encode() not in path.read_bytes(), path


@pytest.mark.slow
@pytest.mark.parametrize("task", ["rectify", "sketch"])
def test_diffusion_tasks_train_from_shards(tmp_path, shards, task):
    done = train(tmp_path / "run", shards, f"experiment=tiny_{task}", "task.num_steps=2")
    assert done.returncode == 0, done.stderr
    assert status(tmp_path / "run")["state"] == "done"


def test_shards_that_are_not_there_are_one_sentence(tmp_path):
    done = train(tmp_path / "run", tmp_path / "nowhere")
    assert done.returncode == 2 and "does not exist" in done.stderr and done.stderr.count("\n") == 1
    assert not (tmp_path / "run").exists()
