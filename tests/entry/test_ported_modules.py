"""`import brain_lightning as sb`, and our Brain beside `import speechbrain as sb`."""

import subprocess
import sys

import pytest
import speechbrain
import torch

import brain_lightning as sb
from brain_lightning.entry.interop import ported_modules
from brain_lightning.entry.interop.ours import object_at
from brain_lightning.entry.interop.replacements import OURS_WHEN_PORTED, REPLACED
from brain_lightning.ground.errors import MissingExtraError


def test_what_is_not_ours_is_speechbrains():
    assert sb.nnet.CNN.Conv1d is speechbrain.nnet.CNN.Conv1d
    assert sb.dataio.dataset.DynamicItemDataset is speechbrain.dataio.dataset.DynamicItemDataset
    assert sb.utils.data_utils.undo_padding is speechbrain.utils.data_utils.undo_padding
    assert sb.lobes.features.Fbank is speechbrain.lobes.features.Fbank
    assert sb.utils.metric_stats.ErrorRateStats is speechbrain.utils.metric_stats.ErrorRateStats


def test_our_names_win_inside():
    assert sb.core.Brain is sb.Brain
    assert sb.utils.checkpoints.Checkpointer is sb.Checkpointer
    assert sb.dataio.dataloader.make_dataloader is sb.make_dataloader
    assert sb.utils.distributed.run_on_main is sb.run_on_main
    assert sb.utils.train_logger.FileTrainLogger is sb.FileTrainLogger
    # imported there from another module
    assert sb.utils.epoch_loop.register_checkpoint_hooks is sb.register_checkpoint_hooks
    assert speechbrain.utils.checkpoints.Checkpointer is not sb.Checkpointer


@pytest.mark.parametrize("table", [REPLACED, OURS_WHEN_PORTED])
def test_every_name_of_the_table_is_ours(table):
    for module_name, names in table.items():
        module = sb
        for part in module_name.split(".")[1:]:
            module = getattr(module, part)
        for name in names:
            if module_name == "speechbrain.core" and name == "parse_arguments":
                continue  # SpeechBrain 1.0
            assert getattr(module, name) is object_at(names[name])


def test_unknown_names_are_attribute_errors():
    assert not hasattr(sb, "no_such_thing")
    assert not hasattr(sb, "__wrapped__")
    with pytest.raises(AttributeError, match=r"'brain_lightning' has no attribute 'nets'"):
        _ = sb.nets
    with pytest.raises(ImportError, match="no_such_thing"):
        exec("from brain_lightning import no_such_thing")


def test_the_extra_is_named_when_speechbrain_is_not_installed(monkeypatch):
    monkeypatch.setattr(ported_modules, "is_speechbrain_installed", lambda: False)

    with pytest.raises(MissingExtraError, match=r"brain_lightning\.nnet .*brain-lightning\[spe"):
        _ = sb.nnet
    assert not hasattr(sb, "no_such_thing")


def test_all_of_speechbrains_packages_are_known(monkeypatch):
    from pathlib import Path

    folder = Path(speechbrain.__file__).parent
    packages = {path.parent.name for path in folder.glob("*/__init__.py")} | {"core"}
    assert packages <= ported_modules.SPEECHBRAIN_ATTRIBUTES


def test_public_names_work_without_speechbrain():
    program = (
        "import sys; sys.modules['speechbrain'] = None\n"
        "import brain_lightning as sb\n"
        "print([getattr(sb, name) is not None for name in sb.__all__].count(True) == "
        "len(sb.__all__))\n"
    )
    process = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert process.stdout == "True\n", process.stderr


class MixedBrain(sb.Brain):
    """A recipe that changed nothing but where its Brain comes from."""

    stages = ()

    def compute_forward(self, batch, stage):
        return self.modules.model(batch)

    def compute_objectives(self, predictions, batch, stage):
        self.stages += (
            stage == speechbrain.Stage.TRAIN,
            speechbrain.Stage.VALID == stage,  # noqa: SIM300 -- either way round
            stage != speechbrain.Stage.TEST,
            {speechbrain.Stage.TRAIN: "train"}.get(stage),
        )
        return predictions.square().mean()

    def on_stage_end(self, stage, stage_loss, epoch=None):
        if stage == speechbrain.Stage.VALID:
            self.checkpointer.save_and_keep_only(meta={"loss": stage_loss}, min_keys=["loss"])


def test_our_brain_beside_speechbrains_parts(tmp_path):
    torch.manual_seed(0)
    model = torch.nn.Linear(4, 1)
    counter = speechbrain.utils.epoch_loop.EpochCounter(2)
    checkpointer = speechbrain.utils.checkpoints.Checkpointer(
        tmp_path, {"model": model, "counter": counter}
    )
    brain = MixedBrain(
        {"model": model},
        lambda parameters: torch.optim.SGD(parameters, lr=0.1),
        run_opts={"device": "cpu", "noprogressbar": True},
        checkpointer=checkpointer,
    )

    brain.fit(counter, [torch.ones(4)] * 2, [torch.ones(4)])

    train, valid = (True, False, True, "train"), (False, True, True, None)
    assert brain.stages == (train * 2 + valid) * 2
    assert len(checkpointer.list_checkpoints()) == 1
    assert checkpointer.find_checkpoint(min_key="loss").paramfiles.keys() >= {"model", "brain"}
