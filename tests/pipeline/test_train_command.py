"""Promise: `train` refuses at once what cannot work or is another training, freezes the rest, and starts it or shows how."""

import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import cli, config
from pipeline.errors import UserError
from pipeline.launch import commands
from pipeline.launch.train import prepare_training

ROOT = Path(__file__).parents[2]

# Stands for a rank: writes down who it is, leaves with the given code, or waits for a signal and says which it was.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
run = Path(sys.argv[1])
seen = []
signal.signal(signal.SIGUSR1, lambda *_: seen.append("SIGUSR1"))
(run / ".started").write_text(json.dumps({"pid": os.getpid(), "arguments": sys.argv[1:]}))
(run / ".started").rename(run / "started")
code = int(os.environ["CODE"])
while code == 75 and not seen:
    time.sleep(0.02)
(run / "seen").write_text(" ".join(seen))
sys.exit(code)
"""

DRIVER = """
import sys
from pipeline import cli
from pipeline.launch import commands
commands.RANK_MODULE = "stand_in"
sys.exit(cli.main(sys.argv[1:]))
"""


@pytest.fixture
def place(tmp_path, monkeypatch):
    """A folder with a finished curation, its name with a space, and a stand-in for the ranks; it is the current one."""
    (tmp_path / "my shards").mkdir()
    (tmp_path / "my shards" / "manifest.json").write_text("{}")
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    monkeypatch.chdir(tmp_path)
    for name in ("NODE_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path


def start(place, *arguments, code=0, **environment):
    return subprocess.Popen(
        [sys.executable, "-c", DRIVER, "train", *arguments], cwd=place, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        env={**os.environ, "PYTHONPATH": f"{ROOT}:{place}", "CODE": str(code), **environment})


@pytest.fixture
def run(monkeypatch, capsys):
    """The command in this process, where it starts nothing that takes its place: exit code, stdout and stderr."""
    monkeypatch.setattr(commands, "RANK_MODULE", "stand_in")

    def run(*arguments, **environment):
        for name, value in environment.items():
            monkeypatch.setenv(name, value)
        return cli.main(["train", *arguments]), *capsys.readouterr()

    return run


def job(*overrides):
    return config.load(["shards=my shards", "out=my run", *overrides], config.TRAIN)


def trained(place):
    """As if a training had saved a checkpoint."""
    prepare_training(job())
    (place / "my run" / "checkpoints" / "step_00000010").mkdir(parents=True)


# What is refused.

@pytest.mark.parametrize(("overrides", "sentence"), [
    (["out=o"], "shards has no value: .*shards=out/sample after make curate"),
    (["out=o", "shards=nowhere"], "shards=nowhere does not exist. Give the output folder of a curation"),
    (["out=o", "shards=empty"], "shards=empty holds no shards: there is neither manifest.json nor an indexed tar"),
    (["out=file/o", "shards=my shards"], "out=file/o cannot be written"),
])
def test_shards_and_folder_must_be_there(place, overrides, sentence):
    (place / "empty").mkdir()
    (place / "file").touch()
    with pytest.raises(UserError, match=sentence):
        prepare_training(config.load(overrides, config.TRAIN))
    assert not (place / "o").exists()


def test_shards_without_a_manifest_and_shards_far_away_are_left_to_the_ranks(place):
    (place / "tars").mkdir()
    (place / "tars" / "train-000000.index.json").touch()
    for shards in ("tars", "s3://bucket/films"):
        assert prepare_training(config.load([f"shards={shards}", f"out={shards[:2]}"], config.TRAIN)).is_file()


def test_another_training_in_the_same_folder_is_refused_with_what_changed_and_two_ways_out(place):
    trained(place)
    before = (place / "my run" / "config.yaml").read_text()
    with pytest.raises(UserError) as caught:
        prepare_training(job("seed=7", "task.optim.learning_rate=0.5", "run.log_every=3"))
    told = str(caught.value)
    assert told.startswith("out=my run holds another training: changed: seed 20230211 -> 7, task.optim.learning_rate ")
    assert "-> 0.5. Give the earlier settings to continue it, or another folder with out=..." in told
    assert "log_every" not in told
    assert (place / "my run" / "config.yaml").read_text() == before


def test_folder_without_a_checkpoint_takes_any_training(place):
    prepare_training(job())
    assert "seed: 7\n" in prepare_training(job("seed=7")).read_text()


@pytest.mark.parametrize("change", [
    "shards=moved", "out=./my run", "init=w.safetensors", "device=cpu", "experiment=tiny_rectify", "task.num_steps=7",
    "model.weights=w.ckpt", "model.checkpointing=all", "model.compile=true", "data.num_workers=5", "data.cache.text=true",
    "engine.cpu_offload=true", "launch.grace_s=9", "run.keep_last=5", "tracker=disabled"])
def test_what_changes_no_result_may_change(place, change):
    (place / "my shards").rename(place / "moved")
    (place / "my shards").symlink_to(place / "moved")
    preset = ["experiment=tiny_rectify"] if change.startswith("experiment") else []
    first = config.load(["shards=my shards", "out=my run", *preset], config.TRAIN)
    first.experiment = None
    prepare_training(first)
    (place / "my run" / "checkpoints" / "step_00000010").mkdir(parents=True)
    assert prepare_training(job(change)).is_file()


@pytest.mark.parametrize("launcher", ["slurm", "torchrun", "hostfile"])
def test_several_ranks_of_the_plain_engine_are_refused(launcher):
    with pytest.raises(UserError, match=r"engine=plain is one process, and launch asks for .* ranks; use engine=zero1"):
        job(f"launch={launcher}", "launch.ranks_per_node=4", "engine=plain", "task.global_batch=64", "engine.micro_batch=1")


def test_mistake_is_one_sentence_and_code_2(place, run):
    code, out, error = run("out=o")
    assert (code, out, error.count("\n")) == (2, "", 1)
    assert error.startswith("toonforge: error: shards has no value")
    code, _, error = run("-m", "shards=my shards", "seed=1,2")
    assert (code, error) == (2, "toonforge: error: train takes no -m: a training keeps a machine busy by itself. "
                                "Start one after the other\n")
    code, _, error = run("shards=my shards", "launch=slurm", "engine=zero1", "task.global_batch=64", PATH="/nowhere")
    assert code == 2 and error.startswith("toonforge: error: sbatch is not installed here: ")


# What is shown.

def test_showing_a_job_imports_nothing_heavy_and_writes_nothing(place):
    program = ("import sys; from pipeline import cli; code = cli.main(['train', '--cfg', 'job', 'shards=my shards']); "
               "print([name for name in ('torch', 'deepspeed', 'ray', 'wandb', 'cv2', 'av') if name in sys.modules], code)")
    began_s = os.times().children_user
    done = subprocess.run([sys.executable, "-c", program], cwd=place, env={**os.environ, "PYTHONPATH": str(ROOT)},
                          capture_output=True, text=True, timeout=60)
    assert done.stdout.endswith("\n[] 0\n"), done.stdout[-500:] + done.stderr
    assert os.times().children_user - began_s < 3.0        # seconds of CPU; 0.5 where this was written
    assert not (place / "runs").exists()


@pytest.mark.parametrize(("overrides", "shown"), [
    (["launch=local"], " -m stand_in 'my run'\n"),
    (["launch=torchrun", "launch.ranks_per_node=4", "engine=zero1"], " --nproc-per-node=4 --standalone "),
    (["launch=deepspeed", "launch.ranks_per_node=4", "engine=zero1"], " --num_gpus=4 "),
    (["launch=hostfile", "launch.ranks_per_node=2", "engine=zero1", "launch.hostfile=hosts"], "DS_ENV_FILE="),
])
def test_dry_run_shows_the_command_and_starts_nothing(place, run, overrides, shown):
    (place / "hosts").write_text("one slots=2\ntwo slots=2\n")
    if "launch=hostfile" in overrides and " " in str(place):
        pytest.skip("the temporary folder has a space in its name, which DeepSpeed's launcher cannot take along")
    code, out, error = run("shards=my shards", "out=my run", "launch.dry_run=true", "task.global_batch=64", *overrides)
    assert (code, error) == (0, "")
    assert shown in out and out.count("\n") == 1
    assert shlex.split(out)[-1] in ("my run", str(place / "my run"))
    assert (place / "my run" / "config.yaml").is_file() and not (place / "my run" / "started").exists()


def test_dry_run_shows_the_job_file(place, run):
    code, out, error = run("shards=my shards", "out=my run", "launch=slurm", "launch.dry_run=true", "engine=zero1",
                           "task.global_batch=64", PATH="/nowhere")
    assert (code, error) == (0, "")
    file = place / "my run" / "job.sbatch"
    assert out == f"{file.read_text()}\nsbatch {shlex.quote(str(file))}\n"
    assert out.startswith("#!/bin/bash\n#SBATCH --job-name=toonforge-rectify\n")
    assert f"cd {shlex.quote(str(place))} || exit 1\n" in out


# What is started.

@pytest.mark.parametrize("code", [0, 2, 75])
def test_single_process_gets_the_signals_and_its_exit_code_is_that_of_the_command(place, code):
    process = start(place, "shards=my shards", "out=my run", code=code)
    if code == 75:
        deadline = time.monotonic() + 30
        while not (place / "my run" / "started").exists():
            assert time.monotonic() < deadline
            time.sleep(0.02)
        process.send_signal(signal.SIGUSR1)
    process.communicate(timeout=60)
    assert process.returncode == code
    started = json.loads((place / "my run" / "started").read_text())
    assert started == {"pid": process.pid, "arguments": ["my run"]}         # the command has become the rank
    assert (place / "my run" / "seen").read_text() == ("SIGUSR1" if code == 75 else "")
    assert config.thaw(place / "my run" / "config.yaml", config.TRAIN).shards == "my shards"


def test_job_is_handed_to_slurm_and_the_code_of_sbatch_is_that_of_the_command(place, run):
    (place / "bin").mkdir()
    (place / "bin" / "sbatch").write_text('#!/bin/bash\nprintf "%s\\n" "$@" > handed_in\nexit 5\n')
    (place / "bin" / "sbatch").chmod(0o755)
    code, _, error = run("shards=my shards", "out=my run", "launch=slurm", "engine=zero1", "task.global_batch=64",
                         PATH=f"{place / 'bin'}:{os.environ['PATH']}")
    assert (code, error) == (5, "")
    assert (place / "handed_in").read_text() == f"{place / 'my run' / 'job.sbatch'}\n"
