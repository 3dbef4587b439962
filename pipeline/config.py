"""Composes the configuration with Hydra, checks it and freezes it; the only place that touches Hydra's objects.

Hydra reports a misspelt option with a page of its own vocabulary, runs no __post_init__ and accepts "+group.typo=1",
so every override is checked here before it is composed, and every message is one sentence with the full option name.
"""

from __future__ import annotations

import math
import re
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, is_dataclass, make_dataclass
from enum import Enum
from functools import cached_property
from importlib.resources import files
from pathlib import Path
from typing import Any, Generic, TypeAlias, TypeVar, get_type_hints

import hydra
import yaml
from hydra import compose, initialize_config_module
from hydra.core.config_store import ConfigStore
from hydra.core.global_hydra import GlobalHydra
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import Override
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from curation.config import CurateJob
from curation.triplets.config import TripletsJob
from pipeline.errors import UserError, nearest
from pipeline.records import to_plain, write_text
from training.config import TrainJob
from training.evaluation.config import EvaluateJob
from training.sampling.config import SampleJob

# Their values may hold any character, so no quotes are asked for.
PATH_OPTIONS = ("archive", "out", "store", "shards", "init", "first", "last", "keys", "jobs", "data.cache.folder",
                "launch.hostfile", "model.weights", "model.first_stage", "model.sketch", "model.lpips", "sketch.folder",
                "sketch.sheet", "networks.weights", "networks.denoiser", "networks.first_stage", "networks.sketch",
                "triplets", "animeinterp.weights", "animeinterp.vgg19", "votes.file", "data.triplets.vgg19")
TEXT_OPTIONS = ("prompt", "names.japan")  # the same, and they may be empty
OUT_BY_NAME = "auto"
NO_EXPERIMENT = ("experiment", None)
CONFIG_MODULE = "conf"
HYDRA_VERSION_BASE = "1.3"

AnyJob: TypeAlias = CurateJob | TrainJob | SampleJob | EvaluateJob | TripletsJob
Job = TypeVar("Job", CurateJob, TrainJob, SampleJob, EvaluateJob, TripletsJob)


@dataclass(frozen=True)
class Kind(Generic[Job]):
    """A sort of job: the command that takes it, its schema, and the file of conf/ that lists its groups."""

    command: str
    schema: type[Job]
    file: str

    @cached_property
    def groups(self) -> list[str]:
        """Names of the groups that the job is composed of, in the order of its defaults list."""
        named = [name for item in _conf(self.file)["defaults"] if isinstance(item, dict) for name in item]
        return [name for name in named if not name.startswith("optional ")]

    @cached_property
    def presets(self) -> list[str]:
        """Names of the experiments that are of this kind: those that set nothing else than what it has."""
        if "experiment" not in self.groups:
            return []
        known = {*self.groups, *(spec.name for spec in fields(self.schema)), "defaults"}
        folder = files(CONFIG_MODULE) / "experiment"
        names = sorted(item.name.removesuffix(".yaml") for item in folder.iterdir() if item.name.endswith(".yaml"))
        return [name for name in names if known >= _named(_conf(f"experiment/{name}"))]


CURATE = Kind("curate", CurateJob, "config")
TRAIN = Kind("train", TrainJob, "train")
SAMPLE = Kind("sample", SampleJob, "sample")
EVALUATE = Kind("evaluate", EvaluateJob, "evaluate")
TRIPLETS = Kind("triplets", TripletsJob, "triplets")
KINDS: tuple[Kind[Any], ...] = (CURATE, TRAIN, SAMPLE, EVALUATE, TRIPLETS)


def load(overrides: list[str], kind: Kind[Job] = CURATE) -> Job:  # type: ignore[assignment]  # mypy: defaults of generics
    """Returns the complete, checked job; UserError names the option that is wrong and the nearest right one."""
    register_schemas()
    parsed = parse_overrides([_quote_path(text) for text in overrides], kind)
    with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION_BASE, job_name=kind.command):
        # Folders of the user's own hold choices that are unknown before Hydra composes.
        has_own_folders = any(override.key_or_group == "hydra.searchpath" for override in parsed)
        for override in parsed:
            _check(override, has_own_folders, kind)
        try:
            # Hydra cannot choose nothing; nothing is the default.
            texts = [item.input_line or "" for item in parsed if (item.key_or_group, item.value()) != NO_EXPERIMENT]
            config = compose(kind.file, overrides=texts)
        except (HydraException, OmegaConfBaseException) as error:
            raise _explain(error) from error
    return _build(config, kind)


def sweep_folder(overrides: list[str]) -> Path:
    """Returns the folder under which the jobs of a sweep have theirs: hydra.sweep.dir."""
    register_schemas()
    ours = [text for text in overrides if text.startswith("hydra.")]
    with initialize_config_module(CONFIG_MODULE, version_base=HYDRA_VERSION_BASE):
        return Path(compose("config", overrides=ours, return_hydra_config=True).hydra.sweep.dir)


def show(flags: list[str], overrides: list[str], kind: Kind[Any] = CURATE) -> None:
    """Prints what Hydra itself has to say, e.g. for ["--info", "defaults-tree"]."""
    register_schemas()
    sys.argv = [f"toonforge {kind.command}", *flags, *[_quote_path(text) for text in overrides]]
    hydra.main(f"pkg://{CONFIG_MODULE}", kind.file, HYDRA_VERSION_BASE)(lambda config: None)()


def freeze(job: AnyJob, path: Path) -> None:
    """Writes the job as YAML with everything spelt out; `thaw` returns an equal job."""
    write_text(path, to_yaml(job))


def to_yaml(job: AnyJob) -> str:
    return yaml.safe_dump(to_plain(job), sort_keys=False, allow_unicode=True)


def thaw(path: Path, kind: Kind[Job] = CURATE) -> Job:  # type: ignore[assignment]
    """Reads a frozen job; UserError if absent, damaged or of another version."""
    try:
        config = OmegaConf.merge(OmegaConf.structured(_twin(kind.schema)), OmegaConf.load(path))
    except (OSError, yaml.YAMLError) as error:
        raise UserError(f"{path} cannot be read", _first_line(error), "Give the config.yaml of a run") from error
    except (OmegaConfBaseException, ValueError) as error:
        raise UserError(f"{path} is no frozen job", _first_line(error), "Start the run anew") from error
    return _build(config, kind)


def register_schemas() -> None:
    """Makes the schemas known to Hydra as schema/<command>; may be called again."""
    for kind in KINDS:
        ConfigStore.instance().store(group="schema", name=kind.command, node=_twin(kind.schema))


def parse_overrides(overrides: list[str], kind: Kind[Any] = CURATE) -> list[Override]:
    """Parses Hydra's grammar; UserError where a text is none of it."""
    parser, known = OverridesParser.create(), [name for name, _ in _options(kind.schema)]
    parsed = []
    for text in overrides:
        if not re.match(r"[^=]+=", text) and not text.startswith("~"):
            raise UserError(f"{text} is no option", "options are written name=value", _did_you_mean(text, known))
        try:
            parsed.append(parser.parse_override(text))
        except HydraException as error:
            why = "values with = , ( ) { } [ ] or quotes need quotes, for the shell and for Hydra"
            raise UserError(f"{text} cannot be read", why, f"Write {_quoted(text)}") from error
    return parsed


def _check(override: Override, has_own_folders: bool, kind: Kind[Any]) -> None:
    """Raises UserError unless the override names an existing option, or a group and one of its choices."""
    name = override.key_or_group
    shown = override.input_line or name
    if name.startswith(("hydra.", "hydra/")):
        return
    loader = GlobalHydra.instance().config_loader()
    groups = kind.groups
    options: dict[str, Any] = dict(_options(kind.schema))
    if override.is_delete():
        raise UserError(f"{shown} cannot be done", "options cannot be removed", "Set another value")
    if name not in groups and name not in options:
        raise UserError(f"{name} is no option", fix=_did_you_mean(name, [*groups, *options]))
    if override.is_add():
        raise UserError(f"{shown} cannot be added", f"{name} is there already", f"Write {shown.lstrip('+')}")
    if override.is_sweep_override():
        fix = f"Sweep with -m, or quote a value that holds a comma: {_quoted(shown)}"
        raise UserError(f"{shown} names several values", "one run takes one", fix)
    value = override.value()
    expected: Any = options.get(name)
    if name == "experiment":
        choices = kind.presets
    elif name in groups:
        choices = loader.get_group_options(name)
    elif _is_enum(expected):
        choices = [member.value for member in expected]
    elif is_dataclass(expected):
        members = [option for option in options if option.rpartition(".")[0] == name]
        raise UserError(f"{shown} cannot be set", f"{name} is a group of options", f"Set one: {', '.join(members)}")
    else:
        return
    is_unknown = name in groups and has_own_folders
    if value not in choices and (name, value) != NO_EXPERIMENT and not is_unknown:
        raise UserError(f"{name}={value} is no choice of {name}", fix=_did_you_mean(str(value), choices))


def _build(config: Any, kind: Kind[Job]) -> Job:
    try:
        missing = sorted(OmegaConf.missing_keys(config))
        if missing:
            raise UserError(f"{missing[0]} has no value", fix=f"Give one: {missing[0]}=...")
        job = _instance(kind.schema, OmegaConf.to_container(config, resolve=True))
    except (OmegaConfBaseException, ValueError) as error:  # ValueError: __post_init__ says what is wrong
        raise _explain(error) from error
    assert isinstance(job, kind.schema)
    for name in PATH_OPTIONS:
        if getattr(job, name, None) == "":
            raise UserError(f"{name} is empty", fix=f"Give a path, or leave {name} out")
    if job.out == OUT_BY_NAME:
        job.out = _default_out(job)
    return job


def _default_out(job: AnyJob) -> str:
    if isinstance(job, TrainJob):
        return f"runs/{job.experiment or job.task.name.value}"
    if isinstance(job, CurateJob) and job.archive:
        return f"out/{_folder_name(job.archive)}"
    return "out/sample"


def _folder_name(archive: str) -> str:
    """A folder's name for the results of an archive: the last part of its path or address without an archive's suffix."""
    last = re.sub(r"[?#].*", "", archive).rstrip("/").rsplit("/", 1)[-1]
    name = re.sub(r"[^A-Za-z0-9_-]+", "_", re.sub(r"(\.tar)?\.[A-Za-z0-9]{1,4}$", "", last)).strip("_")
    return name or "archive"


def _twin(schema: type) -> type:
    """Returns the schema as OmegaConf takes it: enums as text and nothing checked while values are missing.

    OmegaConf would find enum members by name ("RAY") where users write the value ("ray"), and would run the
    __post_init__ of nested schemas before they have values.
    """
    hints: dict[str, Any] = get_type_hints(schema)
    specs: list[tuple[str, Any, Any]] = []
    for spec in fields(schema):
        kind, default = hints[spec.name], spec.default
        if is_dataclass(kind):
            kind = _twin(hints[spec.name])
            default = field(default_factory=kind)
        elif _is_enum(kind):
            kind, default = str, default.value if isinstance(default, Enum) else default
        specs.append((spec.name, kind, default))
    return make_dataclass(schema.__name__, specs)


def _instance(schema: type, values: Any, prefix: str = "") -> Any:
    """Returns the schema filled with plain values; ValueError where one is wrong."""
    hints: dict[str, Any] = get_type_hints(schema)
    found = {}
    for name, value in values.items():
        if is_dataclass(hints[name]):
            value = _instance(hints[name], value, f"{prefix}{name}.")
        elif _is_enum(hints[name]):
            words = [member.value for member in hints[name]]
            if value not in words:
                raise ValueError(f"{prefix}{name}={value} is none of {', '.join(words)}")
            value = hints[name](value)
        elif isinstance(value, float) and not math.isfinite(value):
            raise ValueError(f"{prefix}{name}={value} must be a finite number")
        found[name] = value
    return schema(**found)


def _is_enum(kind: Any) -> bool:
    return isinstance(kind, type) and issubclass(kind, Enum)


def _options(schema: type, prefix: str = "") -> Iterator[tuple[str, object]]:
    """Yields full name and type of every option, and of the groups of options before their members."""
    hints = get_type_hints(schema)
    for spec in fields(schema):
        yield prefix + spec.name, hints[spec.name]
        if isinstance(hints[spec.name], type) and is_dataclass(hints[spec.name]):
            yield from _options(hints[spec.name], f"{prefix}{spec.name}.")


def _did_you_mean(name: str, known: Sequence[str]) -> str:
    """Names the known name that is nearest, also if only its last word was given, or what there is in the group."""
    parent, _, last = name.rpartition(".")
    members = {candidate.rpartition(".")[2]: candidate for candidate in known if candidate.rpartition(".")[0] == parent}
    near = members.get(nearest(last, members) or "")
    near = near or next((candidate for candidate in known if candidate.endswith(f".{name}")), None)
    near = near or (None if parent and members else nearest(name, known))
    if near:
        return f"Did you mean {near}?"
    listed = list(members.values()) if parent and members else known
    return f"There are: {', '.join(listed)}" if len(listed) < 12 else "See all options: --cfg job"


def _named(preset: dict[str, Any]) -> set[str]:
    """The options and groups that a preset sets."""
    overridden = [key for item in preset.get("defaults", []) if isinstance(item, dict) for key in item]
    return {*preset, *(key.removeprefix("override ").strip("/").partition("/")[0] for key in overridden)}


def _conf(name: str) -> dict[str, Any]:
    """Returns a file of conf/ as it is written."""
    found = yaml.safe_load((files(CONFIG_MODULE) / f"{name}.yaml").read_text(encoding="utf-8"))
    assert isinstance(found, dict), name
    return found


def _quote_path(text: str) -> str:
    """Puts the value of a path option in Hydra's quotes, so that it may hold spaces, commas and brackets."""
    name, equals, value = text.partition("=")
    if name not in (*PATH_OPTIONS, *TEXT_OPTIONS) or value in ("", "null") or value[0] in "'\"":
        return text
    escaped = re.sub(r"(\\*)('|$)", lambda match: match[1] * 2 + ("\\'" if match[2] else ""), value)
    return f"{name}{equals}'{escaped}'"


def _quoted(text: str) -> str:
    """Returns the override as one types it in a shell if its value has characters of Hydra's grammar."""
    name, _, value = text.partition("=")
    return f"""'{name}="{value}"'"""


def _explain(error: Exception) -> UserError:
    """Turns what Hydra or a check says about a configuration into one sentence."""
    if not isinstance(error, HydraException | OmegaConfBaseException):
        return UserError(_first_line(error))  # a check of ours
    if match := re.match(r"In '(\S+)': (.*)\n(.*)(?:\n\s*full_key: (\S+))?", str(error)):
        fix = f"See {match[4]} there" if match[4] else ""
        return UserError(f"conf/{match[1]}.yaml is wrong", match[3] or match[2], fix)
    cause = error.__cause__ if isinstance(error.__cause__, OmegaConfBaseException) else error
    match = re.search(r"(?:override|merging) ([\w./]+=\S+)", str(error))
    name = match[1] if match else getattr(cause, "full_key", None)
    return UserError(f"{name} does not fit" if name else "the configuration is wrong", _first_line(cause))


def _first_line(error: BaseException) -> str:
    return str(error).strip().partition("\n")[0].rstrip(".")
