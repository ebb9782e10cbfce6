"""One process in a job of several tasks of SLURM's: a batch script, or the shell of salloc."""

from __future__ import annotations

from pathlib import Path

import pytest
from lightning.pytorch.plugins.environments import SLURMEnvironment

from brain_lightning.ground.launch_detection import read_slurm
from tests.contract.small_brain import SmallBrain, fit, small_brain

TASK = {"SLURM_JOB_ID": "12", "SLURM_PROCID": "0", "SLURM_LOCALID": "0", "SLURM_NTASKS": "4"}


@pytest.fixture(autouse=True)
def job(monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in TASK.items():
        monkeypatch.setenv(name, value)


def environment_of_fit(brain: SmallBrain) -> object:
    fit(brain)
    assert brain.trainer.world_size == 1
    return brain.trainer._accelerator_connector.cluster_environment


def test_it_trains_and_hears_slurm(tmp_path: Path) -> None:
    environment = environment_of_fit(small_brain(tmp_path, epochs=1))
    assert isinstance(environment, SLURMEnvironment)
    assert environment.auto_requeue


def test_without_detection_it_is_none_of_slurms(tmp_path: Path) -> None:
    read_slurm(False)
    try:
        environment = environment_of_fit(small_brain(tmp_path, epochs=1))
    finally:
        read_slurm(True)
    assert not isinstance(environment, SLURMEnvironment)


def test_the_users_own_environment_rules(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SLURM_NTASKS_PER_NODE", "4")
    given = SLURMEnvironment(auto_requeue=False)
    assert environment_of_fit(small_brain(tmp_path, epochs=1, plugins=[given])) is given
