import importlib.metadata
import subprocess
import sys

import pytest
from speechbrain.utils.logger import get_environment_description as theirs

from brain_lightning.ground import environment
from brain_lightning.ground.environment import get_environment_description


def test_says_what_speechbrain_says():
    lines = theirs().splitlines()
    assert get_environment_description().splitlines()[1:] == lines[1:]
    assert get_environment_description().splitlines()[0] == "brain_lightning system description"


@pytest.fixture
def no_programs(monkeypatch):
    def not_there(command, **_):
        raise FileNotFoundError(command[0])

    monkeypatch.setattr(subprocess, "run", not_there)


def test_without_pip_and_git(no_programs):
    text = get_environment_description()
    assert f"torch=={importlib.metadata.version('torch')}\n" in text
    assert "\nCould not get git revision\n====" in text
    assert sys.version in text


@pytest.mark.parametrize(
    ("cuda", "hip", "expected"),
    [("12.6", None, "CUDA version:\n12.6"), (None, "6.1", "ROCm version:\n6.1")],
)
def test_with_a_gpu(no_programs, monkeypatch, cuda, hip, expected):
    monkeypatch.setattr(environment.torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(environment.torch.version, "cuda", cuda)
    monkeypatch.setattr(environment.torch.version, "hip", hip)
    assert get_environment_description().endswith(expected)
