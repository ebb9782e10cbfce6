"""`brain-lightning convert`: a run goes on from a converted checkpoint as from the one it was."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import pytest
import speechbrain
import torch
from lightning.pytorch.callbacks import ModelCheckpoint
from speechbrain.utils.checkpoints import Checkpointer as SpeechBrainCheckpointer
from speechbrain.utils.epoch_loop import EpochCounter as SpeechBrainEpochCounter

from brain_lightning import Brain, BrainModule, Checkpointer, EpochCounter, Stage
from brain_lightning.entry.command_line import main
from brain_lightning.parts.checkpoints.integrity import CHECKSUMS

EPOCHS = 3


class Interrupted(Exception):
    """Stands for a kill."""


class Data(torch.utils.data.Dataset[Any]):
    def __init__(self, size: int) -> None:
        self.size = size

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, index: int) -> Any:
        return torch.arange(4.0) * index / 9 + torch.randn(4) * 0.1


def recipe(base: Any, stages: Any) -> Any:
    class Recipe(base):  # type: ignore[misc]
        """Two recoverable modules, one of them inside of another entry of modules."""

        interrupt_at = None
        batches = 0

        def init_optimizers(self) -> None:
            super().init_optimizers()
            self.scheduler = torch.optim.lr_scheduler.StepLR(self.optimizer, 1, 0.5)
            self.checkpointer.add_recoverable("scheduler", self.scheduler)

        def compute_forward(self, batch: Any, stage: Any) -> Any:
            return self.modules.decoder(self.modules.encoder(batch))

        def compute_objectives(self, predictions: Any, batch: Any, stage: Any) -> Any:
            return (predictions - batch.mean()).square().mean()

        def fit_batch(self, batch: Any) -> Any:
            loss = super().fit_batch(batch)
            self.batches += 1
            if self.batches == self.interrupt_at:
                raise Interrupted
            return loss

        def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
            if stage == stages.VALID:
                self.scheduler.step()
                self.checkpointer.save_and_keep_only({"WER": float(stage_loss)}, num_to_keep=9)

    return Recipe


def make(folder: Path, interrupt_at: int | None = None, **trainer: Any) -> Any:
    torch.manual_seed(3)
    return assembled(
        recipe(Brain, Stage), Checkpointer, EpochCounter, folder, interrupt_at, trainer=trainer
    )


def make_in_speechbrain(folder: Path) -> Any:
    torch.manual_seed(3)
    base = recipe(speechbrain.Brain, speechbrain.Stage)
    return assembled(base, SpeechBrainCheckpointer, SpeechBrainEpochCounter, folder, None)


def assembled(
    kind: Any, checkpointers: Any, counters: Any, folder: Path, interrupt_at: Any, **extra: Any
) -> Any:
    core = torch.nn.Linear(4, 8)
    encoder = torch.nn.Sequential(core, torch.nn.BatchNorm1d(8), torch.nn.Dropout(0.3))
    decoder = torch.nn.Linear(8, 2)
    counter = counters(EPOCHS)
    # As recipes do: one recoverable for several modules, one for a part of one.
    recoverables = {
        "both": torch.nn.ModuleList([encoder, decoder]),
        "core": core,
        "decoder": decoder,
        "counter": counter,
    }
    brain = kind(
        {"encoder": encoder, "decoder": decoder},
        lambda parameters: torch.optim.Adam(parameters, 0.01),
        hparams={"counter": counter},
        run_opts={"noprogressbar": True, "device": "cpu", "ckpt_interval_steps": 2},
        checkpointer=checkpointers(folder, recoverables),
        **extra,
    )
    brain.interrupt_at = interrupt_at
    return brain


def fit(brain: Any, **options: Any) -> Any:
    loader = {"batch_size": 4, "shuffle": True}
    brain.fit(brain.hparams.counter, Data(20), Data(4), train_loader_kwargs=loader, **options)
    return brain


def state(brain: Any) -> dict[str, Any]:
    weights = {
        f"{entry}.{name}": value.clone()
        for entry, module in brain.modules.items()
        for name, value in module.state_dict().items()
    }
    moments = [s[key] for s in brain.optimizer.state.values() for key in ("exp_avg", "exp_avg_sq")]
    moments_by_name = {f"moment{i}": each.clone() for i, each in enumerate(moments)}
    numbers = {
        "epoch": brain.hparams.counter.current,
        "steps": brain.optimizer_step,
        "lr": brain.optimizer.param_groups[0]["lr"],
    }
    return weights | moments_by_name | numbers


def assert_same(left: dict[str, Any], right: dict[str, Any]) -> None:
    assert left.keys() == right.keys()
    for name, value in left.items():
        if isinstance(value, torch.Tensor):
            assert torch.equal(value, right[name]), name
        else:
            assert value == right[name], name


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What a run that is never interrupted ends with."""
    return state(fit(make(tmp_path_factory.mktemp("finished"))))


def interrupted(folder: Path, at: int, **trainer: Any) -> Path:
    """The newest checkpoint of a run that was interrupted."""
    brain = make(folder, at, **trainer)
    with pytest.raises(Interrupted):
        fit(brain)
    torch.manual_seed(99)
    return Path(brain.checkpointer.find_checkpoint().path)


def convert(source: Path, target: Path) -> Path:
    assert main(["convert", str(source), str(target)]) == 0
    return target


# Five batches an epoch: in the middle of the second epoch, and right behind the first.
@pytest.mark.parametrize("at", [8, 6])
def test_fit_goes_on_from_a_converted_folder(
    at: int, tmp_path: Path, finished: dict[str, Any]
) -> None:
    folder = interrupted(tmp_path / "save", at)
    before = {path.name: path.read_bytes() for path in folder.iterdir()}

    file = convert(folder, tmp_path / "run.ckpt")

    assert before == {path.name: path.read_bytes() for path in folder.iterdir()}
    brain = fit(make(tmp_path / "elsewhere"), ckpt_path=file)
    assert_same(state(brain), finished)


@pytest.mark.parametrize("at", [8, 6])
def test_a_folder_converted_there_and_back_resumes(
    at: int, tmp_path: Path, finished: dict[str, Any]
) -> None:
    folder = interrupted(tmp_path / "save", at)
    (tmp_path / "back").mkdir()

    back = convert(convert(folder, tmp_path / "run.ckpt"), tmp_path / "back" / folder.name)

    names = {path.name for path in folder.iterdir()}
    assert {path.name for path in back.iterdir()} == names
    for name in names - {CHECKSUMS}:
        if not name.endswith(".resume"):  # saved by torch anew
            assert (back / name).read_bytes() == (folder / name).read_bytes(), name
    assert_same(state(fit(make(tmp_path / "back"))), finished)


def lightnings_checkpoint(tmp_path: Path, **when: Any) -> Path:
    callback = ModelCheckpoint(tmp_path / "lightning", save_top_k=-1, **when)
    interrupted(tmp_path / "save", 9, callbacks=[callback], enable_checkpointing=True)
    return sorted((tmp_path / "lightning").iterdir(), key=lambda path: path.stat().st_mtime_ns)[-1]


@pytest.mark.parametrize("when", [{}, {"every_n_train_steps": 1}], ids=["epoch", "step"])
def test_a_run_goes_on_from_a_converted_file(
    when: dict[str, Any], tmp_path: Path, finished: dict[str, Any]
) -> None:
    file = lightnings_checkpoint(tmp_path, **when)
    (tmp_path / "folder").mkdir()

    convert(file, tmp_path / "folder" / "CKPT+converted")

    assert_same(state(fit(make(tmp_path / "folder"))), finished)


@pytest.mark.filterwarnings("ignore:Checkpoint directory .* exists and is not empty")
def test_speechbrain_reads_a_converted_file(tmp_path: Path) -> None:
    file = lightnings_checkpoint(tmp_path)
    callback = ModelCheckpoint(tmp_path / "lightning", save_top_k=-1)
    ours = make(tmp_path / "elsewhere", callbacks=[callback], enable_checkpointing=True)
    ours.hparams.counter.limit = 1  # nothing is left to be trained
    expected = state(fit(ours, ckpt_path=file))
    (tmp_path / "folder").mkdir()

    convert(file, tmp_path / "folder" / "CKPT+converted")

    theirs = make_in_speechbrain(tmp_path / "folder")
    theirs.on_fit_start()
    assert_same(state(theirs), expected)
    found = theirs.checkpointer.find_checkpoint(min_key="WER")
    assert found.meta["end-of-epoch"] is True
    assert found.meta["WER"] == pytest.approx(float(found.meta["valid_loss"]))


def test_a_folder_of_speechbrains_becomes_a_file(tmp_path: Path) -> None:
    theirs = make_in_speechbrain(tmp_path / "theirs")
    theirs.hparams.counter.limit = 2
    expected = state(fit(theirs))
    folder = theirs.checkpointer.find_checkpoint().path

    file = convert(Path(folder), tmp_path / "run.ckpt")

    ours = make(tmp_path / "ours")
    ours.hparams.counter.limit = 2
    assert_same(state(fit(ours, ckpt_path=file)), expected)
    ours = make(tmp_path / "more")
    fit(ours, ckpt_path=file)
    assert ours.batches == 5
    assert ours.trainer.current_epoch == 3
    back = convert(file, tmp_path / "CKPT+back")
    assert not (back / "brain.ckpt.resume").exists()


def test_a_trainer_of_the_users_goes_on_from_a_converted_folder(
    tmp_path: Path, finished: dict[str, Any]
) -> None:
    file = convert(interrupted(tmp_path / "save", 6), tmp_path / "run.ckpt")
    brain = make(tmp_path / "elsewhere")
    trainer = pl.Trainer(
        max_epochs=EPOCHS,
        accelerator="cpu",
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
    )
    loader = torch.utils.data.DataLoader(Data(20), 4, shuffle=True)

    trainer.fit(BrainModule(brain), loader, ckpt_path=file)

    assert trainer.current_epoch == EPOCHS
    assert brain.batches == (EPOCHS - 1) * 5
    assert trainer.global_step == brain.optimizer_step == finished["steps"]


def test_evaluation_takes_the_weights_of_a_converted_folder(tmp_path: Path) -> None:
    trained = fit(make(tmp_path / "save"))
    folder = trained.checkpointer.find_checkpoint().path
    file = convert(Path(folder), tmp_path / "run.ckpt")
    brain = make(tmp_path / "elsewhere")
    trainer = pl.Trainer(accelerator="cpu", logger=False, enable_progress_bar=False)

    trainer.test(BrainModule(brain), torch.utils.data.DataLoader(Data(4)), file, verbose=False)

    for name, value in trained.modules.state_dict().items():
        assert torch.equal(value, brain.modules.state_dict()[name]), name


# -- listing -----------------------------------------------------------------------------------


def listed(path: Path, capsys: pytest.CaptureFixture[str]) -> str:
    capsys.readouterr()
    assert main(["convert", "--list", str(path)]) == 0
    return capsys.readouterr().out


def test_list_a_folder(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder = interrupted(tmp_path / "save", 8)
    text = listed(folder, capsys)
    assert "in the middle of an epoch" in text
    assert "meta: brain_intra_epoch_ckpt=True" in text
    lines = {line.split()[0]: line for line in text.splitlines()}
    assert "text: 2" in lines["counter"]
    assert "2 tensors, 40 numbers (float32)" in lines["core"]
    assert "step: 2" in lines["brain"]
    assert "its files are what was saved" in text
    assert "brain.ckpt.resume" in text


def test_list_all_of_a_folder_damaged_ones_too(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    folder = interrupted(tmp_path / "save", 8)
    (folder / "core.ckpt").write_bytes(b"x")
    lines = listed(tmp_path / "save", capsys).splitlines()
    heads = [line for line in lines if not line.startswith(" ")]
    assert len(heads) == 2
    assert "at the end of an epoch" in heads[0]
    assert "core.ckpt" in heads[1]
    assert "has 1 bytes where" in heads[1]
    assert any("meta: WER=" in line for line in lines)


def test_list_files(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file = lightnings_checkpoint(tmp_path)
    text = listed(file, capsys)
    assert "from a Brain, saved at the end of epoch 1" in text
    assert "in state_dict as brain_modules.encoder.0.*" in text
    assert "in optimizer_states[0]" in text
    assert "ModelCheckpoint" in text

    folder = convert(file, tmp_path / "CKPT+converted")
    text = listed(convert(folder, tmp_path / "again.ckpt"), capsys)
    assert "saved at the end of an epoch" in text
    assert "2 tensors, 40 numbers (float32)" in text


# -- refusals ----------------------------------------------------------------------------------


def tree(folder: Path) -> dict[str, bytes | None]:
    return {str(path): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


def refused(capsys: pytest.CaptureFixture[str], folder: Path, *arguments: object) -> str:
    """The message of a refusal that leaves every file as it was."""
    before = tree(folder)
    capsys.readouterr()
    assert main(["convert", *map(str, arguments)]) == 1
    printed = capsys.readouterr()
    assert printed.out == ""
    assert printed.err.startswith("brain-lightning convert: error: ")
    assert printed.err.count("\n") == 1
    assert tree(folder) == before
    return printed.err


@pytest.fixture(scope="module")
def one_of_each(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a checkpoint folder and a .ckpt file."""
    path = tmp_path_factory.mktemp("each")
    shutil.move(interrupted(path / "save", 6), path / "CKPT+one")
    file = lightnings_checkpoint(path / "run")
    shutil.move(file, path / "one.ckpt")
    shutil.rmtree(path / "run")
    return path


@pytest.fixture
def each(one_of_each: Path, tmp_path: Path) -> Path:
    shutil.copytree(one_of_each, tmp_path / "each")
    return tmp_path / "each"


def test_refused_paths(each: Path, capsys: pytest.CaptureFixture[str]) -> None:
    folder, file = each / "CKPT+one", each / "one.ckpt"
    assert "nothing does not exist" in refused(capsys, each, each / "nothing", each / "x.ckpt")
    assert "nothing does not exist" in refused(capsys, each, "--list", each / "nothing")
    assert "one.ckpt exists already" in refused(capsys, each, folder, file)
    assert "CKPT+one exists already" in refused(capsys, each, file, folder)
    assert "does not end in .ckpt" in refused(capsys, each, folder, each / "CKPT+two")
    assert "is not named CKPT+NAME" in refused(capsys, each, file, each / "two")
    assert "There is no folder" in refused(capsys, each, file, each / "no" / "CKPT+two")
    assert "is a folder of checkpoints; give one of them: CKPT+one" in refused(
        capsys, each, each, each / "x.ckpt"
    )


def test_refused_contents(each: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = each / "CKPT+two"
    (each / "empty").mkdir()
    assert "it has no CKPT.yaml" in refused(capsys, each, each / "empty", each / "x.ckpt")
    (each / "text").write_text("text")
    assert "is neither a checkpoint folder nor" in refused(capsys, each, each / "text", target)
    torch.save({"weights": torch.ones(1)}, each / "weights.pt")
    message = refused(capsys, each, each / "weights.pt", target)
    assert "does not say the version of Lightning" in message
    torch.save({"pytorch-lightning_version": "2.6.6", "x": Data(1)}, each / "pickled.ckpt")
    assert "holds pickled objects" in refused(capsys, each, each / "pickled.ckpt", target)
    torch.save({"pytorch-lightning_version": "2.6.6", "state_dict": {}}, each / "plain.ckpt")
    message = refused(capsys, each, each / "plain.ckpt", target)
    assert "it was not saved from a Brain" in message


def flipped(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_refused_damage(each: Path, capsys: pytest.CaptureFixture[str]) -> None:
    file, folder = each / "one.ckpt", each / "CKPT+one"
    whole = file.read_bytes()
    weights = torch.load(file, weights_only=True)["state_dict"]["brain_modules.decoder.weight"]
    flipped(file, whole.find(weights.numpy().tobytes()) + 5)
    assert "one.ckpt is damaged" in refused(capsys, each, file, each / "CKPT+two")
    file.write_bytes(whole[: len(whole) // 2])
    assert "damaged" in refused(capsys, each, file, each / "CKPT+two")
    flipped(folder / "decoder.ckpt", 900)
    message = refused(capsys, each, folder, each / "two.ckpt")
    assert "decoder.ckpt (recoverable 'decoder') has other content than was saved" in message
    (folder / CHECKSUMS).unlink()
    (folder / "brain.ckpt").write_text("step: [")
    message = refused(capsys, each, folder, each / "two.ckpt")
    assert "brain.ckpt cannot be read" in message
    (folder / "CKPT.yaml").write_text("{")
    assert "CKPT.yaml cannot be read" in refused(capsys, each, folder, each / "two.ckpt")


def test_a_moment_that_no_folder_can_stand_for(
    each: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    file = each / "one.ckpt"
    checkpoint = torch.load(file, weights_only=True)
    saved = checkpoint["brain_lightning"]
    saved["run"] = saved["run"] | {"phase": "validation"}
    torch.save(checkpoint, file)
    message = refused(capsys, each, file, each / "CKPT+two")
    assert "the end of the validation of epoch 1" in message
    saved["run"] = saved["run"] | {"phase": "training", "step": 2}
    saved["left_out"] = ["dataloader-TRAIN"]
    torch.save(checkpoint, file)
    message = refused(capsys, each, file, each / "CKPT+two")
    assert "in the middle of a step, where dataloader-TRAIN had no position" in message


def test_a_target_that_cannot_be_written(
    each: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(value: Any, path: Path) -> None:
        Path(path).write_bytes(b"a part")
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patched:
        patched.setattr(torch, "save", full)
        message = refused(capsys, each, each / "CKPT+one", each / "two.ckpt")
        assert "No space left" in message
        message = refused(capsys, each, each / "one.ckpt", each / "CKPT+two")
        assert "CKPT+two could not be written" in message


@pytest.mark.parametrize(
    "arguments", [[], ["one"], ["one", "two", "three"], ["--list"], ["--verbose", "one"]], ids=str
)
def test_a_wrong_command_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["convert", *arguments]) == 2
    error = capsys.readouterr().err
    assert "usage: brain-lightning convert SOURCE TARGET" in error
    assert "--verbose" in error if "--verbose" in arguments else "given" in error
