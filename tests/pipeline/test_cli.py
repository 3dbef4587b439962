"""Promise: a mistake on the command line is one sentence at once; otherwise the job is frozen and started."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import yaml

from pipeline import cli, sweep
from pipeline.config import thaw

ROOT = Path(__file__).parents[2]

# Stands for the curation: writes down what it was given and leaves with the given code.
STAND_IN = "import sys; print('curating', *sys.argv[1:]); sys.exit({code})"

DRIVER = """
import sys
from pipeline import cli
cli.CURATION_COMMAND = cli.CALIBRATION_COMMAND = [sys.executable, "-c", {program!r}]
sys.exit(cli.main(sys.argv[1:]))
"""


def environment():
    return {**os.environ, "PYTHONPATH": str(ROOT)}


def toonforge(*arguments, cwd, code=0):
    """Runs the command line with a stand-in for the curation that leaves with `code`."""
    command = [sys.executable, "-c", DRIVER.format(program=STAND_IN.format(code=code)), *arguments]
    return subprocess.run(command, cwd=cwd, env=environment(), capture_output=True, text=True, timeout=60)


def wait_for(path):
    deadline = time.monotonic() + 20
    while not path.exists():
        assert time.monotonic() < deadline, f"{path} did not appear"
        time.sleep(0.02)


def test_curate_freezes_the_job_and_starts_the_curation_with_it(tmp_path):
    (tmp_path / "my films, 1").mkdir()
    done = toonforge("curate", "archive=my films, 1", "out=out/a b", "gates=strict", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "curating out/a b/config.yaml\n"
    job = thaw(tmp_path / "out/a b/config.yaml")
    assert (job.archive, job.out, job.gates.text_area.max) == ("my films, 1", "out/a b", 0.0)


def test_calibrate_freezes_the_job_and_starts_the_comparison_with_labels_that_are_no_part_of_it(tmp_path):
    for name in ("my films", "my labels, 1"):
        (tmp_path / name).mkdir()
    done = toonforge("calibrate", "archive=my films", "truth=my labels, 1", "stock=true", "out=o", "curation.shots.cut=0.5",
                     cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert done.stdout == "curating o/config.yaml --truth my labels, 1 --stock\n"
    assert thaw(tmp_path / "o/config.yaml").curation.shots.cut == 0.5
    assert toonforge("calibrate", cwd=tmp_path).stdout == "curating out/sample/config.yaml\n"   # the sample knows its truth


@pytest.mark.parametrize("code", [1, 75])
def test_exit_code_of_the_curation_is_that_of_the_command(tmp_path, code):
    assert toonforge("curate", cwd=tmp_path, code=code).returncode == code
    assert toonforge("curate", "-m", "curation.workers=1,2", cwd=tmp_path, code=code).returncode == code


@pytest.mark.parametrize("arguments", [["curate"], ["curate", "-m", "curation.workers=1,2"]])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signal_reaches_the_curation_once_and_its_answer_comes_back(tmp_path, arguments, number):
    program = f"""
import signal, sys, time
from pathlib import Path
seen = []
signal.signal({int(number)}, lambda *_: seen.append(1))
Path("started").touch()
while not seen:
    time.sleep(0.01)
time.sleep(0.2)
Path("seen").write_text(str(len(seen)))
sys.exit(75)
"""
    command = [sys.executable, "-c", DRIVER.format(program=program), *arguments]
    # A terminal's Ctrl-C goes to the whole process group of the command.
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(), stdout=subprocess.DEVNULL, process_group=0)
    try:
        wait_for(tmp_path / "started")
        os.killpg(process.pid, number)
        assert process.wait(timeout=20) == 75
    finally:
        process.kill()
        process.wait()
    assert (tmp_path / "seen").read_text() == "1"


def test_showing_the_job_prints_what_would_be_frozen_and_writes_nothing(tmp_path):
    shown = toonforge("curate", "--cfg", "job", "gates=strict", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert list(tmp_path.iterdir()) == []
    toonforge("curate", "gates=strict", cwd=tmp_path)
    assert yaml.safe_load(shown.stdout) == yaml.safe_load((tmp_path / "out/sample/config.yaml").read_text())


@pytest.mark.parametrize(("arguments", "text"), [
    (["--info", "defaults-tree", "gates=strict"], "gates: strict"),
    (["--info", "config"], "text_area"),
    (["--cfg", "hydra"], "dir: out/sweeps"),
    (["--cfg", "job", "--resolve", "experiment=quick"], "experiment: quick"),
])
def test_hydra_shows_where_values_come_from(tmp_path, arguments, text):
    done = toonforge("curate", *arguments, cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert text in done.stdout
    assert list(tmp_path.iterdir()) == []


def test_showing_the_job_imports_nothing_heavy():
    program = """
import sys
from pipeline.cli import main
main(["curate", "--cfg", "job"])
heavy = {"torch", "ray", "wandb", "cv2", "av", "webdataset", "transformers", "deepspeed", "pyarrow"}
sys.exit(f"imported: {heavy & set(sys.modules)}" if heavy & set(sys.modules) else 0)
"""
    done = subprocess.run([sys.executable, "-c", program], env=environment(), capture_output=True, text=True)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize(("arguments", "sentence"), [
    (["curat"], "curat is no command. Did you mean curate?"),
    (["zzz"], "zzz is no command. There are: curate, calibrate, train, sample, evaluate, export, triplets, study, weights"),
    (["calibrate", "archive=films"],
     "truth is missing: calibrate compares with labels. Give truth=FOLDER; see docs/calibrate.md"),
    (["calibrate", "archive=films", "truth=flims"], "truth=flims does not exist. Did you mean films?"),
    (["calibrate", "archive=films", "truth=films", "stock=yes"], "stock=yes is no choice. Write stock=true or leave it out"),
    (["calibrate", "archive=films", "truth=films", "gates=strct"], "gates=strct is no choice of gates. Did you mean strict?"),
    (["calibrate", "-m", "gates=strict,permissive"],
     "calibrate takes no -m: it compares one configuration with the labels. Give one value each"),
    (["calibrate", "--cfg", "job"], "calibrate shows no configuration. Its job is that of curate: curate --cfg job"),
    (["curate", "--cgf", "job"], "unrecognized arguments: --cgf. See python -m pipeline --help"),
    (["curate", "gates=strct"], "gates=strct is no choice of gates. Did you mean strict?"),
    (["curate", "--cfg", "job", "gates=strct"], "gates=strct is no choice of gates. Did you mean strict?"),
    (["curate", "--info", "config", "gates=strct"], "gates=strct is no choice of gates. Did you mean strict?"),
    (["curate", "archive=flims"], "archive=flims does not exist. Did you mean films?"),
    (["curate", "archive=films", "out=films/out"],
     "out=films/out lies inside archive=films: its clips would be taken for films the next time. "
     "Choose another folder with out=..."),
    (["curate", "out=file/out"], "out=file/out cannot be written: Not a directory. Choose another folder with out=..."),
    (["curate", "-m", "out=out/x", "gates=strict,permissive"],
     "out=out/x is shared by 2 jobs: each needs its own. Leave out=... away, or sweep it"),
    (["curate", "-m", "gates=strict,permisive"], "gates=permisive is no choice of gates. Did you mean permissive?"),
    (["curate", "-m", "gates=glob(*)"], "gates=glob(*) cannot be swept: values are listed. "
                                        "Write a,b,c or range(start,stop)"),
])
def test_mistake_is_one_sentence_and_exit_code_2(tmp_path, monkeypatch, capsys, arguments, sentence):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "films").mkdir()
    (tmp_path / "file").touch()
    assert cli.main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err == f"toonforge: error: {sentence}\n"
    assert captured.out == ""
    assert not (tmp_path / "out").exists()


def test_folder_that_cannot_be_written_is_a_user_error(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def refuse(*_):
        raise PermissionError(13, "Permission denied")  # tests may run as root, who may write anywhere

    monkeypatch.setattr("pipeline.config.write_text", refuse)
    assert cli.main(["curate"]) == 2
    assert "out=out/sample cannot be written: Permission denied" in capsys.readouterr().err


@pytest.mark.parametrize(("arguments", "code"), [(["--help"], 0), (["curate", "--help"], 0), (["help"], 0), ([], 2)])
def test_help_names_every_command(capsys, arguments, code):
    assert cli.main(arguments) == code
    captured = capsys.readouterr()
    assert all(f"  {command} " in captured.out for command in cli.COMMANDS)


def test_second_run_into_a_folder_says_what_changed(tmp_path):
    (tmp_path / "films").mkdir()
    toonforge("curate", "out=o", cwd=tmp_path)
    again = toonforge("curate", "out=o", cwd=tmp_path)
    assert "changed" not in again.stdout
    other = toonforge("curate", "out=o", "archive=films", "gates.text_area.max=0.5", cwd=tmp_path)
    line = "changed since the last run in o: archive None -> films, gates.text_area.max 0.02 -> 0.5"
    assert other.stdout.splitlines()[0] == line


def test_sweep_gives_each_job_a_folder_of_its_own_that_stays_the_same(tmp_path):
    arguments = ["curate", "-m", "gates=strict,permissive", "experiment=null,quick"]
    first, second = (toonforge(*arguments, cwd=tmp_path) for _ in range(2))
    assert first.returncode == 0, first.stderr
    assert first.stdout == second.stdout
    jobs = [thaw(path) for path in sorted((tmp_path / "out/sweeps").glob("*/config.yaml"))]
    assert len({job.out for job in jobs}) == 4
    assert sorted((job.gates.text_area.max, job.experiment or "") for job in jobs) == [
        (0.0, ""), (0.0, "quick"), (0.3, ""), (0.3, "quick"),
    ]
    assert {job.store for job in jobs} == {"out/sweeps/artifacts"}  # a survey is made once for all


def test_sweep_expands_lists_ranges_and_quoted_paths():
    expanded = sweep.expand(["curation.workers=range(1,3)", "out=a b,'c, d'", "gates=strict"])
    assert expanded == [
        ["curation.workers=1", "out=a b", "gates=strict"], ["curation.workers=1", "out='c, d'", "gates=strict"],
        ["curation.workers=2", "out=a b", "gates=strict"], ["curation.workers=2", "out='c, d'", "gates=strict"],
    ]


def test_failed_job_of_a_sweep_does_not_keep_the_others_from_running(tmp_path):
    programs = ["import sys; sys.exit(3)", f"open({str(tmp_path / 'ran')!r}, 'w')"]
    assert sweep.run([[sys.executable, "-c", program] for program in programs]) == 3
    assert (tmp_path / "ran").exists()
