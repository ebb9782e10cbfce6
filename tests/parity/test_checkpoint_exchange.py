"""What SpeechBrain does with a checkpoint of ours, and what we do when it has saved over one."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from speechbrain.dataio.dataloader import SaveableDataLoader as SpeechBrainLoader
from speechbrain.utils.checkpoints import Checkpointer as SpeechBrainCheckpointer
from speechbrain.utils.parameter_transfer import Pretrainer

from brain_lightning import Brain, Checkpointer, SaveableDataLoader
from brain_lightning.engine.connection import connection_of
from brain_lightning.parts.checkpoints.resume_file import read_resume_file, resume_path


def make_modules() -> tuple[torch.nn.Module, torch.nn.Module]:
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4)), torch.nn.Linear(
        4, 2
    )


def test_its_pretrainer_reads_ours(tmp_path: Path) -> None:
    torch.manual_seed(1)
    encoder, decoder = make_modules()
    checkpointer = Checkpointer(tmp_path / "save", {"encoder": encoder, "decoder": decoder})
    folder = checkpointer.save_checkpoint().path

    torch.manual_seed(2)
    loaded = dict(zip(("encoder", "decoder"), make_modules(), strict=True))
    assert not torch.equal(loaded["decoder"].weight, decoder.weight)
    pretrainer = Pretrainer(tmp_path / "collected", loadables=loaded)
    pretrainer.set_collect_in(tmp_path / "collected")
    pretrainer.collect_files(default_source=str(folder))
    pretrainer.load_collected()

    for name, module in (("encoder", encoder), ("decoder", decoder)):
        for key, value in module.state_dict().items():
            assert torch.equal(loaded[name].state_dict()[key], value), key


class Training(Brain):
    def compute_forward(self, batch: Any, stage: Any) -> Any:
        return self.modules.model(batch)

    def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
        return predictions.square().mean()


def make_brain(checkpointer: Any) -> Training:
    brain = Training(
        {"model": torch.nn.Linear(3, 2)},
        lambda parameters: torch.optim.SGD(parameters, 0.1),
        run_opts={"device": "cpu", "noprogressbar": True},
        checkpointer=checkpointer,
    )
    checkpointer.add_recoverable("model", brain.modules.model)
    return brain


def save_by_speechbrain(folder: Path, brain: Training, loader: Any = None) -> None:
    """Save over our checkpoint of the same name, as SpeechBrain writes it into the folder."""
    theirs = SpeechBrainCheckpointer(folder, {"model": brain.modules.model})

    def save(obj: Any, path: Any) -> None:
        Path(path).write_text(
            f"avg_train_loss: {obj.avg_train_loss}\noptimizer_step: {obj.optimizer_step}\n"
            f"step: {obj.step}\n"
        )

    theirs.add_recoverable("brain", brain, custom_save_hook=save)
    if loader is not None:
        theirs.add_recoverable("loader", loader)
    theirs.save_checkpoint(name="latest", end_of_epoch=False)


@pytest.mark.parametrize("is_saved_over", [False, True])
def test_what_is_left_when_it_saves_over_ours_is_ignored(
    is_saved_over: bool, tmp_path: Path
) -> None:
    """Also when the new ``brain.ckpt`` has the very numbers of the old one."""
    brain = make_brain(Checkpointer(tmp_path))
    brain.on_fit_start()
    brain.checkpointer.save_checkpoint(name="latest", end_of_epoch=False)
    if is_saved_over:
        save_by_speechbrain(tmp_path, brain)
    assert resume_path(tmp_path / "CKPT+latest" / "brain.ckpt").exists()

    resumed = make_brain(Checkpointer(tmp_path))
    resumed.on_fit_start()

    assert torch.equal(resumed.modules.model.weight, brain.modules.model.weight)
    assert (connection_of(resumed).resume is None) == is_saved_over


@pytest.mark.parametrize("is_saved_over", [False, True])
def test_a_loaders_file_that_is_left_is_ignored(is_saved_over: bool, tmp_path: Path) -> None:
    """The same position, in an epoch with another order: our file beside is of the old one."""
    loader = SaveableDataLoader(list(range(9)), shuffle=True)
    batches = iter(loader)
    next(batches), next(batches)
    brain = make_brain(Checkpointer(tmp_path))
    brain.checkpointer.add_recoverable("loader", loader)
    brain.on_fit_start()
    brain.checkpointer.save_checkpoint(name="latest", end_of_epoch=False)
    if is_saved_over:
        theirs = SpeechBrainLoader(list(range(9)), shuffle=True)
        batches = iter(theirs)
        next(batches), next(batches)
        save_by_speechbrain(tmp_path, brain, theirs)
    path = tmp_path / "CKPT+latest" / "loader.ckpt"
    assert path.read_text() == "2"
    assert resume_path(path).exists()

    assert (read_resume_file(path) is None) == is_saved_over
    resumed = SaveableDataLoader(list(range(9)), shuffle=True)
    Checkpointer(tmp_path, {"loader": resumed}).recover_if_possible()
    assert len(list(resumed)) == 7
