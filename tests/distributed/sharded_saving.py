"""One process of several: saves what is sharded, in every way that recipes do, and goes on from it.

python -m tests.distributed.sharded_saving FOLDER save|resume [CHECK...]

Without checks ``save`` performs the scenarios of ``sharding`` too: the start takes longest.
"""

from __future__ import annotations

import contextlib
import datetime
import json
import sys
import traceback
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import ModelCheckpoint

import brain_lightning as sb
from brain_lightning.engine.sharded_modules.fsdp2 import FSDP2
from brain_lightning.ground.ranks import ddp_barrier
from brain_lightning.parts.checkpoints import gathering
from brain_lightning.parts.checkpoints.sharded_states import is_sharded, whole_state
from tests.parity.small_recipes import AugmentedPoints, Points, Regression

from .resuming import KilledError, without_buffers
from .scenarios import still_network
from .sharding import SCENARIOS, adam, difference, make_brain, model, perform, rank

Found = dict[str, Any]
CHECKS: dict[str, dict[str, Callable[[Path], Found]]] = {"save": {}, "resume": {}}
LOADER = {"batch_size": 2, "shuffle": True}


def check(phase: str) -> Callable[[Callable[[Path], Found]], Callable[[Path], Found]]:
    """Register a check of ``save`` or ``resume``."""

    def register(function: Callable[[Path], Found]) -> Callable[[Path], Found]:
        CHECKS[phase][function.__name__] = function
        return function

    return register


class Saving(Regression, sb.Brain):
    """Saves at each validation's end, as ``hparams.how`` says."""

    def init_optimizers(self) -> None:
        super().init_optimizers()
        if not getattr(self.hparams, "saves", True):
            for name in ("model", "optimizer"):
                del self.checkpointer.recoverables[name]

    def fit_batch(self, batch: Any) -> torch.Tensor:
        notes = vars(self)
        notes["seen"] = notes.get("seen", 0) + 1
        if notes["seen"] == getattr(self.hparams, "killed_at", None):
            raise KilledError
        loss: torch.Tensor = super().fit_batch(batch)
        notes.setdefault("losses", []).append(float(loss))
        return loss

    def on_stage_end(self, stage: Any, stage_loss: Any, epoch: Any = None) -> None:
        if stage == sb.Stage.VALID:
            self.hparams.how(self, stage_loss)

    def on_evaluate_start(self, max_key: Any = None, min_key: Any = None) -> None:
        """Load averaged parameters, as recipes do, into what is sharded."""
        checkpoints = self.checkpointer.find_checkpoints(max_num_checkpoints=2)
        averaged = sb.average_checkpoints(checkpoints, "model")
        self.hparams.model.load_state_dict(averaged, strict=True)


def by_all(brain: Any, loss: Any) -> None:
    brain.checkpointer.save_and_keep_only(meta={"loss": loss}, num_to_keep=2)


def by_main(brain: Any, loss: Any) -> None:
    if sb.if_main_process():
        brain.checkpointer.save_and_keep_only(meta={"loss": loss}, num_to_keep=2)


def by_main_before_others_wait(brain: Any, loss: Any) -> None:
    by_main(brain, loss)
    ddp_barrier()
    by_main(brain, loss)
    assert sb.run_on_main(lambda: 7) == 7


def by_run_on_main(brain: Any, loss: Any) -> None:
    sb.run_on_main(by_all, args=[brain, loss])


def by_others_in_vain(brain: Any, loss: Any) -> None:
    """The main process saves once, the other twice: a condition on what only one knows."""
    by_all(brain, loss)
    if not sb.if_main_process():
        by_all(brain, loss)


WAYS = (by_all, by_main, by_main_before_others_wait, by_run_on_main, by_others_in_vain)


def saving_brain(
    folder: Path, how: Any = by_all, strategy: Any = "fsdp2", net: Any = None, **options: Any
) -> Any:
    net = net or model(still_network())
    counter = sb.EpochCounter(options.pop("epochs", 2))
    recoverables = {"model": net, "counter": counter}
    checkpointer = sb.Checkpointer(folder, recoverables)
    hparams = {"how": how, "counter": counter, "model": net, **options.pop("hparams", {})}
    modules = {"model": net}
    return make_brain(Saving, modules, adam, strategy, checkpointer, hparams, **options)


def fit(brain: Any, **more: Any) -> None:
    brain.fit(brain.hparams.counter, AugmentedPoints(12), Points(4, 1), None, LOADER, **more)


def states(brain: Any) -> Found:
    """What is to be in the files, on the main process."""
    return {
        "model": whole_state(brain.modules.model.state_dict()),
        "optimizer": whole_state(brain.optimizer.state_dict()),
    }


@check("save")
def ways(folder: Path) -> Found:
    """All leave the same files, whole and readable by one process."""
    found: Found = {}
    expected = None
    for how in WAYS:
        torch.manual_seed(rank())
        brain = saving_brain(folder / how.__name__, how)
        fit(brain)
        after = states(brain)
        loss = brain.evaluate(Points(4, 2))
        if rank() == 0:
            checkpoint = brain.checkpointer.find_checkpoint()
            files = {n: torch.load(checkpoint.paramfiles[n]) for n in ("model", "optimizer")}
            expected = expected or files
            found[how.__name__] = {
                "saved": difference(files, after),
                "same": difference(files, expected),
                "number": len(brain.checkpointer.find_checkpoints()),
                "kinds": sorted({type(each).__name__ for each in files["model"].values()}),
                "keys": list(files["model"]) == list(still_keys()),
                "loss": float(loss),
            }
    return found


def still_keys() -> list[str]:
    return list(model(still_network()).state_dict())


@check("save")
def interval(folder: Path) -> Found:
    """Beside training; in the middle of an accumulation and behind it."""
    found: Found = {}
    for beside in (True, False):
        torch.manual_seed(rank())
        brain = saving_brain(
            folder / str(beside), lambda *_: None, ckpt_interval_steps=2, async_checkpoint=beside
        )
        fit(brain)
        if rank() == 0:
            checkpoint = brain.checkpointer.find_checkpoint()
            found[str(beside)] = checkpoint.meta["brain_intra_epoch_ckpt"]
    if rank() == 0:
        files = [
            torch.load(next((folder / str(beside)).glob("*/model.ckpt")))
            for beside in (True, False)
        ]
        found["same"] = difference(*files)
    return found


def run_cut(
    folder: Path, killed_at: list[int | None], ckpt: bool, saves: bool = True, **options: Any
) -> Any:
    """Train, beginning anew behind each time that the run is killed.

    Without ``saves`` neither model nor optimizer is a recoverable.

    Returns:
        The losses since the last beginning, and the states at the end.
    """
    losses: list[float] = []
    for number, batch in enumerate(killed_at):
        torch.manual_seed(10 * number + rank())
        # Buffers are the main process's in a checkpoint, but not while gradients accumulate.
        net = model(None if not options else without_buffers())
        trainer: Found = {}
        if ckpt:
            saver = ModelCheckpoint(
                folder / "pl", save_last=True, every_n_train_steps=1, save_top_k=-1
            )
            trainer = {"trainer": {"callbacks": [saver]}}
        brain = saving_brain(
            folder / f"{number}" if ckpt else folder,
            by_all if not ckpt else lambda *_: None,
            FSDP2(wrap=["LSTM"]),
            net,
            epochs=3,
            hparams={"killed_at": batch, "saves": saves},
            **({} if ckpt else {"ckpt_interval_steps": 2}),
            **trainer,
            **options,
        )
        resumed = {"ckpt_path": folder / "pl" / "last.ckpt"} if ckpt and number else {}
        with contextlib.suppress(KilledError):
            fit(brain, **resumed)
        losses = brain.losses
    return losses, states(brain)


@check("save")
def exact_resume(folder: Path) -> Found:
    """As if never interrupted: dropout, augmentation and accumulated gradients on every process."""
    found: Found = {}
    cases: list[tuple[str, bool, Found]] = [
        ("plain", False, {}),
        ("accumulating", False, {"grad_accumulation_factor": 3}),
        ("lightning", True, {}),
        ("unsaved", False, {"saves": False}),
    ]
    for name, ckpt, options in cases:
        losses, state = run_cut(folder / f"{name}-whole", [None], ckpt, **options)
        last, cut = run_cut(folder / f"{name}-cut", [3, 3, None], ckpt, **options)
        found[name] = {
            "losses": difference(losses[-len(last) :], last),
            "resumed": 0 < len(last) < len(losses),
        }
        if rank() == 0:
            found[name]["state"] = difference(state, cut)
    return found


@check("save")
def alone_elsewhere(folder: Path) -> Found:
    """Outside of a stage's end the main process alone cannot save; it says so, and nobody hangs.

    The last check: the processes cannot talk to one another afterwards.
    """
    brain = saving_brain(folder / "by_all")
    fit(brain)
    found: Found = {}
    try:
        sb.run_on_main(brain.checkpointer.save_checkpoint)
    except Exception as error:
        found["run_on_main"] = f"{type(error).__name__}: {error}"
    torch.distributed.barrier()
    gathering.PATIENCE = datetime.timedelta(seconds=2)
    if rank() == 0:
        try:
            brain.checkpointer.save_checkpoint()
        except Exception as error:
            found["if_main_process"] = f"{type(error).__name__}: {error}"
    # The other one's part in the exchange that failed is not waited for.
    return found


@check("resume")
def from_two(folder: Path) -> Found:
    """Other processes go on from what two have saved, under FSDP2 and under DDP alike."""
    results = []
    for strategy in ("ddp", FSDP2(wrap_parameters=60)):
        torch.manual_seed(50 + rank())
        brain = saving_brain(folder.parent / "ways" / "by_all", lambda *_: None, strategy, epochs=4)
        fit(brain)
        state = whole_state(brain.modules.state_dict())
        results.append((brain.losses, {k.replace(".module.", "."): v for k, v in state.items()}))
        assert brain.hparams.counter.current == 4
    found: Found = {
        "losses": difference(results[0][0], results[1][0]),
        "steps": len(results[1][0]),
        "sharded": is_sharded(brain.modules),
        "local": sum(each.to_local().numel() for each in brain.modules.parameters()),
        "total": sum(each.numel() for each in brain.modules.parameters()),
    }
    if rank() == 0:
        found["weights"] = difference(results[0][1], results[1][1])
    return found


def main(folder: Path, phase: str, names: list[str]) -> None:
    warnings.simplefilter("ignore")
    sb.ddp_init_group({"distributed_backend": "gloo"})
    found = {}
    if phase == "save" and not names:
        perform(folder, list(SCENARIOS))
    for name in names or CHECKS[phase]:
        print(f"--- {name}", flush=True)
        try:
            found[name] = CHECKS[phase][name](folder / name)
        except BaseException:
            traceback.print_exc()
            raise
        (folder / f"{phase}-{rank()}.json").write_text(json.dumps(found))
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], sys.argv[3:])
