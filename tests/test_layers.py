"""The architecture that the folders promise: imports go down, and each engine has one seam."""

from __future__ import annotations

import ast
import re
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "brain_lightning"
LAYERS = ("ground", "parts", "engine", "facade", "entry")
FILES = sorted(PACKAGE.rglob("*.py"))


def imported_modules(path: Path) -> set[str]:
    """Every absolute module name that a file imports, inside of functions as well."""
    names: set[str] = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path} has a relative import"
            names.add(node.module or "")
    return names


def layer_of(path: Path) -> str | None:
    first = path.relative_to(PACKAGE).parts[0]
    return first if first in LAYERS else None


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_down(path: Path) -> None:
    layer = layer_of(path)
    if layer is None:
        return  # the package's front door and __main__ stand above all layers
    above = LAYERS[LAYERS.index(layer) + 1 :]
    for name in imported_modules(path):
        parts = name.split(".")
        if parts[0] == "brain_lightning" and len(parts) > 1:
            assert parts[1] not in above, f"{path.name} ({layer}) imports {name}"


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_each_library_has_one_seam(path: Path) -> None:
    roots = {name.split(".")[0] for name in imported_modules(path)}
    relative = path.relative_to(PACKAGE)
    if layer_of(path) != "engine":
        assert not roots & {"lightning", "pytorch_lightning", "lightning_fabric"}, relative
    if relative.parts[:2] != ("entry", "interop"):
        assert "speechbrain" not in roots, relative


def module_name(path: Path) -> str:
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(part for part in parts if part != "__init__")


def imported_at_run_time(path: Path) -> set[str]:
    """Every name that a file imports, but for those that only type checkers see."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    unseen = {
        id(node)
        for block in ast.walk(tree)
        if isinstance(block, ast.If) and ast.unparse(block.test) == "TYPE_CHECKING"
        for statement in block.body
        for node in ast.walk(statement)
    }
    return {
        name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and id(node) not in unseen
        for name in (f"{node.module}", *(f"{node.module}.{alias.name}" for alias in node.names))
    }


def test_imports_go_in_no_circle() -> None:
    modules = {module_name(path): path for path in FILES}
    graph = {
        name: imported_at_run_time(path) & modules.keys() - {name} for name, path in modules.items()
    }
    assert sum(map(len, graph.values())) > len(modules)
    TopologicalSorter(graph).prepare()  # a CycleError names the modules of a circle


def test_there_is_something_to_check() -> None:
    assert {layer_of(path) for path in FILES} >= set(LAYERS)
    assert any("lightning" in name for path in FILES for name in imported_modules(path))


def test_checkpoints_import_neither_engine_nor_brain() -> None:
    for path in (PACKAGE / "parts" / "checkpoints").glob("*.py"):
        for name in imported_modules(path):
            if name.startswith("brain_lightning"):
                assert name.startswith(
                    ("brain_lightning.ground", "brain_lightning.parts.checkpoints")
                ), f"{path.name} imports {name}"


def test_the_engine_says_what_is_where() -> None:
    engine = PACKAGE / "engine"
    rows = re.findall(r"^\| `(\w+)` \|", (engine / "README.md").read_text(encoding="utf-8"), re.M)
    assert rows
    assert sorted(rows) == sorted(path.parent.name for path in engine.glob("[a-z]*/__init__.py"))


LIGHTNING_OBJECTS = {"trainer", "fit_loop", "epoch_loop", "pl_module", "strategy", "connector"}


def test_private_names_of_lightning_live_in_one_file() -> None:
    offenders = []
    for path in (PACKAGE / "engine").rglob("*.py"):
        if path.name == "lightning_internals.py":
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Attribute) or not node.attr.startswith("_"):
                continue
            owner = node.value
            owner_name = (
                owner.attr if isinstance(owner, ast.Attribute) else getattr(owner, "id", "")
            )
            if owner_name in LIGHTNING_OBJECTS and not node.attr.startswith("__"):
                offenders.append(f"{path.name}:{node.lineno} {owner_name}.{node.attr}")
    assert not offenders
