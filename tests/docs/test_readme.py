"""Promise: what README.md and docs/ tell people to type works, and every option and file they name exists."""

import os
import re
import shlex
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from curation.sample_archive import draw_archive
from pipeline.config import CURATE, KINDS, Kind, load
from pipeline.fetch import main_weights
from pipeline.records import to_plain
from pipeline.sweep import expand

ROOT = Path(__file__).parents[2]
README = ROOT / "README.md"
PAGES = [README, *sorted((ROOT / "docs").glob("*.md"))]
COMMAND_KINDS = {"calibrate": CURATE, **{kind.command: kind for kind in KINDS}}
SAMPLE_SIZE = "426x240"      # the smallest whose clips pass the size limit


def fences(page: Path, language: str) -> list[str]:
    return re.findall(rf"^ *```{language}\n(.*?)^ *```$", page.read_text(), re.MULTILINE | re.DOTALL)


def commands(page: Path) -> list[str]:
    return [line for block in fences(page, "bash") for line in block.splitlines() if line.strip()]


COMMANDS = [(page, command) for page in PAGES for command in commands(page)]


def underlying(command: str) -> list[str]:
    """The command itself; of `make X` the one that make would run in the end, without preparing the environment."""
    if not command.startswith("make "):
        return shlex.split(command)
    # These tests may themselves run under make, whose flags and ARGS must not reach the inner one.
    environment = {name: value for name, value in os.environ.items() if not name.startswith(("MAKE", "MFLAGS", "ARGS"))}
    done = run([*shlex.split(command), "-n"], ROOT, environment)
    assert done.returncode == 0, f"{command}: {done.stderr}"
    printed = [line for line in done.stdout.splitlines() if not line.startswith("make")]
    return shlex.split(printed[-1]) if printed else []


def run(words: list[str], folder: Path, environment: dict[str, str]) -> subprocess.CompletedProcess[str]:
    return subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def overrides_of(words: list[str]) -> list[str]:
    """The overrides of a "python -m pipeline COMMAND ..." line, without its flags and what is no option of the job."""
    assert words[1:3] == ["-m", "pipeline"] and words[3] in COMMAND_KINDS, words
    return [word for word in words[4:] if "=" in word and not word.startswith(("truth=", "stock="))]


def option_names(values: Any, prefix: str = "") -> Iterator[str]:
    for name, value in values.items():
        yield prefix + name
        if isinstance(value, dict):
            yield from option_names(value, f"{prefix}{name}.")


def test_the_first_screen_holds_the_two_commands() -> None:
    assert commands(README)[:2] == ["make curate", "make test"]
    first_screen = README.read_text().splitlines()[:30]
    assert {"make curate", "make test"} <= set(first_screen)


@pytest.mark.parametrize(("page", "command"), COMMANDS, ids=[f"{page.name}: {command}" for page, command in COMMANDS])
def test_every_command_is_one_that_exists(page: Path, command: str) -> None:
    words = underlying(command)
    if words[1:4] == ["-m", "pipeline", "weights"]:
        assert main_weights([*words[4:], "dry_run=true"]) == 0
    elif words[1:3] == ["-m", "pipeline"] and words[3] in ("export", "study"):
        assert all("=" in word or word in ("build", "analyse") for word in words[4:])      # they parse their own
    elif words[1:3] == ["-m", "pipeline"]:
        kind = COMMAND_KINDS[words[3]]
        found = overrides_of(words)
        for overrides in expand(found) if kind is CURATE else [found]:
            load(overrides, kind)    # UserError where an option or a choice does not exist
    elif words[1:3] == ["-m", "pytest"]:
        assert all((ROOT / word).exists() for word in words if word.startswith("tests"))
    elif words:                      # empty where make has nothing left to do
        assert shutil.which(words[0]), words


def choices(kind: Kind[Any], group: str) -> set[str]:
    return set(kind.presets) if group == "experiment" else {path.stem for path in (ROOT / "conf" / group).glob("*.yaml")}


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_option_that_is_named_exists(page: Path) -> None:
    known = {name for kind in KINDS for name in option_names(to_plain(load([], kind)))}
    tops = "|".join(sorted(name for name in known if "." not in name))
    text = page.read_text()
    named = set(re.findall(rf"(?<![.\w/])((?:{tops})(?:\.[a-z_]+)+)(?=[=`\s\"),]|$)", text))
    files = (".py", ".yaml", ".json", ".jsonl", ".md", ".png", ".npz", ".env", ".ckpt", ".safetensors")
    named -= {name for name in named if name.endswith(files)}
    named -= set(re.findall(r"-m ([\w.]+)", text))      # modules
    assert named <= known, sorted(named - known)
    groups = {group for kind in KINDS for group in kind.groups}
    for group, choice in re.findall(rf"\b({'|'.join(groups)})=([a-z]\w*)", text):
        assert any(choice in choices(kind, group) for kind in KINDS if group in kind.groups), f"{group}={choice}"


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_every_link_leads_somewhere(page: Path) -> None:
    text = page.read_text()
    titles = re.findall(r"^#+ (.+)$", text, re.MULTILINE)
    anchors = {re.sub(r"[^a-z0-9 -]", "", title.lower()).replace(" ", "-") for title in titles}
    for target in re.findall(r"\]\(([^)]+)\)", text):
        if target.startswith("#"):
            assert target[1:] in anchors, target
        elif "://" not in target:
            assert (page.parent / target).exists(), target


@pytest.mark.slow
def test_every_command_of_the_readme_runs(tmp_path: Path) -> None:
    """In an empty folder, with a small sample archive under every name that a command reads, in one process."""
    films = draw_archive(tmp_path / "drawn", seed=0, size=SAMPLE_SIZE)
    (tmp_path / "films").symlink_to(films, target_is_directory=True)
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "WANDB_MODE": "disabled"}
    small = ["curation.executor=inline", f"store={tmp_path / 'store'}", f"curation.sample_archive.size={SAMPLE_SIZE}",
             f"curation.sample_archive.path={tmp_path / 'drawn'}"]
    for command in commands(README):
        words = underlying(command)
        if not words or words[1:3] == ["-m", "venv"] or "touch" in words:
            continue                 # make setup: these tests run in its result
        words[0] = sys.executable
        if words[1:3] == ["-m", "pytest"]:
            words += ["--collect-only", "--rootdir", str(ROOT), str(ROOT / "tests" / "pipeline")]
        elif words[3] == "train":
            words += ["task.num_steps=1", "data.num_frames=4", "data.num_previews=0", "data.num_heldout=1"]
        else:
            overrides_of(words)
            words += small
        done = run(words, tmp_path, environment)
        assert done.returncode == 0, f"{command}: {done.stderr[-2000:]}"
    for out in ("sample", "films", "strict", "quick"):
        assert (tmp_path / "out" / out / "manifest.json").is_file(), out
    for run_name in ("tiny_decoder", "tiny_rectify", "tiny_sketch"):
        assert (tmp_path / "runs" / run_name / "checkpoints" / "step_00000001" / "weights.safetensors").is_file(), run_name
    [reader] = fences(README, "python")
    done = run([sys.executable, "-c", reader], tmp_path, environment)
    assert done.returncode == 0, done.stderr[-2000:]
    assert re.search(r"^\w{20}-\d{8} \d+ \S", done.stdout), done.stdout[:500]
