"""A whole recipe, its file of hyperparameters, and two ways to run it."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from brain_lightning.entry.run_recipe import run_recipe

RECIPE = """
import sys
import torch
from hyperpyyaml import load_hyperpyyaml
import {library} as sb


class Small(sb.Brain):
    def compute_forward(self, batch, stage):
        return self.modules.model(batch[0])

    def compute_objectives(self, predictions, batch, stage):
        return torch.nn.functional.mse_loss(predictions, batch[1])

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == sb.Stage.VALID:
            self.checkpointer.save_and_keep_only(meta={{"error": stage_loss}}, min_keys=["error"])


class OwnSteps(Small):
    def fit_batch(self, batch):
        loss = self.compute_objectives(self.compute_forward(batch, sb.Stage.TRAIN), batch, None)
        loss.backward()
        self.optimizer.step()
        self.optimizer.zero_grad()
        self.optimizer_step += 1
        return loss.detach()


if __name__ == "__main__":
    hparams_file, run_opts, overrides = sb.parse_arguments(sys.argv[1:])
    with open(hparams_file) as file:
        hparams = load_hyperpyyaml(file, overrides)
    torch.manual_seed(0)
    data = torch.utils.data.TensorDataset(torch.randn(40, 3), torch.randn(40, 2))
    kind = OwnSteps if hparams["own_steps"] else Small
    brain = kind(
        hparams["modules"], hparams["opt_class"], hparams, run_opts, hparams["checkpointer"]
    )
    valid = dict(hparams["valid_loader"])
    brain.fit(
        hparams["counter"], data, data, train_loader_kwargs=hparams["loader"],
        valid_loader_kwargs=valid,
    )
    brain.evaluate(data, min_key="error", test_loader_kwargs=valid)
"""

HPARAMS = """
output_folder: {folder}
own_steps: False
__seed: !apply:torch.manual_seed [0]
modules:
    model: !new:torch.nn.Linear
        in_features: 3
        out_features: 2
opt_class: !name:torch.optim.SGD
    lr: 0.1
loader:
    batch_size: 4
valid_loader:
    batch_size: 4
counter: !new:{epochs}.EpochCounter
    limit: 2
checkpointer: !new:{saving}.Checkpointer
    checkpoints_dir: !ref <output_folder>/save
    recoverables:
        counter: !ref <counter>
        model: !ref <modules[model]>
"""
HOMES = {
    "brain_lightning": {"epochs": "brain_lightning", "saving": "brain_lightning"},
    "speechbrain": {
        "epochs": "speechbrain.utils.epoch_loop",
        "saving": "speechbrain.utils.checkpoints",
    },
}
QUIET = ("--device", "cpu", "--noprogressbar")

WAYS = {
    "python": ("brain_lightning", "python"),
    "run": ("brain_lightning", "run"),
    "run as it stands": ("speechbrain", "run"),
}
"""Name -> the library that the recipe imports, and how it is started."""


def run_yaml(folder: Path, way: str, trainer: str = "", *arguments: str) -> Mapping[str, Any]:
    """Run the recipe with ``trainer``, lines of YAML; return the names that it has at its end."""
    library, how = WAYS[way]
    folder.mkdir(exist_ok=True)
    script, hparams = folder / "train.py", folder / "hparams.yaml"
    script.write_text(RECIPE.format(library=library), encoding="utf-8")
    hparams.write_text(HPARAMS.format(folder=folder, **HOMES[library]) + trainer, encoding="utf-8")
    found: dict[str, Any] = {}
    with pytest.MonkeyPatch.context() as patch:
        if how == "python":
            patch.setattr(sys, "argv", [str(script), str(hparams), *QUIET, *arguments])
            return runpy.run_path(str(script), run_name="__main__")
        text = script.read_text(encoding="utf-8") + "    sys.kept_by_test.update(globals())\n"
        script.write_text(text, encoding="utf-8")
        patch.setattr(sys, "kept_by_test", found, raising=False)
        run_recipe(script, [str(hparams), *QUIET, *arguments])
    return found
