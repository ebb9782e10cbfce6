"""Every entry of docs/compatibility.md names tests, and they exist; some of them are here."""

from __future__ import annotations

import ast
import logging
import re
import subprocess
import sys
from contextlib import nullcontext, suppress
from pathlib import Path
from typing import Any

import pytest
import soundfile
import speechbrain
import torch
from speechbrain.augment.time_domain import AddNoise

import brain_lightning
from brain_lightning import mark_as_loader, mark_as_saver, register_checkpoint_hooks
from brain_lightning.entry.interop.replacing import our_names_in_speechbrain

from .small_brain import BATCH, Points, SmallBrain, small_brain

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "compatibility.md"
HEADS = {"SpeechBrain", "what", "---"}


def entries() -> list[str]:
    lines = PAGE.read_text(encoding="utf-8").splitlines()
    rows = [line for line in lines if line.startswith("|")]
    return [row for row in rows if row.strip("|").split("|")[0].strip() not in HEADS]


def named_tests(row: str) -> list[str]:
    last = row.rstrip().rstrip("|").rpartition(" | ")[2]
    return re.findall(r"`(tests/[^`]+)`", last)


@pytest.mark.parametrize("row", entries(), ids=lambda row: row[2:50])
def test_an_entry_names_tests_that_are_there(row: str) -> None:
    named = named_tests(row)
    assert named, "the entry names no test"
    for each in named:
        path, _, test = each.partition("::")
        assert (ROOT / path).is_file(), each
        tree = ast.parse((ROOT / path).read_text(encoding="utf-8"))
        functions = [node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)]
        assert not test or test in functions, each
        assert test or len(named) == 1, f"{each} is a whole file"


def test_there_are_entries() -> None:
    assert len(entries()) > 40


class _Brain(brain_lightning.Brain):
    def compute_forward(self, batch, stage):
        return self.modules.model(batch)

    def compute_objectives(self, predictions, batch, stage):
        return predictions.mean()


class _Native(speechbrain.Brain):
    compute_forward = _Brain.compute_forward
    compute_objectives = _Brain.compute_objectives


@pytest.mark.parametrize(("kind", "is_shared"), [(_Brain, False), (_Native, True)])
def test_mutable_defaults_are_not_shared_between_calls(kind, is_shared) -> None:
    brain = kind({"model": torch.nn.Linear(1, 1)}, run_opts={"device": "cpu"})
    asked: list[dict[str, object]] = []
    make_dataloader = brain.make_dataloader

    def seen(dataset, stage, **loader_kwargs):
        asked.append(loader_kwargs)
        return make_dataloader(dataset, stage, **loader_kwargs)

    brain.make_dataloader = seen
    own: dict[str, object] = {}
    data = [torch.ones(1), torch.ones(1)]
    brain.evaluate(data, test_loader_kwargs=own, progressbar=False)
    brain.evaluate(data, progressbar=False)

    assert own == {"ckpt_prefix": None}
    defaults = kind.evaluate.__defaults__
    assert ({"ckpt_prefix": None} in defaults) == is_shared
    assert asked == [{"ckpt_prefix": None}] * 2


@pytest.mark.parametrize(("kind", "calls_it"), [(_Brain, False), (_Native, True)])
def test_functions_put_into_speechbrains_modules(
    kind, calls_it, monkeypatch: pytest.MonkeyPatch
) -> None:
    loaders = speechbrain.dataio.dataloader
    makes, called = loaders.make_dataloader, []

    def of_the_recipe(*args, **kwargs):
        called.append("function")
        return makes(*args, **kwargs)

    class Recipe(kind):
        def make_dataloader(self, *args, **kwargs):
            called.append("method")
            return super().make_dataloader(*args, **kwargs)

    monkeypatch.setattr(loaders, "make_dataloader", of_the_recipe)
    with our_names_in_speechbrain() if kind is _Brain else nullcontext():
        brain = Recipe({"model": torch.nn.Linear(1, 1)}, run_opts={"device": "cpu"})
        brain.evaluate([torch.ones(1)], progressbar=False)

    assert called == (["method", "function"] if calls_it else ["method"])


@pytest.mark.parametrize("kind", [_Brain, _Native])
def test_attributes_of_the_recipe_are_in_no_checkpoint(kind, tmp_path: Path) -> None:
    def made():
        module = torch.nn.Linear(1, 1)
        recoverables = {"model": module}
        if kind is _Brain:
            checkpointer = brain_lightning.Checkpointer(tmp_path, recoverables)
        else:
            checkpointer = speechbrain.utils.checkpoints.Checkpointer(tmp_path, recoverables)
        return kind({"model": module}, run_opts={"device": "cpu"}, checkpointer=checkpointer)

    brain = made()
    brain.train_loss, brain.step = 3.0, 7
    brain.checkpointer.save_checkpoint()
    recovered = made()
    recovered.checkpointer.recover_if_possible()

    assert recovered.step == 7
    assert not hasattr(recovered, "train_loss")


def test_log_messages_come_from_our_loggers(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO):
        _Brain({"model": torch.nn.Linear(1, 1)})
        said = {record.name.partition(".")[0] for record in caplog.records}
        caplog.clear()
        _Native({"model": torch.nn.Linear(1, 1)}, run_opts={"device": "cpu"})
        said_there = {record.name.partition(".")[0] for record in caplog.records}

    assert said == {"brain_lightning"}
    assert said_there == {"speechbrain"}


SWITCHES = """
import torch
def switches():
    executor = torch._C._jit_set_profiling_executor(True)
    torch._C._jit_set_profiling_executor(executor)
    return torch.backends.cuda.matmul.allow_tf32, torch.backends.cudnn.allow_tf32, executor
before = switches()
import {library}
{library}.Brain
print("changed" if switches() != before else "same")
"""


@pytest.mark.parametrize(
    ("library", "result"), [("brain_lightning", "same"), ("speechbrain", "changed")]
)
def test_importing_changes_no_switches_of_torch(library: str, result: str) -> None:
    code = SWITCHES.format(library=library)
    process = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert process.stdout.strip().splitlines()[-1] == result, process.stderr[-2000:]


def test_the_log_says_nothing_of_quirks(tmp_path: Path) -> None:
    code = "import sys, {0}\n{0}.create_experiment_directory(sys.argv[1], save_env_desc=False)"
    logs = {}
    for library in ("brain_lightning", "speechbrain"):
        script, folder = tmp_path / f"{library}_recipe.py", tmp_path / library
        script.write_text(code.format(library), encoding="utf-8")
        subprocess.run([sys.executable, str(script), str(folder)], check=True, capture_output=True)
        logs[library] = (folder / "log.txt").read_text(encoding="utf-8")

    assert "quirks" in logs["speechbrain"]
    assert "quirks" not in logs["brain_lightning"]
    assert "Experiment folder" in logs["brain_lightning"]


def test_noise_from_files_begins_anew_after_a_resume(tmp_path: Path) -> None:
    """In each library the same: the module has the iterator, and nobody saves where it is."""
    rows = ["ID,duration,wav,wav_format,wav_opts"]
    for number in range(1, 9):
        path = tmp_path / f"{number}.wav"
        soundfile.write(path, torch.full((40,), number / 10).numpy(), 16000)
        rows.append(f"{number},0.0025,{path},wav,")
    (tmp_path / "noise.csv").write_text("\n".join(rows))

    class Noise(AddNoise):  # type: ignore[misc]
        def _load_noise_batch(self) -> Any:
            noises, lengths = super()._load_noise_batch()
            seen.append(round(float(noises.mean()), 2))
            return noises, lengths

    class Noisy(SmallBrain):
        def compute_forward(self, batch: Any, stage: Any) -> torch.Tensor:
            noisy = self.noise(batch[0], torch.ones(BATCH))
            return super().compute_forward((noisy, batch[1]), stage)

        def fit_batch(self, batch: Any) -> torch.Tensor:
            if len(seen) == interrupt_at:
                raise KeyboardInterrupt
            return super().fit_batch(batch)

    def noises_of_a_run(folder: Path) -> list[float]:
        seen.clear()
        brain = small_brain(folder, Noisy, 1, saves=True, options={"ckpt_interval_steps": 1})
        brain.noise = Noise(str(tmp_path / "noise.csv"), sorting="original")
        with suppress(KeyboardInterrupt, SystemExit):
            brain.fit(brain.hparams.counter, Points(), train_loader_kwargs={"batch_size": BATCH})
        return list(seen)

    seen: list[float] = []
    interrupt_at = -1
    first, second = 0.25, 0.65  # two batches are a pass over the file
    assert noises_of_a_run(tmp_path / "whole") == [first, second, first, second, first]
    interrupt_at = 3
    assert noises_of_a_run(tmp_path / "parts") == [first, second, first]
    interrupt_at = -1
    assert noises_of_a_run(tmp_path / "parts") == [first, second]  # the file's second was next


@register_checkpoint_hooks
class Counted:
    def __init__(self) -> None:
        self.steps = 0

    @mark_as_saver
    def save(self, path: Path) -> None:
        path.write_text(str(self.steps))

    @mark_as_loader
    def load(self, path: Path, end_of_epoch: bool) -> None:
        self.steps = int(path.read_text())


def test_attributes_of_the_recipes_own_begin_anew_after_a_resume(tmp_path: Path) -> None:
    """What an object with checkpoint hooks keeps goes on, without being a recoverable."""

    class Counting(SmallBrain):
        steps_done = 0
        steps_left = -1

        def on_fit_batch_end(self, *_: Any) -> None:
            self.steps_done += 1
            self.counted.steps += 1
            self.steps_left -= 1
            if self.steps_left == 0:
                raise KeyboardInterrupt

    def steps_of_a_run(steps_left: int) -> tuple[int, int]:
        brain = small_brain(tmp_path, Counting, 2, saves=True, options={"ckpt_interval_steps": 1})
        brain.steps_left, brain.counted = steps_left, Counted()
        with suppress(KeyboardInterrupt, SystemExit):
            brain.fit(brain.hparams.counter, Points(), train_loader_kwargs={"batch_size": BATCH})
        return brain.steps_done, brain.counted.steps

    assert steps_of_a_run(3) == (3, 3)
    own, counted = steps_of_a_run(-1)
    assert own == counted - 2 > 0  # the third step was never saved


def test_a_generator_of_a_validation_set_begins_anew(tmp_path: Path) -> None:
    class Drawing(Points):
        def __init__(self) -> None:
            super().__init__()
            self.generator = torch.Generator().manual_seed(3)

        def __getitem__(self, index: int) -> Any:
            drawn.append(torch.rand(1, generator=self.generator).item())
            return super().__getitem__(index)

    def numbers_of_a_run(epochs: int) -> list[float]:
        drawn.clear()
        brain = small_brain(tmp_path, SmallBrain, epochs, saves=True)
        brain.fit(brain.hparams.counter, Points(), Drawing())
        return list(drawn)

    drawn: list[float] = []
    first_epoch = numbers_of_a_run(1)
    assert numbers_of_a_run(2) == first_epoch  # the second epoch draws what the first one did


def test_requires_grad_is_as_the_script_sets_it(tmp_path: Path) -> None:
    class Freezing(SmallBrain):
        freezes = True

        def on_stage_start(self, stage: Any, epoch: int | None = None) -> None:
            super().on_stage_start(stage, epoch)
            if self.freezes:
                next(self.modules.parameters()).requires_grad_(False)

    first = small_brain(tmp_path, Freezing, 1, saves=True)
    first.fit(first.hparams.counter, Points())
    second = small_brain(tmp_path, Freezing, 2, saves=True)
    second.freezes = False
    second.fit(second.hparams.counter, Points())
    assert not next(first.modules.parameters()).requires_grad
    assert next(second.modules.parameters()).requires_grad
