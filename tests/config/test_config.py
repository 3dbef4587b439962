"""Promise: every choice composes, and every mistake is named in one sentence with the option's full name."""

import itertools
import subprocess
import sys
from dataclasses import fields, is_dataclass
from pathlib import Path

import pytest
import yaml

from curation.config import ExecutorName, ProfileName
from pipeline.config import CURATE, KINDS, TRAIN, freeze, load, sweep_folder, thaw
from pipeline.errors import UserError
from pipeline.records import to_plain
from pipeline.tracking import TrackerMode

ROOT = Path(__file__).parents[2]
CONF = ROOT / "conf"
FOLDERS = {folder.name: sorted(path.stem for path in folder.glob("*.yaml"))
           for folder in sorted(CONF.iterdir()) if folder.is_dir() and folder.name not in ("local", "__pycache__")}
GROUPS = {group: FOLDERS[group] if group != "experiment" else CURATE.presets for group in CURATE.groups}
CHOICES = [pytest.param(kind, f"{group}={choice}", id=f"{kind.command} {group}={choice}") for kind in KINDS
           for group in kind.groups for choice in (kind.presets if group == "experiment" else FOLDERS[group])]
COMPANIONS = {
    # Eight ranks of one GPU each need DeepSpeed and a batch that can be split.
    **{f"launch={name}": ["engine=zero1"] for name in ("torchrun", "deepspeed", "hostfile", "slurm")},
    # Triplets and clips are refused in each other's place.
    "task=animeinterp": ["data=triplets_tiny"], "data=triplets_380": ["task=animeinterp"]}
PACKAGE_HEADER = "# @package _global_"


def message(*overrides):
    with pytest.raises(UserError) as caught:
        load(list(overrides))
    text = str(caught.value)
    assert "\n" not in text
    return text


def numbers(schema):
    """Every number of a job with the name of its option, without its parents."""
    for spec in fields(schema):
        value = getattr(schema, spec.name)
        if is_dataclass(value):
            yield from numbers(value)
        elif isinstance(value, int | float) and not isinstance(value, bool):
            yield spec.name, value


def test_default_job_is_complete():
    job = load([])
    assert (job.archive, job.out, job.store, job.experiment) == (None, "out/sample", None, None)
    assert "???" not in yaml.safe_dump(to_plain(job))
    assert (job.profile, job.curation.executor, job.tracker.mode) == (
        ProfileName.EMBEDDED, ExecutorName.RAY, TrackerMode.OFFLINE)


@pytest.mark.parametrize(("kind", "choice"), CHOICES)
def test_every_choice_composes_and_survives_freezing(tmp_path, kind, choice):
    job = load([choice, *COMPANIONS.get(choice, [])], kind)
    freeze(job, tmp_path / "config.yaml")
    assert thaw(tmp_path / "config.yaml", kind) == job


@pytest.mark.parametrize("pair", list(itertools.product(GROUPS["gates"], GROUPS["experiment"])), ids=str)
def test_gates_given_beside_a_preset_win(pair):
    gates, experiment = pair
    assert load([f"gates={gates}", f"experiment={experiment}"]).gates.motion == load([f"gates={gates}"]).gates.motion


@pytest.mark.parametrize(("kind", "preset"), [(kind, preset) for kind in KINDS for preset in kind.presets])
def test_preset_has_its_header_on_line_1_its_aim_on_line_2_and_its_name(kind, preset):
    lines = (CONF / "experiment" / f"{preset}.yaml").read_text().splitlines()
    assert lines[0] == PACKAGE_HEADER  # one line lower, Hydra ignores it without a word
    assert lines[1].startswith("# ")
    assert load([f"experiment={preset}"], kind).experiment == preset


def test_every_preset_belongs_to_exactly_one_command():
    assert sorted(CURATE.presets + TRAIN.presets) == FOLDERS["experiment"]
    assert not set(CURATE.presets) & set(TRAIN.presets)
    assert message("experiment=paper_rectify").startswith("experiment=paper_rectify is no choice of experiment.")


def test_batch_that_cannot_be_split_over_the_ranks_is_refused():
    with pytest.raises(UserError, match=r"global_batch=32 cannot be split over 3 ranks with engine\.micro_batch=2 \(6 clips"):
        load(["experiment=paper_rectify", "launch.ranks_per_node=3"], TRAIN)
    assert load(["experiment=paper_rectify", "launch.ranks_per_node=8"], TRAIN).accumulate == 2  # 32 = 8 ranks x 2 clips x 2


@pytest.mark.parametrize(("overrides", "part"), [
    (["task=animeinterp"], "data.num_frames=8 must be 3"),
    (["task=animeinterp", "data=triplets_tiny", "data.size=130x64"], "data.size=130x64 must be multiples of 4"),
    (["task=animeinterp", "data=triplets_tiny", "data.size=192x64"], "larger than data.triplets.frame_size=128x96"),
    (["task=animeinterp", "data=triplets_tiny", "data.triplets.crop_shift=3"], "crop_shift=3 must be even"),
    (["task=animeinterp", "data=triplets_tiny", "task.interpolation.num_iterations=0"], "num_iterations=0 must be at least 1"),
    (["data=triplets_380"], "data.size=380x380 must be multiples of 64"),
    (["task.optim.decay_at=[10]"], "must be given together"),
    (["task.optim.decay_at=[20,10]", "task.optim.decay_factor=0.1"], "must be ascending steps"),
])
def test_settings_of_triplets_and_rates_that_cannot_be_meant_are_refused(overrides, part):
    with pytest.raises(UserError, match=part):
        load(overrides, TRAIN)


def test_plain_engine_refuses_several_ranks():
    with pytest.raises(UserError, match="engine=plain is one process"):
        load(["launch.ranks_per_node=2"], TRAIN)


def test_profile_is_recorded_in_the_job():
    for choice in GROUPS["profile"]:
        assert load([f"profile={choice}"]).profile == choice


def test_strict_gates_are_nowhere_looser_than_the_default_and_permissive_nowhere_stricter():
    def limits(choice):
        return dict(numbers(load([f"gates={choice}"]).gates))

    strict, default, permissive = limits("strict"), limits("default"), limits("permissive")
    for name, value in default.items():
        # max_distance: more distant clips count as duplicates, so a larger one is stricter.
        sign = -1 if name.startswith("max") and name != "max_distance" else 1
        assert sign * strict[name] >= sign * value >= sign * permissive[name], name
    assert strict != default != permissive


def test_defaults_list_ends_with_local_then_experiment():
    # A personal file after the presets would beat them; an optional experiment would hide a misspelt one.
    for file, personal in (("config", "default"), ("train", "train")):
        defaults = yaml.safe_load((CONF / f"{file}.yaml").read_text())["defaults"]
        assert defaults[-2:] == [{"optional local": personal}, {"experiment": None}]


def test_schema_is_no_choice_and_personal_settings_are_not_in_git():
    assert set(GROUPS) == {"curation", "gates", "profile", "ray", "tracker", "experiment"}
    assert set(FOLDERS) == {group for kind in KINDS for group in kind.groups}
    assert "conf/local/" in (ROOT / ".gitignore").read_text().splitlines()


@pytest.mark.parametrize(("override", "sentence"), [
    ("gates.text_are.max=1", "gates.text_are.max is no option. Did you mean gates.text_area.max?"),
    ("text_area.max=0.1", "text_area.max is no option. Did you mean gates.text_area.max?"),
    ("gate=strict", "gate is no option. Did you mean gates?"),
    ("gates=strct", "gates=strct is no choice of gates. Did you mean strict?"),
    ("experiment=quik", "experiment=quik is no choice of experiment. Did you mean quick?"),
    ("curation.executor=inlin", "curation.executor=inlin is no choice of curation.executor. Did you mean inline?"),
    ("curation.workers=-1", "curation.workers=-1 must be 0 (one per core) or more."),
    ("curation.encode.cover=5", "curation.encode.cover=5 is no size; write WIDTHxHEIGHT, e.g. 512x320."),
    ("gates.text_area.max=1.5", "gates.text_area.max=1.5 must be a share between 0 and 1."),
    ("out=", "out is empty. Give a path, or leave out out"),
    ("workers", "workers is no option: options are written name=value. Did you mean curation.workers?"),
    ("gates.text_area=5", "gates.text_area=5 cannot be set: gates.text_area is a group of options. "
                          "Set one: gates.text_area.enabled, gates.text_area.max"),
])
def test_mistake_is_named(override, sentence):
    assert message(override) == sentence


@pytest.mark.parametrize("override", ["+gates.typo=1", "++gates.typo=1", "+curation.shots.typo=1", "gates.typo=1"])
def test_unknown_option_is_refused_also_where_hydra_would_add_it(override):
    assert f"{override.lstrip('+').partition('=')[0]} is no option" in message(override)


def test_plus_before_an_option_or_preset_that_exists_is_explained():
    assert message("+experiment=quick").endswith("Write experiment=quick")
    assert message("+curation.workers=2").endswith("Write curation.workers=2")


@pytest.mark.parametrize("override", [
    "curation.workers=abc", "curation.workers=1.5", "gates.motion.enabled=maybe", "out=null",
    "gates.text_area.max=null", "gates.text_area.max=nan",
    "gates.text_area.max=${nope}", "gates={text_area:{max:1}}", "~gates", "gates@x=strict",
])
def test_value_of_a_wrong_type_names_the_option(override):
    assert override.lstrip("~").partition("=")[0] in message(override)


def test_values_with_commas_and_equal_signs_are_told_how_to_quote():
    assert "'curation.split.title_pattern=\"a,b\"'" in message("curation.split.title_pattern=a,b")
    assert "'curation.split.title_pattern=\"(a)=b\"'" in message("curation.split.title_pattern=(a)=b")
    assert load(['curation.split.title_pattern="(a)=b,c"']).curation.split.title_pattern == "(a)=b,c"


@pytest.mark.parametrize("name", ["my films", "a=b", "a, b", "it's (1) [x] {y}", "back\\slash", "end\\", "\u00e9", "3"])
def test_paths_need_no_quotes(name):
    job = load([f"archive={name}", f"out={name}", f"store={name}"])
    assert (job.archive, job.out, job.store) == (name, name, name)


def test_paths_can_be_quoted_or_null():
    assert load(["archive='a b'"]).archive == "a b"
    assert load(["archive=null"]).archive is None


def test_no_preset_can_be_asked_for_by_name():
    assert load(["experiment=null"]) == load([])


def test_mistake_in_a_yaml_file_names_the_file(tmp_path):
    (tmp_path / "experiment").mkdir()
    (tmp_path / "experiment" / "mine.yaml").write_text(f"{PACKAGE_HEADER}\ngates:\n  text_are:\n    max: 1\n")
    text = message(f"hydra.searchpath=[{tmp_path}]", "experiment=mine")
    assert text.startswith("conf/experiment/mine.yaml is wrong: Key 'text_are' not in 'GatesConfig'")
    assert "Could not find 'experiment/yours'" in message(f"hydra.searchpath=[{tmp_path}]", "experiment=yours")


@pytest.mark.parametrize(("text", "part"), [
    (None, "cannot be read"), ("gates: [", "cannot be read"), ("typo: 1", "is no frozen job"),
    ("- 1", "is no frozen job"), ("archive: x", "has no value"), ("", "has no value"),
    ("curation: {workers: x}", "is no frozen job"),
])
def test_damaged_frozen_job_is_a_user_error(tmp_path, text, part):
    if text is not None:
        (tmp_path / "config.yaml").write_text(text)
    with pytest.raises(UserError, match=part):
        thaw(tmp_path / "config.yaml")


def test_frozen_words_are_checked(tmp_path):
    freeze(load([]), tmp_path / "config.yaml")
    text = (tmp_path / "config.yaml").read_text()
    (tmp_path / "config.yaml").write_text(text.replace("executor: ray", "executor: rey"))
    with pytest.raises(UserError, match=r"curation\.executor=rey is none of ray, inline"):
        thaw(tmp_path / "config.yaml")


def test_sweeps_lie_under_out():
    assert sweep_folder([]) == Path("out/sweeps")
    assert sweep_folder(["hydra.sweep.dir=elsewhere", "gates=strict"]) == Path("elsewhere")


def test_every_number_says_where_it_comes_from():
    for path in sorted(path for group in ("gates", "experiment", "task", "model", "data", "engine", "launch", "run")
                       for path in (CONF / group).rglob("*.yaml")):
        for line in path.read_text().splitlines():
            value = line.partition("#")[0].partition(":")[2].strip()
            if value and value[0].isdigit() and float(value.partition("x")[0]) != 0:
                assert "#" in line, f"{path.name}: {line.strip()}"


def test_tree_composes_from_another_folder(tmp_path):
    program = f"import sys; sys.path.insert(0, {str(ROOT)!r}); from pipeline.config import load; print(load([]).out)"
    done = subprocess.run([sys.executable, "-c", program], cwd=tmp_path, capture_output=True, text=True)
    assert done.stdout == "out/sample\n", done.stderr
