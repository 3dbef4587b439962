"""Promise: `evaluate` composes every preset, starts a process that reads only the frozen job, and names mistakes."""

import subprocess
import sys
from pathlib import Path

import pytest
from evaluation_sets import make_job, results, write_heldout

from pipeline.config import EVALUATE, freeze, load, thaw
from pipeline.errors import EXIT_OK, EXIT_USER, UserError
from pipeline.launch.evaluate import command_for, evaluate
from training.evaluation.measuring import parse_metrics
from training.evaluation.published import find_published

CONF = Path(__file__).parents[3] / "conf" / "table"
PRESETS = sorted(path.stem for path in CONF.glob("*.yaml"))


@pytest.mark.parametrize("name", PRESETS)
def test_preset_composes_names_known_metrics_and_says_its_aim(tmp_path, name):
    job = load([f"table={name}"], EVALUATE)
    freeze(job, tmp_path / "config.yaml")
    assert thaw(tmp_path / "config.yaml", EVALUATE) == job
    columns = parse_metrics(job.metrics, job.frames)
    for table in find_published(job.published):
        names = {column for row in table.rows for column in row.values}
        assert {column.partition("@")[2] for column in names} <= {spec.part.value for spec in columns}
    lines = (CONF / f"{name}.yaml").read_text().splitlines()
    assert lines[0] == "# @package _global_" and lines[1].startswith("# ")


def test_options_beside_a_preset_win():
    job = load(["table=table1", "num_clips=3", "networks=tiny"], EVALUATE)
    assert (job.num_clips, job.networks.preset.value, job.published) == (3, "tiny", ["tooncrafter_table1"])
    assert load(["table=table3"], EVALUATE).networks.first_stage == "dynamicrafter_512_interp"


def test_process_reads_the_frozen_job_alone(tmp_path):
    job = make_job(f"shards={write_heldout(tmp_path / 'shards', 2)}", f"out={tmp_path / 'out'}")
    freeze(job, tmp_path / "out" / "config.yaml")
    done = subprocess.run(command_for(1, tmp_path / "out" / "config.yaml"), capture_output=True, text=True)
    assert done.returncode == EXIT_OK, done.stderr
    assert "report.html" in done.stdout and "\x1b" not in done.stdout and not done.stderr
    assert len(results(tmp_path / "out")["tables"][0]["rows"]) == 2


@pytest.mark.slow
def test_two_processes_give_the_table_of_one(tmp_path):
    shards = write_heldout(tmp_path / "shards")
    for ranks in (1, 2):
        out = tmp_path / str(ranks)
        freeze(make_job(f"shards={shards}", f"out={out}", f"ranks={ranks}"), out / "config.yaml")
        done = subprocess.run(command_for(ranks, out / "config.yaml"), capture_output=True, text=True)
        assert done.returncode == EXIT_OK, done.stderr
    assert results(tmp_path / "1")["tables"] == results(tmp_path / "2")["tables"]


def test_mistake_in_a_process_is_one_line_without_a_traceback(tmp_path):
    freeze(make_job(f"shards={tmp_path / 'nowhere'}", f"out={tmp_path}"), tmp_path / "config.yaml")
    command = [sys.executable, "-m", "training.evaluation", str(tmp_path / "config.yaml")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == EXIT_USER and "Traceback" not in done.stderr and done.stderr.count("\n") == 1


@pytest.mark.parametrize(("overrides", "sentence"), [
    ([], "there is nothing to measure on"),
    (["table=tabel1"], "table=tabel1 is no choice of table. Did you mean table1?"),
    (["systems=[repeet]"], "systems has repeet, which is none of repeat, crossfade"),
    (["folders=[film]"], "folders has film, which is no NAME:PATH"),
    (["folders=[repeat:x]"], "the name repeat is given to two systems"),
    (["confidence=95"], "confidence=95.0 must lie between 0 and 1"),
    (["metrics=[]"], "metrics is empty"),
    (["size=big"], "size=big is no size"),
    (["-m"], "evaluate takes no -m"),
])
def test_mistake_of_the_command_is_named(overrides, sentence):
    with pytest.raises(UserError) as caught:
        evaluate(overrides)
    assert sentence in str(caught.value)


def test_configuration_is_shown_and_nothing_started(capsys):
    assert evaluate(["--cfg", "job", "table=table4"]) == EXIT_OK
    assert "size: 256x256" in capsys.readouterr().out
