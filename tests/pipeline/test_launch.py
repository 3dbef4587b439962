"""Promise: every launcher starts the ranks that the job counts with, and whoever is asked to stop has time to save."""

import dataclasses
import functools
import json
import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from pipeline import config
from pipeline.errors import EXIT_OK, EXIT_STOPPED, UserError
from pipeline.launch import commands, slurm
from pipeline.launch.commands import ENV_FILE, Launch, prepare
from training.config import LauncherName, TrainJob

ROOT = Path(__file__).parents[2]

# Stands for a rank: says who it is, waits to be asked, takes its time to save, and leaves.
STAND_IN = """
import json, os, signal, sys, time
from pathlib import Path
run, rank = Path(sys.argv[1]), os.environ.get("RANK", "0")
asked = []
for number in (signal.SIGTERM, signal.SIGUSR1, signal.SIGINT):
    signal.signal(number, lambda number, frame: asked.append(number))
names = ("RANK", "LOCAL_RANK", "WORLD_SIZE", "MASTER_ADDR", "MASTER_PORT", "OMP_NUM_THREADS", "FOO")
environment = {name: os.environ.get(name) for name in names}
(run / f".rank_{rank}").write_text(json.dumps({"pid": os.getpid(), "cwd": os.getcwd(), **environment}))
(run / f".rank_{rank}").rename(run / f"rank_{rank}")
def asked_by_anyone():
    return asked or (run / "STOP").exists()
until = time.monotonic() + 120          # nobody is left behind where a test fails
while not asked_by_anyone() and not (run / "FINISH").exists() and time.monotonic() < until:
    time.sleep(0.02)
state = "paused" if asked_by_anyone() else "done"
time.sleep(float(os.environ.get("SAVE_S", "0")))
(run / f"saved_{rank}").write_text(" ".join(str(number) for number in asked))
if rank == "0":
    (run / ".status").write_text(json.dumps({"schema": 1, "state": state}))
    (run / ".status").rename(run / "status.json")
sys.exit(int(os.environ.get("CODE", "0")))
"""


@functools.cache
def base_job() -> TrainJob:
    return config.load(["engine=zero1", "task.global_batch=64"], config.TRAIN)


def make_job(name: str = "local", **launch: object) -> TrainJob:
    changed = {"name": LauncherName(name), "nodes": 1, "ranks_per_node": 2, **launch}
    return dataclasses.replace(base_job(), launch=dataclasses.replace(base_job().launch, **changed))


def wait_for(path: Path, timeout_s: float = 60.0) -> None:
    deadline = time.monotonic() + timeout_s
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


@pytest.fixture
def run_dir(tmp_path, monkeypatch):
    """A run's folder with a space in its name; no launcher's variables around."""
    for name in ("NODE_RANK", "MASTER_ADDR", "CUDA_VISIBLE_DEVICES", "OMP_NUM_THREADS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 12)
    folder = tmp_path / "my run"
    folder.mkdir()
    return folder


# What is started.

def test_one_rank_is_one_process_that_is_nobodys_child(run_dir):
    launch = prepare(make_job(ranks_per_node=1), run_dir)
    assert launch == Launch([sys.executable, "-m", "training", str(run_dir)], is_rank=True)


@pytest.mark.parametrize("name", ["local", "torchrun"])
def test_ranks_of_one_machine_are_started_by_torchrun_on_a_free_port(run_dir, name):
    launch = prepare(make_job(name, ranks_per_node=4), run_dir)
    assert not launch.is_rank
    assert launch.command[1:6] == ["-m", "torch.distributed.run", "--nnodes=1", "--nproc-per-node=4", "--standalone"]
    assert launch.command[-3:] == ["-m", "training", str(run_dir)]
    assert launch.environment == {"OMP_NUM_THREADS": "3"}       # 12 cores


def test_torchrun_is_told_to_wait_for_a_checkpoint_only_where_it_knows_how(run_dir, monkeypatch):
    monkeypatch.setattr(commands, "version", lambda package: "2.12.1+cu126")
    assert "--shutdown-timeout=77" in prepare(make_job(grace_s=77), run_dir).command
    monkeypatch.setattr(commands, "version", lambda package: "2.11.0")
    assert not any("shutdown" in word for word in prepare(make_job(grace_s=77), run_dir).command)


def test_threads_that_a_person_has_chosen_stay(run_dir, monkeypatch):
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert prepare(make_job(), run_dir).environment == {}


def test_every_flag_of_torchrun_is_one_that_it_has(run_dir, monkeypatch):
    from torch.distributed.run import get_args_parser

    monkeypatch.setenv("NODE_RANK", "1")
    monkeypatch.setenv("MASTER_ADDR", "first")
    words = prepare(make_job("torchrun", nodes=2), run_dir).command[3:]
    known = get_args_parser().parse_args(words)
    assert (known.nnodes, known.node_rank, known.master_addr, known.master_port) == ("2", 1, "first", 29500)
    assert (known.module, known.training_script, known.training_script_args) == (True, "training", [str(run_dir)])
    assert known.signals_to_handle.split(",") == ["SIGTERM", "SIGINT", "SIGHUP", "SIGQUIT", "SIGUSR1"]


@pytest.mark.parametrize(("given", "absent"), [
    ({}, "NODE_RANK and MASTER_ADDR"), ({"NODE_RANK": "1"}, "MASTER_ADDR"), ({"MASTER_ADDR": "a"}, "NODE_RANK")])
def test_several_nodes_by_hand_need_to_know_each_other(run_dir, monkeypatch, given, absent):
    for name, value in given.items():
        monkeypatch.setenv(name, value)
    with pytest.raises(UserError, match=f"launch.nodes=2 needs {absent}: .*Set {absent}, or use launch=hostfile"):
        prepare(make_job("torchrun", nodes=2), run_dir)


@pytest.mark.parametrize("number", ["2", "-1", "one"])
def test_number_of_a_node_must_be_one(run_dir, monkeypatch, number):
    monkeypatch.setenv("NODE_RANK", number)
    monkeypatch.setenv("MASTER_ADDR", "first")
    with pytest.raises(UserError, match=f"NODE_RANK={number} is none of launch.nodes=2 nodes. Give each .* from 0 to 1"):
        prepare(make_job("torchrun", nodes=2), run_dir)


# DeepSpeed's launcher.

def deepspeed_arguments(launch: Launch):
    """The command as DeepSpeed itself reads it."""
    runner = pytest.importorskip("deepspeed.launcher.runner")
    assert launch.command[:3] == [sys.executable, "-m", "deepspeed.launcher.runner"]
    return runner.parse_args(launch.command[3:])


@pytest.mark.slow   # imports DeepSpeed
def test_every_flag_of_deepspeeds_launcher_is_one_that_it_has(run_dir, tmp_path):
    known = deepspeed_arguments(prepare(make_job("deepspeed"), run_dir))
    assert (known.num_gpus, known.master_port, known.module, known.no_local_rank) == (2, 29500, True, True)
    assert (known.user_script, known.user_args) == ("training", [str(run_dir)])
    (tmp_path / "hosts").write_text("one slots=2\n\n# spare\ntwo  slots=2\n")
    known = deepspeed_arguments(prepare(make_job("hostfile", nodes=2, hostfile=str(tmp_path / "hosts")), run_dir))
    from deepspeed.launcher.runner import fetch_hostfile

    assert fetch_hostfile(known.hostfile) == {"one": 2, "two": 2}


def test_deepspeed_does_not_take_gpus_that_others_were_given(run_dir, monkeypatch):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4, 5,6")
    command = prepare(make_job("deepspeed"), run_dir).command
    assert "--include=localhost:4,5" in command and not any("num_gpus" in word for word in command)
    assert "--hostfile=/dev/null" in command
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "4")
    with pytest.raises(UserError, match=r"CUDA_VISIBLE_DEVICES=4 does not fit launch.ranks_per_node=2"):
        prepare(make_job("deepspeed"), run_dir)


def test_deepspeed_on_several_nodes_asks_for_a_hostfile(run_dir):
    with pytest.raises(UserError, match=r"launch=deepspeed with launch.nodes=2 has no hosts: .*Use launch=hostfile"):
        prepare(make_job("deepspeed", nodes=2), run_dir)


@pytest.mark.parametrize("name", ["deepspeed", "hostfile"])
def test_without_deepspeed_the_sentence_names_another_launcher(run_dir, tmp_path, monkeypatch, name):
    monkeypatch.setattr(commands, "find_spec", lambda package: None)
    (tmp_path / "hosts").write_text("one slots=2\n")
    with pytest.raises(UserError, match=f"launch={name} needs DeepSpeed.*use launch=torchrun"):
        prepare(make_job(name, hostfile=str(tmp_path / "hosts")), run_dir)


@pytest.mark.parametrize(("text", "sentence"), [
    ("one slots=8\ntwo 8\n", "hosts cannot be read: 'two 8' is no host. Write: node1 slots=8"),
    ("one slots=8\none slots=8\n", "hosts names one twice"),
    ("# nobody\n\n", "hosts names no host"),
    ("one slots=8\ntwo slots=4\n", "gives its hosts unequal slots: one 8, two 4"),
    ("one slots=0\ntwo slots=0\n", "gives its hosts unequal slots: one 0, two 0. Give all as many, at least one"),
    ("one slots=8\n", "has 1 hosts with 8 slots: launch.nodes=2 and .* launch.nodes=1 launch.ranks_per_node=8"),
    ("one slots=2\ntwo slots=2\nthree slots=2\n", "has 3 hosts with 2 slots.*launch.nodes=3 launch.ranks_per_node=2"),
])
def test_hosts_that_do_not_fit_are_told_before_anything_starts(run_dir, tmp_path, text, sentence):
    (tmp_path / "hosts").write_text(text)
    with pytest.raises(UserError, match=sentence):
        prepare(make_job("hostfile", nodes=2, hostfile=str(tmp_path / "hosts")), run_dir)


@pytest.mark.parametrize("hostfile", [None, "nowhere"])
def test_hostfile_must_be_there(run_dir, hostfile):
    with pytest.raises(UserError, match=f"launch.hostfile={hostfile} is no file"):
        prepare(make_job("hostfile", nodes=2, hostfile=hostfile), run_dir)


def test_environment_reaches_other_hosts_by_deepspeeds_file(run_dir, tmp_path, monkeypatch):
    (tmp_path / "hosts").write_text("one slots=2\ntwo slots=2\n")
    monkeypatch.setenv("FOO", "two words")
    monkeypatch.setenv("EMPTY", "")
    job = make_job("hostfile", nodes=2, hostfile=str(tmp_path / "hosts"), forward_env=["FOO", "EMPTY", "UNSET_HERE"])
    launch = prepare(job, run_dir)
    assert launch.environment == {"DS_ENV_FILE": str(run_dir / ENV_FILE)}
    assert (run_dir / ENV_FILE).read_text() == "FOO=two words\n"
    assert launch.needs == ("ssh", "pdsh")


@pytest.mark.parametrize("value", ['say "hi"', "$HOME", "`id`", "back\\slash", "100%n", "two\nlines"])
def test_value_that_would_arrive_as_another_is_refused(run_dir, tmp_path, monkeypatch, value):
    (tmp_path / "hosts").write_text("one slots=2\n")
    monkeypatch.setenv("FOO", value)
    with pytest.raises(UserError, match=r"launch.forward_env=FOO cannot be forwarded"):
        prepare(make_job("hostfile", hostfile=str(tmp_path / "hosts"), forward_env=["FOO"]), run_dir)


def test_folder_that_deepspeed_does_not_quote_is_refused(run_dir, tmp_path, monkeypatch):
    (tmp_path / "hosts").write_text("one slots=2\n")
    monkeypatch.chdir(run_dir)
    with pytest.raises(UserError, match=r"launch=hostfile cannot use the folder .*my run"):
        prepare(make_job("hostfile", hostfile=str(tmp_path / "hosts")), run_dir)


@pytest.mark.parametrize("name", ["local", "torchrun", "deepspeed", "hostfile", "slurm"])
@pytest.mark.parametrize("secret", ["WANDB_API_KEY", "HF_TOKEN", "AWS_SECRET_ACCESS_KEY", "my_password", "OPENAI_APIKEY"])
def test_no_secret_is_written_into_the_runs_folder(run_dir, monkeypatch, name, secret):
    monkeypatch.setenv(secret, "planted-9f3a")
    with pytest.raises(UserError, match=f"launch.forward_env={secret} looks like a secret: .*written into the run's folder"):
        prepare(make_job(name, forward_env=["FOO", secret]), run_dir)
    assert list(run_dir.iterdir()) == []


def test_names_that_only_sound_like_a_secret_are_forwarded(run_dir):
    prepare(make_job(forward_env=["TOKENIZERS_PARALLELISM", "KEYBOARD", "NCCL_DEBUG"]), run_dir)
    with pytest.raises(UserError, match=r"launch.forward_env=FOO=1 is no name of a variable"):
        prepare(make_job(forward_env=["FOO=1"]), run_dir)


@pytest.mark.parametrize("launcher", ["torchrun", "deepspeed", "hostfile", "slurm"])
def test_choices_that_come_with_the_project_forward_no_secret(launcher):
    job = config.load([f"launch={launcher}", "engine=zero1", "task.global_batch=64"], config.TRAIN)
    commands._refuse_secrets(job.launch.forward_env)


def test_absent_program_is_told_in_one_sentence(monkeypatch, tmp_path):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(UserError, match=r"pdsh is not installed here: .*launch.dry_run=true"):
        Launch([sys.executable], needs=("pdsh",)).check_installed()


# SLURM.

FAKE = """#!/bin/bash
printf '%s\\0' "$@" > "$RECORD/{name}.arguments"
env -0 > "$RECORD/{name}.environment"
"""
# Starts its tasks as srun does, each with its number.
FAKE_SRUN = FAKE + """
while [[ "$1" == --* ]]; do shift; done
for task in 0 1; do
  SLURM_PROCID=$task SLURM_LOCALID=$task SLURM_NTASKS=2 "$@" &
  tasks[$task]=$!
done
for task in 0 1; do wait "${{tasks[$task]}}" || code=$?; done
exit "${{code:-0}}"
"""


@pytest.fixture
def cluster(tmp_path, monkeypatch):
    """Fakes of SLURM's programs that record what they were given; returns the folder of the records."""
    record = tmp_path / "record"
    programs = tmp_path / "bin"
    for folder in (record, programs):
        folder.mkdir()
    fakes = {"sbatch": FAKE, "srun": FAKE_SRUN, "scontrol": FAKE + '[ "$1" = show ] && echo node7 && echo node8\n'}
    for name, text in fakes.items():
        (programs / name).write_text(text.format(name=name))
        (programs / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("RECORD", str(record))
    return record


def arguments_of(record: Path, program: str) -> list[str]:
    return (record / f"{program}.arguments").read_text().split("\0")[:-1]


def started_job(run_dir: Path, **environment: str) -> subprocess.Popen:
    """The job's file, run as SLURM would, up to the moment at which both ranks are there."""
    (run_dir.parent / "stand in.py").write_text(STAND_IN)
    rank = [sys.executable, "-S", str(run_dir.parent / "stand in.py")]
    text = slurm.render(make_job("slurm", forward_env=["FOO"]), run_dir, run_dir.parent, rank, pause_s=0.1)
    (run_dir / slurm.JOB_FILE).write_text(text)
    job = subprocess.Popen(["bash", str(run_dir / slurm.JOB_FILE)], cwd="/",
                           env={**os.environ, "SLURM_JOB_ID": "42", "SLURM_JOB_NODELIST": "node[7-8]", **environment})
    for number in (0, 1):
        wait_for(run_dir / f"rank_{number}")
    return job


def options_of(text: str) -> dict[str, str]:
    """The options of a job file, read as sbatch does; for words without quotes a POSIX shell reads the same."""
    lines = [line.removeprefix("#SBATCH --") for line in text.splitlines() if line.startswith("#SBATCH")]
    words = [shlex.split(line)[0].partition("=") for line in lines]
    return {name: value for name, _, value in words}


def test_job_file_asks_for_what_the_job_needs(run_dir):
    job = make_job("slurm", nodes=2, ranks_per_node=8, partition="big one", time_limit="2-00:00:00", grace_s=600)
    job = dataclasses.replace(job, experiment="paper_rectify")
    run_dir = run_dir.rename(run_dir.with_name("a #1 run's 100% of it"))
    text = prepare(job, run_dir) and (run_dir / slurm.JOB_FILE).read_text()
    assert options_of(text) == {
        "job-name": "toonforge-paper_rectify", "nodes": "2", "ntasks-per-node": "8", "gpus-per-node": "8", "time": "2-00:00:00",
        "signal": "B:USR1@600", "output": str(run_dir).replace("%", "%%") + "/logs/slurm-%j.log", "open-mode": "append",
        "partition": "big one", "requeue": "", "exclusive": ""}
    assert (run_dir / "logs").is_dir()
    assert subprocess.run(["bash", "-n"], input=text, text=True).returncode == 0
    on_cpu = dataclasses.replace(job, device="cpu")
    assert "gpus-per-node" not in options_of(slurm.render(on_cpu, run_dir, run_dir, ["rank"]))


def test_job_file_is_handed_to_sbatch(run_dir, cluster):
    launch = prepare(make_job("slurm"), run_dir)
    launch.check_installed()
    subprocess.run(launch.command, check=True)
    assert arguments_of(cluster, "sbatch") == [str(run_dir / "job.sbatch")]


def test_ranks_of_a_slurm_job_know_who_they_are(run_dir, cluster, monkeypatch):
    monkeypatch.setenv("FOO", "it's $HOME")
    job = started_job(run_dir, FOO="of another shell")
    (run_dir / "FINISH").touch()
    assert job.wait(30) == 0
    seen = [json.loads((run_dir / f"rank_{number}").read_text()) for number in (0, 1)]
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"]) for rank in seen] == [("0", "0", "2"), ("1", "1", "2")]
    assert {(rank["MASTER_ADDR"], rank["MASTER_PORT"], rank["FOO"], rank["cwd"]) for rank in seen} == {
        ("node7", "29500", "it's $HOME", str(run_dir.parent))}
    assert all(int(rank["OMP_NUM_THREADS"]) >= 1 for rank in seen)
    arguments = arguments_of(cluster, "srun")
    assert {"--export=ALL", "--kill-on-bad-exit=1", "--cpu-bind=none"} <= set(arguments)
    assert arguments[-2:] == [str(run_dir.parent / "stand in.py"), str(run_dir)]
    assert arguments_of(cluster, "scontrol") == ["show", "hostnames", "node[7-8]"]      # and it is not queued again


def test_job_whose_time_is_up_saves_and_is_queued_again(run_dir, cluster):
    job = started_job(run_dir, SAVE_S="0.5", CODE="75")
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 75
    assert (run_dir / "STOP").exists() and (run_dir / "saved_0").exists() and (run_dir / "saved_1").exists()
    assert arguments_of(cluster, "scontrol") == ["requeue", "42"]


def test_ranks_that_were_only_starting_are_asked_again(run_dir, cluster):
    job = started_job(run_dir, SAVE_S="1")
    job.send_signal(signal.SIGUSR1)
    wait_for(run_dir / "STOP")
    (run_dir / "STOP").unlink()         # as training.stop does with one from before
    wait_for(run_dir / "STOP", timeout_s=5)
    assert job.wait(30) == 0


@pytest.mark.parametrize(("ask", "code"), [
    (lambda job, run: job.send_signal(signal.SIGTERM), 0),      # scancel
    (lambda job, run: (run / "STOP").touch(), 0),               # a person pauses it
])
def test_job_that_a_person_has_ended_is_not_queued_again(run_dir, cluster, ask, code):
    job = started_job(run_dir)
    ask(job, run_dir)
    assert job.wait(30) == code
    assert json.loads((run_dir / "status.json").read_text())["state"] == "paused"
    assert arguments_of(cluster, "scontrol")[0] == "show"


def test_job_that_is_done_just_before_its_time_is_not_queued_again(run_dir, cluster):
    job = started_job(run_dir, SAVE_S="0.5")
    (run_dir / "FINISH").touch()
    time.sleep(0.2)
    job.send_signal(signal.SIGUSR1)
    assert job.wait(30) == 0
    assert json.loads((run_dir / "status.json").read_text())["state"] == "done"
    assert arguments_of(cluster, "scontrol")[0] == "show"


def test_job_ends_with_the_code_of_its_ranks(run_dir, cluster):
    job = started_job(run_dir, CODE="3")
    (run_dir / "FINISH").touch()
    assert job.wait(30) == 3


# Real launchers with ranks that stand in.

SUPERVISED = """
import sys
from pathlib import Path
from pipeline.launch.commands import Launch
from pipeline.launch.supervise import supervise
sys.exit(supervise(Launch(sys.argv[2:]), Path(sys.argv[1])))
"""


def supervised(run_dir: Path, *command: str, **environment: str) -> subprocess.Popen:
    return subprocess.Popen([sys.executable, "-c", SUPERVISED, str(run_dir), *command],
                            env={**os.environ, "PYTHONPATH": str(ROOT), **environment}, stderr=subprocess.PIPE, text=True,
                            start_new_session=True)


def supervised_rank(run_dir: Path, **environment: str) -> subprocess.Popen:
    (run_dir.parent / "stand_in.py").write_text(STAND_IN)
    process = supervised(run_dir, sys.executable, str(run_dir.parent / "stand_in.py"), str(run_dir), **environment)
    wait_for(run_dir / "rank_0")
    return process


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_every_signal_becomes_a_stop_file_and_the_record_decides_the_exit_code(run_dir, number):
    process = supervised_rank(run_dir, CODE="1", SAVE_S="0.5")      # launchers return 1 after a clean stop
    process.send_signal(number)
    _, told = process.communicate(timeout=30)
    assert process.returncode == EXIT_STOPPED
    assert (run_dir / "saved_0").exists()
    assert told == f"{number.name}: the ranks save at their next step and leave; Ctrl-C again ends them at once\n"


def test_interrupt_of_the_whole_terminal_does_not_reach_the_launcher(run_dir):
    process = supervised_rank(run_dir)
    os.killpg(process.pid, signal.SIGINT)
    assert process.wait(30) == EXIT_STOPPED
    assert (run_dir / "saved_0").read_text() == ""


def test_training_that_is_done_is_zero_and_a_failed_one_what_its_launcher_says(run_dir):
    (run_dir / "FINISH").touch()
    assert supervised_rank(run_dir, CODE="1").wait(30) == EXIT_OK
    # The record is now of an earlier part, which must not make a success of a failure.
    assert supervised(run_dir, sys.executable, "-c", "raise SystemExit(3)").wait(30) == 3
    assert supervised(run_dir, sys.executable, "-c", "import os; os.kill(os.getpid(), 9)").wait(30) == 137


def test_second_interrupt_ends_all_ranks_at_once(run_dir):
    process = supervised_rank(run_dir, SAVE_S="60")
    pid = json.loads((run_dir / "rank_0").read_text())["pid"]
    process.send_signal(signal.SIGINT)
    wait_for(run_dir / "STOP")
    process.send_signal(signal.SIGINT)
    assert process.wait(20) == 137
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
    assert not (run_dir / "saved_0").exists()


def test_ignored_hangup_stays_ignored(run_dir):
    (run_dir.parent / "stand_in.py").write_text(STAND_IN)
    command = [sys.executable, "-c", SUPERVISED, str(run_dir), sys.executable, str(run_dir.parent / "stand_in.py"), str(run_dir)]
    process = subprocess.Popen(["nohup", *command], env={**os.environ, "PYTHONPATH": str(ROOT)}, stderr=subprocess.DEVNULL)
    wait_for(run_dir / "rank_0")
    process.send_signal(signal.SIGHUP)
    time.sleep(1.5)
    assert not (run_dir / "STOP").exists() and process.poll() is None
    (run_dir / "FINISH").touch()
    assert process.wait(30) == EXIT_OK


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGUSR1])
def test_real_torchrun_that_is_signalled_itself_lets_its_ranks_save(run_dir, monkeypatch, number):
    """As scancel and node daemons do it: not through our command. Without SIGUSR1 among the handled ones, ranks were orphans."""
    monkeypatch.setattr(commands, "RANK_MODULE", "stand_in")
    (run_dir.parent / "stand_in.py").write_text(STAND_IN)
    launch = prepare(make_job("torchrun", grace_s=120), run_dir)
    process = subprocess.Popen(launch.command, cwd=run_dir.parent, env={**os.environ, **launch.environment, "SAVE_S": "3"})
    for rank in (0, 1):
        wait_for(run_dir / f"rank_{rank}")
    process.send_signal(number)
    assert process.wait(60) != 0        # torchrun says 1 after a clean stop; the record says paused
    assert (run_dir / "saved_0").exists() and (run_dir / "saved_1").exists()
    assert json.loads((run_dir / "status.json").read_text())["state"] == "paused"


@pytest.mark.slow
@pytest.mark.parametrize("name", ["torchrun", "deepspeed"])
def test_real_launcher_under_our_command_stops_clean(run_dir, monkeypatch, name):
    monkeypatch.setattr(commands, "RANK_MODULE", "stand_in")
    (run_dir.parent / "stand_in.py").write_text(STAND_IN)
    launch = prepare(make_job(name, master_port=29713), run_dir)
    process = supervised(run_dir, *launch.command, PYTHONPATH=f"{ROOT}:{run_dir.parent}", DS_ACCELERATOR="cpu", SAVE_S="2",
                         **launch.environment)
    for rank in (0, 1):
        wait_for(run_dir / f"rank_{rank}", timeout_s=120)
    seen = [json.loads((run_dir / f"rank_{rank}").read_text()) for rank in (0, 1)]
    assert [(rank["RANK"], rank["LOCAL_RANK"], rank["WORLD_SIZE"]) for rank in seen] == [("0", "0", "2"), ("1", "1", "2")]
    assert {rank["OMP_NUM_THREADS"] for rank in seen} == {"6"}
    process.send_signal(signal.SIGTERM)
    _, told = process.communicate(timeout=60)
    assert process.returncode == EXIT_STOPPED, told
    assert (run_dir / "saved_0").exists() and (run_dir / "saved_1").exists()


@pytest.mark.slow
def test_real_deepspeed_launcher_carries_environment_and_paths_to_other_hosts(run_dir, tmp_path, monkeypatch):
    """pdsh is a fake that runs the command as a shell on the first host would, and ssh one that knows its address."""
    programs = tmp_path / "bin"
    programs.mkdir()
    (programs / "ssh").write_text("#!/bin/bash\necho 127.0.0.1\n")
    # pdsh hands its words to a shell, with %n for the number of the host.
    (programs / "pdsh").write_text('#!/bin/bash\nwhile [[ "$1" == -* ]]; do [[ "$1" == -[wf] ]] && shift; shift; done\n'
                                   'words="$*"\nunset FOO\nexec bash -c "${words//%n/0}"\n')
    for program in programs.iterdir():
        program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    monkeypatch.setenv("FOO", "it's two words")
    monkeypatch.setattr(commands, "RANK_MODULE", "stand_in")
    monkeypatch.chdir(tmp_path)
    (tmp_path / "stand_in.py").write_text(STAND_IN)
    (tmp_path / "hosts").write_text("one slots=1\ntwo slots=1\n")
    (run_dir / "FINISH").touch()
    launch = prepare(make_job("hostfile", nodes=2, ranks_per_node=1, hostfile="hosts", forward_env=["FOO"]), run_dir)
    launch.check_installed()
    done = subprocess.run(launch.command, env={**os.environ, **launch.environment, "DS_ACCELERATOR": "cpu"}, capture_output=True,
                          text=True, timeout=120)
    assert done.returncode == 0, done.stderr[-3000:]
    seen = json.loads((run_dir / "rank_0").read_text())
    assert (seen["FOO"], seen["cwd"]) == ("it's two words", str(tmp_path))
    assert (seen["WORLD_SIZE"], seen["MASTER_ADDR"]) == ("2", "127.0.0.1")
