"""What scripts/setup decides: when to install, whose Python to use, and what it says."""

import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

REPOSITORY = Path(__file__).resolve().parents[2]
SETUP = REPOSITORY / "scripts" / "setup"


@pytest.fixture
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """scripts/environment.py, for a checkout in tmp_path."""
    (tmp_path / "scripts").mkdir()
    (tmp_path / "pyproject.toml").write_bytes((REPOSITORY / "pyproject.toml").read_bytes())
    (tmp_path / "constraints.txt").write_text("first")
    copy = tmp_path / "scripts" / "environment.py"
    copy.write_bytes((REPOSITORY / "scripts" / "environment.py").read_bytes())
    spec = importlib.util.spec_from_file_location("environment_under_test", copy)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, spec.name, module)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def installed(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> list[set[str]]:
    """The extras of each installation; nothing is really installed."""
    installations: list[set[str]] = []

    def make(folder: Path, **_: bool) -> None:
        folder.mkdir(parents=True)

    monkeypatch.setattr(environment.venv, "create", make)
    monkeypatch.setattr(environment, "works", lambda python: True)
    monkeypatch.setattr(
        environment, "install", lambda wanted: installations.append(set(wanted.extras))
    )
    return installations


@pytest.fixture
def prepare(environment: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Path]:
    monkeypatch.delenv("BRAIN_LIGHTNING_PYTHON", raising=False)

    def call(*arguments: str) -> Path:
        python = environment.prepare(list(arguments))
        assert isinstance(python, Path)
        return python

    return call


def test_second_call_installs_nothing(
    tmp_path: Path, prepare: Callable[..., Path], installed: list[set[str]]
) -> None:
    first = prepare("test")
    assert prepare("test") == first == tmp_path / ".venvs" / "tested" / "bin" / "python"
    assert prepare() == first
    assert installed == [{"test"}]


def test_another_extra_is_added_to_those_there(
    prepare: Callable[..., Path], installed: list[set[str]]
) -> None:
    prepare("test")
    prepare("rich")
    prepare("test")
    assert installed == [{"test"}, {"rich", "test"}]


@pytest.mark.parametrize("name", ["pyproject.toml", "constraints.txt", "more.txt"])
def test_a_changed_file_installs_anew(
    tmp_path: Path, prepare: Callable[..., Path], installed: list[set[str]], name: str
) -> None:
    (tmp_path / "more.txt").write_text("first")
    prepare("test", str(tmp_path / "more.txt"))
    with (tmp_path / name).open("a") as file:
        file.write("\n# changed\n")
    prepare("test")
    assert installed == [{"test"}, {"test"}]


def test_after_a_failed_installation_the_environment_is_made_anew(
    environment: ModuleType,
    prepare: Callable[..., Path],
    installed: list[set[str]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(wanted: object) -> None:
        (environment.ENVIRONMENT / "half").touch()
        raise subprocess.CalledProcessError(1, ["pip"])

    with monkeypatch.context() as failing:
        failing.setattr(environment, "install", fail)
        with pytest.raises(subprocess.CalledProcessError):
            prepare("test")
    assert not environment.STAMP.exists()

    prepare("test")
    assert installed == [{"test"}]
    assert not (environment.ENVIRONMENT / "half").exists()


def test_torchaudio_extensions_go_and_nothing_else(environment: ModuleType) -> None:
    packages = environment.ENVIRONMENT / "lib" / "python3.11" / "site-packages"
    kept = [packages / "torchaudio" / "lib" / "__init__.py", packages / "torch" / "lib" / "a.so"]
    extension = packages / "torchaudio" / "lib" / "_torchaudio.so"
    for path in [*kept, extension]:
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    environment.remove_torchaudio_extensions()
    assert all(path.exists() for path in kept)
    assert not extension.exists()


def test_stamp_of_a_moved_checkout_is_not_valid(
    environment: ModuleType, prepare: Callable[..., Path], installed: list[set[str]]
) -> None:
    prepare("test")
    stamp = json.loads(environment.STAMP.read_text())
    stamp["digest"] = "of another folder"
    environment.STAMP.write_text(json.dumps(stamp))
    prepare("test")
    assert installed == [{"test"}, {"test"}]


def run_setup(*arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [SETUP, *arguments],
        cwd=cwd,
        env={name: value for name, value in os.environ.items() if not name.startswith("BRAIN_")},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )


def test_own_python_is_used_as_it_is(tmp_path: Path) -> None:
    process = run_setup("--python", sys.executable, "test", cwd=tmp_path)
    assert process.returncode == 0, process.stderr
    assert process.stdout.splitlines() == [sys.executable]


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["--python", "./absent"], "./absent is no program that can be started"),
        (["--python", "false"], "false cannot import brain_lightning"),
        (
            ["tests"],
            "tests is no extra of the package: there are comet, mlflow, rich, speechbrain, ",
        ),
        (["absent.txt"], "there is no requirements file absent.txt"),
    ],
)
def test_refuses_in_one_sentence(tmp_path: Path, arguments: list[str], sentence: str) -> None:
    process = run_setup(*arguments, cwd=tmp_path)
    assert process.returncode == 1
    assert process.stdout == ""
    assert process.stderr.startswith(f"scripts/setup: {sentence}")
    assert process.stderr.count("\n") == 1


def pinned_names() -> set[str]:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    return {
        canonicalize_name(Requirement(line).name)
        for line in lines
        if line and not line.startswith("#")
    }


def needed_names(name: str, extras: frozenset[str], seen: set[tuple[str, frozenset[str]]]) -> None:
    """Collect, with their extras, the installed packages that a package needs, itself included."""
    if (name, extras) in seen:
        return
    try:
        requirements = [Requirement(line) for line in requires(name) or []]
    except PackageNotFoundError:
        return  # of an extra that this environment was made without
    seen.add((name, extras))
    for requirement in requirements:
        markers = [{"extra": extra} for extra in (extras or {""})]
        if requirement.marker is None or any(map(requirement.marker.evaluate, markers)):
            needed_names(canonicalize_name(requirement.name), frozenset(requirement.extras), seen)


def test_everything_the_package_needs_has_a_tested_version() -> None:
    seen: set[tuple[str, frozenset[str]]] = set()
    extras = frozenset({"test", "speechbrain", "rich", "tensorboard"})
    needed_names("brain-lightning", extras, seen)
    needed = {name for name, _ in seen} - {"brain-lightning", "setuptools"}
    cuda = {name for name in needed if name.startswith(("nvidia-", "cuda-"))} | {"triton"}
    assert {"torch", "lightning", "pytest", "speechbrain", "numpy"} <= needed
    assert needed - cuda <= pinned_names()


def test_constraints_hold_for_cpu_and_cuda_builds() -> None:
    lines = (REPOSITORY / "constraints.txt").read_text(encoding="utf-8").splitlines()
    assert "torch==2.13.0" in lines
    assert not any("+" in line for line in lines if not line.startswith("#"))
