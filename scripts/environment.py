"""Makes, or brings up to date, the virtual environment that the project's scripts run in.

Called by scripts/setup, which says how it is used. Needs only Python's standard library. The path
of the environment's Python is the only thing written to standard output.
"""

from __future__ import annotations

import argparse
import fcntl
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import venv
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
ENVIRONMENTS = ROOT / ".venvs"
ENVIRONMENT = ENVIRONMENTS / "tested"
STAMP = ENVIRONMENT / "installed.json"
CONSTRAINTS = ROOT / "constraints.txt"
PYTHON_VARIABLE = "BRAIN_LIGHTNING_PYTHON"
# What builds the package; installed by hand so that constraints.txt holds for it too.
BUILD_REQUIREMENTS = ["hatchling", "editables"]


class SetupError(Exception):
    """The environment cannot be made or used; the message says why and what to do."""


@dataclass(frozen=True)
class Wanted:
    """What the environment shall hold besides the package itself."""

    extras: frozenset[str]
    requirements: frozenset[str]

    def joined(self, other: Wanted) -> Wanted:
        """What an environment for both holds."""
        return Wanted(self.extras | other.extras, self.requirements | other.requirements)

    def is_within(self, other: Wanted) -> bool:
        """Whether an environment made for `other` serves this too."""
        return self.extras <= other.extras and self.requirements <= other.requirements

    def requirement_files(self) -> list[Path]:
        """The requirements files, in a fixed order."""
        return [ROOT / name for name in sorted(self.requirements)]


def known_extras() -> set[str]:
    """The extras that pyproject.toml has. (Python 3.10 has no reader for the format.)"""
    text = (ROOT / "pyproject.toml").read_text(encoding="utf-8")
    table = re.search(
        r"^\[project\.optional-dependencies\]$(.*?)^\[", text, re.DOTALL | re.MULTILINE
    )
    return set(re.findall(r"^([\w-]+) *=", table[1], re.MULTILINE)) if table else set()


def parse_wanted(names: list[str]) -> Wanted:
    """Tell the names of extras from the paths of requirements files."""
    files = {name for name in names if name.endswith(".txt")}
    for name in names:
        if name not in files | known_extras():  # pip would go on without it
            known = ", ".join(sorted(known_extras()))
            raise SetupError(f"{name} is no extra of the package: there are {known}")
    for name in sorted(files):
        if not Path(name).is_file():
            raise SetupError(f"there is no requirements file {name}")
    relative = {os.path.relpath(Path(name).resolve(), ROOT) for name in files}
    return Wanted(frozenset(names) - files, frozenset(relative))


def environment_python() -> Path:
    """Path of the Python of the environment that this script makes."""
    return ENVIRONMENT / "bin" / "python"


def digest(wanted: Wanted) -> str:
    """A value that changes when the environment has to be installed anew."""
    summed = hashlib.sha256(str(ENVIRONMENT).encode())  # a moved checkout needs a new environment
    for path in [ROOT / "pyproject.toml", CONSTRAINTS, *wanted.requirement_files()]:
        content = path.read_bytes() if path.is_file() else b""
        summed.update(str(len(content)).encode() + b"\n" + content)
    return summed.hexdigest()


def read_stamp() -> tuple[str, Wanted] | None:
    """What the last complete installation wrote down, or None when there was none."""
    try:
        stamp = json.loads(STAMP.read_text(encoding="utf-8"))
        wanted = Wanted(frozenset(stamp["extras"]), frozenset(stamp["requirements"]))
        return stamp["digest"], wanted
    except (FileNotFoundError, json.JSONDecodeError, KeyError):
        return None


def write_stamp(wanted: Wanted) -> None:
    """Write down what is installed, after everything else."""
    stamp = {
        "digest": digest(wanted),
        "extras": sorted(wanted.extras),
        "requirements": sorted(wanted.requirements),
    }
    STAMP.write_text(json.dumps(stamp, indent=1) + "\n", encoding="utf-8")


def run(*command: str) -> None:
    """Run a command, its output on standard error."""
    subprocess.run(
        command,
        check=True,
        cwd=ROOT,
        stdin=subprocess.DEVNULL,
        stdout=sys.stderr,
    )


def works(python: Path) -> bool:
    """Whether this Python starts; that of a deleted or moved installation does not."""
    try:
        command = [str(python), "-c", "import pip"]
        outcome = subprocess.run(command, stdin=subprocess.DEVNULL, capture_output=True)
    except OSError:
        return False
    return outcome.returncode == 0


def install(wanted: Wanted) -> None:
    """Install the package, its extras and the requirements into the environment."""
    python = environment_python()
    pip = [str(python), "-m", "pip", "install", "-qq", "--disable-pip-version-check"]
    pip += ["--constraint", str(CONSTRAINTS)]
    extras = f"[{','.join(sorted(wanted.extras))}]" if wanted.extras else ""
    files = [f"--requirement={path}" for path in wanted.requirement_files()]
    run(*pip, *BUILD_REQUIREMENTS)
    run(*pip, "--no-build-isolation", "--editable", f".{extras}", *files)
    remove_torchaudio_extensions()


def remove_torchaudio_extensions() -> None:
    """Delete torchaudio's compiled extensions from the environment that this script made.

    They are linked against a CUDA build of torch and fail to load beside a CPU build. Without them
    torchaudio runs in pure Python.
    """
    for extension in ENVIRONMENT.glob("lib/python*/site-packages/torchaudio/lib/*.so"):
        extension.unlink()


def bring_up_to_date(wanted: Wanted) -> None:
    """Install what is missing; nothing when the stamp says that nothing is."""
    stamp = read_stamp()
    if stamp is None or not works(environment_python()):
        print(f"Making a virtual environment in {ENVIRONMENT}", file=sys.stderr)
        # Without a stamp an installation was cut off: what it left is not to be trusted.
        shutil.rmtree(ENVIRONMENT, ignore_errors=True)
        venv.create(ENVIRONMENT, with_pip=True, symlinks=True)
    else:
        installed_digest, installed = stamp
        if installed_digest == digest(installed) and wanted.is_within(installed):
            return
        wanted = wanted.joined(installed)
        STAMP.unlink()
    print("Installing the tested versions (the first time takes minutes)", file=sys.stderr)
    install(wanted)
    write_stamp(wanted)


@contextmanager
def only_one_at_a_time() -> Iterator[None]:
    """Let a second call wait until the first is done; the lock ends with its process."""
    ENVIRONMENTS.mkdir(exist_ok=True)
    with (ENVIRONMENTS / "lock").open("w") as lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            print("Waiting for another scripts/setup in this checkout", file=sys.stderr)
            fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def check_own_python(name: str) -> Path:
    """The user's own Python, after a look whether the package is installed there."""
    python = shutil.which(name)
    if python is None:
        raise SetupError(f"{name} is no program that can be started; give the path of a Python")
    outcome = subprocess.run(
        [os.path.abspath(python), "-c", "import brain_lightning, sys; print(sys.executable)"],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        cwd=ROOT / "scripts",  # in the root the package is found without being installed
    )
    if outcome.returncode != 0:
        reason = " ".join(outcome.stderr.strip().splitlines()[-1:])
        raise SetupError(
            f"{name} cannot import brain_lightning ({reason}); install it there first: "
            f"{name} -m pip install -e '{ROOT}[test]'"
        )
    return Path(outcome.stdout.strip())


def prepare(arguments: list[str]) -> Path:
    """Make or check the environment that the arguments ask for; returns its Python."""
    parser = argparse.ArgumentParser(prog="scripts/setup", description=__doc__)
    parser.add_argument("--python", default=os.environ.get(PYTHON_VARIABLE), metavar="PATH")
    parser.add_argument("wanted", nargs="*", metavar="EXTRA|REQUIREMENTS_FILE")
    given = parser.parse_args(arguments)
    if given.python:
        return check_own_python(given.python)
    wanted = parse_wanted(given.wanted)
    with only_one_at_a_time():
        bring_up_to_date(wanted)
    return environment_python()


def main() -> int:
    """Prepare the environment and print the path of its Python."""
    try:
        print(prepare(sys.argv[1:]))
    except SetupError as error:
        print(f"scripts/setup: {error}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        # What failed has already said why.
        print(f"scripts/setup: this failed: {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
