"""What an experiment ran on, in words, so that it can be run again."""

from __future__ import annotations

import importlib.metadata
import subprocess
import sys

import torch

TITLE = "brain_lightning system description"
RULE = "=============================="


def get_environment_description() -> str:
    """Return the versions of Python, the installed packages, the code and CUDA, as text."""
    parts = [
        TITLE,
        f"Python version:\n{sys.version}",
        f"Installed Python packages:\n{_installed_packages()}",
        f"Git revision:\n{revision}" if (revision := _git_revision())
        else "Could not get git revision",
        _cuda_version(),
    ]  # fmt: skip
    return f"\n{RULE}\n".join(parts)


def _installed_packages() -> str:
    # This interpreter's pip: the one that is first in PATH may belong to another environment.
    frozen = _output_of([sys.executable, "-m", "pip", "freeze"])
    return frozen or _packages_with_metadata()


def _packages_with_metadata() -> str:
    """Return the packages of an environment that has no pip."""
    found = {f"{one.metadata['Name']}=={one.version}" for one in importlib.metadata.distributions()}
    return "\n".join(sorted(found, key=str.lower))


def _git_revision() -> str | None:
    return _output_of(["git", "rev-parse", "--short", "HEAD"])


def _output_of(command: list[str]) -> str | None:
    """Return what a command prints, or None when it is not there or fails."""
    try:
        finished = subprocess.run(command, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return finished.stdout.decode(errors="replace").rstrip("\n")


def _cuda_version() -> str:
    if not torch.cuda.is_available():
        return "CUDA not available"
    if torch.version.cuda is None:
        return f"ROCm version:\n{torch.version.hip}"
    return f"CUDA version:\n{torch.version.cuda}"
