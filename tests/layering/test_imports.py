"""Promise: the layers of docs/design.md hold, and light commands stay light."""

import ast
import tomllib
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
TOPS = ("conf", "curation", "pipeline", "training")
LEAF_MODULES = ("errors", "records", "hashing", "store", "shards", "shard_files", "tracking", "weights", "weight_files",
                "weight_kinds", "download")
DRIVERS = ("arguments", "cli", "config", "fetch", "launch", "launch.commands", "launch.evaluate", "launch.export",
           "launch.sample", "launch.slurm", "launch.study", "launch.supervise", "launch.train", "launch.triplets", "sweep")
HEAVY = {"torch", "ray", "deepspeed", "wandb", "transformers", "easyocr", "rapidocr", "open_clip", "lpips"}
# Networks are made of torch; nothing light imports them: the driver reads training.config alone.
ALLOWED_HEAVY = {"pipeline": set(), "curation": set(), "training": {"torch"}}


def modules(top):
    """Every module of a package by its dotted name."""
    for path in sorted((ROOT / top).rglob("*.py")):
        name = ".".join(path.relative_to(ROOT).with_suffix("").parts)
        yield name.removesuffix(".__init__"), ast.parse(path.read_text(), str(path))


def imported(tree, top_level_only=False):
    """Names of the imported modules; "from a import b" gives a and a.b. Imports for type checkers do not count."""
    pending = list(tree.body)
    while pending:
        node = pending.pop()
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"line {node.lineno}: relative import"
            yield node.module
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test) == "TYPE_CHECKING":
            pending += node.orelse
        elif not (top_level_only and isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)):
            pending += ast.iter_child_nodes(node)


def package(name):
    return name.partition(".")[0]


def test_leaf_modules_import_no_other_part_and_no_driver():
    drivers = {f"pipeline.{path.stem}" for path in (ROOT / "pipeline").glob("*.py")}
    drivers -= {f"pipeline.{leaf}" for leaf in LEAF_MODULES} | {"pipeline.__init__"}
    for name, tree in modules("pipeline"):
        if name.removeprefix("pipeline.") in LEAF_MODULES:
            forbidden = {found for found in imported(tree)
                         if package(found) in ("curation", "training", "conf") or found in drivers}
            assert not forbidden, f"{name} imports {forbidden}"


def test_every_module_of_the_pipeline_is_a_leaf_or_a_known_driver():
    found = {name.removeprefix("pipeline.") for name, _ in modules("pipeline")} - {"pipeline", "__main__"}
    assert found == {*LEAF_MODULES, *DRIVERS}


@pytest.mark.parametrize(("part", "other"), [("curation", "training"), ("training", "curation")])
def test_curation_and_training_never_import_each_other(part, other):
    for name, tree in modules(part):
        assert other not in {package(found) for found in imported(tree)}, f"{name} imports {other}"


def test_driver_imports_only_the_schemas_of_curation_and_training():
    for name, tree in modules("pipeline"):
        for found in imported(tree):
            if package(found) in ("curation", "training"):
                assert ".config" in found, f"{name} imports {found}"


def test_the_trainings_import_only_leaf_modules_of_the_pipeline():
    leaves = {f"pipeline.{leaf}" for leaf in LEAF_MODULES}
    for name, tree in modules("training"):
        for found in imported(tree):
            if package(found) == "pipeline" and found != "pipeline" and not name.endswith("__main__"):  # that thaws the job
                assert any(found == leaf or found.startswith(f"{leaf}.") for leaf in leaves), f"{name} imports {found}"


def test_schemas_import_nothing_heavy():
    for top in ("curation", "training"):
        for name, tree in modules(top):
            if name == top or name.endswith(".config"):
                ours = {found for found in imported(tree) if package(found) in TOPS}
                assert all(found.startswith("pipeline.tracking") or ".config" in found for found in ours), f"{name}: {ours}"
                assert {package(found) for found in imported(tree)} <= {
                    "__future__", "re", "collections", "dataclasses", "enum", "omegaconf", "pathlib", "typing", "pipeline", top}


@pytest.mark.parametrize("top", ["pipeline", "curation", "training"])
def test_heavy_packages_are_imported_only_inside_functions(top):
    for name, tree in modules(top):
        allowed = set() if name in ("training", "training.sampling") or name.endswith(".config") else ALLOWED_HEAVY[top]
        heavy = (HEAVY - allowed) & {package(found) for found in imported(tree, top_level_only=True)}
        assert not heavy, f"{name} imports {heavy} when it is imported"


def test_hydra_is_known_to_the_driver_only():
    for top in ("pipeline", "curation", "training"):
        for name, tree in modules(top):
            if "hydra" in {package(found) for found in imported(tree)}:
                assert name in ("pipeline.config", "pipeline.sweep"), f"{name} imports Hydra"


def test_packages_listed_for_installation_are_those_on_disk():
    listed = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]
    on_disk = sorted(".".join(path.parent.relative_to(ROOT).parts)
                     for top in TOPS for path in (ROOT / top).rglob("__init__.py"))
    assert sorted(listed) == on_disk


def test_lock_holds_no_addresses_and_covers_the_dependencies():
    lock = (ROOT / "requirements.lock").read_text()
    assert "://" not in lock and "--" not in lock and "@" not in lock
    locked = {line.partition("==")[0] for line in lock.split()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    for requirement in project["dependencies"] + project["optional-dependencies"]["dev"]:
        name = requirement.partition("=")[0].rstrip("<>").partition("[")[0]
        assert name in locked, f"{name} is not locked"
