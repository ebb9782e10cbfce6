"""What Lightning says about the adapter's decisions stays unsaid, whatever the recipe's filters."""

from __future__ import annotations

import os
import warnings
from pathlib import Path
from typing import Any

import pytest
import speechbrain
import torch
from torch.utils.data import DataLoader

import brain_lightning

LIBRARIES = [speechbrain, brain_lightning]


@pytest.fixture(autouse=True)
def on_a_machine_of_slurm(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Lightning warns there that ``srun`` is not used."""
    program = tmp_path / "srun"
    program.write_text("")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")


def make_brain(library: Any) -> Any:
    class Fitter(library.Brain):  # type: ignore[misc]
        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.model(batch)

        def compute_objectives(
            self, predictions: torch.Tensor, batch: Any, stage: Any
        ) -> torch.Tensor:
            return predictions.square().mean()

    return Fitter(
        {"model": torch.nn.Linear(2, 1)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"device": "cpu", "noprogressbar": True},
    )


@pytest.mark.parametrize("action", ["error", "always"])
@pytest.mark.parametrize("library", LIBRARIES, ids=lambda library: library.__name__)
def test_filters_that_the_recipe_sets_between_two_fits(library: Any, action: Any) -> None:
    brain = make_brain(library)
    data: Any = [torch.ones(1, 2)]
    brain.fit(range(1), data, data)

    with warnings.catch_warnings(record=True) as heard:
        warnings.simplefilter(action)
        brain.fit(range(1), DataLoader(data, batch_size=None), data)
        brain.evaluate(data)
        filters = list(warnings.filters)
        brain.fit(range(1), data, data)
        assert warnings.filters == filters

    assert [str(warning.message) for warning in heard] == []


def test_what_the_recipe_asks_to_hear_is_heard() -> None:
    brain = make_brain(brain_lightning)
    data = [torch.ones(1, 2)]
    brain.fit(range(1), data)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        brain.on_stage_end = lambda *_: warnings.warn("the recipe's own", stacklevel=1)
        with pytest.raises(UserWarning, match="the recipe's own"):
            brain.fit(range(1), data)
