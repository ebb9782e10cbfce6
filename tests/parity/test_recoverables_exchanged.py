"""Recoverables of every kind, saved by one library's Checkpointer and gone on with by the other's.

What a run goes on with is compared with what SpeechBrain itself would have gone on with.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import speechbrain.nnet.schedulers as schedulers
import torch
from speechbrain.dataio.dataloader import LoopedLoader as TheirLoopedLoader
from speechbrain.dataio.dataloader import SaveableDataLoader as TheirLoader
from speechbrain.dataio.encoder import CTCTextEncoder
from speechbrain.nnet.adapters import AdaptedModel, LoRA
from speechbrain.processing.features import InputNormalization
from speechbrain.utils import checkpoints as theirs
from speechbrain.utils.epoch_loop import EpochCounter as TheirCounter
from speechbrain.utils.epoch_loop import EpochCounterWithStopper as TheirStopper
from speechbrain.utils.parameter_transfer import Pretrainer
from speechbrain.utils.repro import SaveableGenerator

import brain_lightning as ours

Going = Callable[[Any, int], Any]


class Kind(NamedTuple):
    """How an object is made, and how it goes on for some steps; returns what it gave."""

    make: Callable[[], Any]
    go: Going


def optimizer(seed: int = 0) -> torch.optim.Optimizer:
    torch.manual_seed(seed)
    return torch.optim.Adam([torch.nn.Parameter(torch.randn(3))], lr=0.1)


def rates(scheduler: Any, steps: int) -> list[Any]:
    """Learning rates of a scheduler that is called with an optimizer."""
    adam = optimizer()
    found = []
    for _ in range(steps):
        scheduler(adam)
        found.append(adam.param_groups[0]["lr"])
    return found


def values(scheduler: Any, steps: int) -> list[Any]:
    """What a scheduler returns that is called with a loss."""
    return [scheduler(1.0 / (1 + step % 2)) for step in range(steps)]


def plateau(scheduler: Any, steps: int) -> list[Any]:
    adam = optimizer()
    return [scheduler([adam], 70, 1.0 + len(scheduler.losses)) for _ in range(steps)]


def cyclic(scheduler: Any, steps: int) -> list[Any]:
    adam = optimizer()
    found = []
    for _ in range(steps):
        scheduler.on_batch_end(adam)
        found.append(adam.param_groups[0]["lr"])
    return found


def by_updates(scheduler: Any, steps: int) -> list[Any]:
    adam = optimizer()
    found = []
    for step in range(steps):
        scheduler(adam, step)
        found.append(adam.param_groups[0]["lr"])
    return found


def take(batches: Any, steps: int) -> list[Any]:
    """The next batches of a loader, in the iteration that is in progress."""
    iterator = vars(batches).setdefault("in progress", iter(batches))
    found = [next(iterator).tolist() for _ in range(steps)]
    return [*found, getattr(batches, "total_steps", None)]


def epochs(counter: Any, steps: int) -> list[int]:
    found = []
    for _ in range(min(steps, 3)):
        found += [epoch for epoch, _ in zip(counter, range(1), strict=False)]
        if hasattr(counter, "update_metric"):
            counter.update_metric(0.5)
    return found


def normalized(module: Any, steps: int) -> list[Any]:
    torch.manual_seed(3)
    return [
        module(torch.randn(2, 4, 3) + step, torch.ones(2), epoch=0).tolist()
        for step in range(steps)
    ]


def encoded(encoder: Any, steps: int) -> Any:
    known = dict(encoder.lab2ind)
    for label in "abcd"[:steps]:
        encoder.ensure_label(label)
    if not known:
        encoder.insert_blank(4)
    return known, dict(encoder.lab2ind), encoder.blank_label


def drawn(saved: Any, steps: int) -> list[Any]:
    generator = saved.generators["own"]
    return [torch.rand((), generator=generator).item() for _ in range(steps)]


def scaled(scaler: Any, steps: int) -> list[float]:
    adam = optimizer()
    found = []
    for _ in range(steps):
        loss = adam.param_groups[0]["params"][0].sum()
        scaler.scale(loss).backward()
        scaler.step(adam)
        scaler.update()
        adam.zero_grad()
        found.append(scaler.get_scale())
    return found


def trained(modules: Any, steps: int) -> list[Any]:
    """The outputs of modules whose buffers, and weights, move."""
    torch.manual_seed(4)
    found = []
    for _ in range(steps):
        inputs = torch.randn(4, 3)
        each = modules if isinstance(modules, torch.nn.ModuleList) else [modules]
        outputs = [module(inputs) for module in each]
        modules.zero_grad()
        sum(output.square().sum() for output in outputs).backward()
        with torch.no_grad():
            for parameter in modules.parameters():
                if parameter.grad is not None:
                    parameter -= 0.01 * parameter.grad
        found.append([output.tolist() for output in outputs])
    return found


def network() -> torch.nn.Module:
    torch.manual_seed(1)
    return torch.nn.Sequential(torch.nn.Linear(3, 4), torch.nn.BatchNorm1d(4))


class Average:
    """Follows weights, with hooks of its own that either library's marks register."""

    def __init__(self) -> None:
        self.value = torch.zeros(3)
        self.updates = 0

    def update(self) -> list[float]:
        self.updates += 1
        self.value = 0.9 * self.value + 0.1 * torch.full((3,), float(self.updates))
        return self.value.tolist()


@theirs.register_checkpoint_hooks
class TheirAverage(Average):
    @theirs.mark_as_saver  # type: ignore[untyped-decorator]
    def save(self, path: Path) -> None:
        torch.save({"value": self.value, "updates": self.updates}, path)

    @theirs.mark_as_loader  # type: ignore[untyped-decorator]
    def load(self, path: Path, end_of_epoch: bool) -> None:
        vars(self).update(torch.load(path))


@ours.register_checkpoint_hooks
class OurAverage(Average):
    @ours.mark_as_saver
    def save(self, path: Path) -> None:
        torch.save({"value": self.value, "updates": self.updates}, path)

    @ours.mark_as_loader
    def load(self, path: Path, end_of_epoch: bool) -> None:
        vars(self).update(torch.load(path))


def averaged(average: Average, steps: int) -> list[Any]:
    return [average.update() for _ in range(steps)]


def data() -> list[int]:
    return list(range(20))


KINDS = {
    "WarmAndExpDecay": Kind(lambda: schedulers.WarmAndExpDecayLRSchedule(0.1, 4, 20), rates),
    "NewBob": Kind(lambda: schedulers.NewBobScheduler(0.1, patient=1), values),
    "LinearWarmup": Kind(lambda: schedulers.LinearWarmupScheduler(0.1, 3, 20), rates),
    "Noam": Kind(lambda: schedulers.NoamScheduler(0.1, 5), rates),
    "NoamInterval": Kind(
        lambda: schedulers.NoamIntervalScheduler(0.1, 2, [4, 6], [0.5, 0.1]), rates
    ),
    "LinearNoam": Kind(lambda: schedulers.LinearNoamScheduler(0.1, 3, 2), rates),
    "CyclicCosine": Kind(lambda: schedulers.CyclicCosineScheduler(5, 0.1, 50), rates),
    "ReduceLROnPlateau": Kind(lambda: schedulers.ReduceLROnPlateau(patience=2), plateau),
    "CyclicLR": Kind(lambda: schedulers.CyclicLRScheduler(0.01, 0.1, 3), cyclic),
    "Interval": Kind(
        lambda: schedulers.IntervalScheduler([{"steps": 5, "lr": 0.05}, {"steps": 9, "lr": 0.01}]),
        rates,
    ),
    "WarmCoolDecay": Kind(lambda: schedulers.WarmCoolDecayLRSchedule(0.1, 2, 2, 20), by_updates),
    "TriStage": Kind(lambda: schedulers.TriStageLRSchedule(0.1, 2, 2, 2, 20), by_updates),
    "their counter": Kind(lambda: TheirCounter(9), epochs),
    "their stopper": Kind(lambda: TheirStopper(9, 4, 0, "min"), epochs),
    "our counter": Kind(lambda: ours.EpochCounter(9), epochs),
    "our stopper": Kind(lambda: ours.EpochCounterWithStopper(9, 4, 0, "min"), epochs),
    "their loader": Kind(lambda: TheirLoader(data(), batch_size=2), take),
    "our loader": Kind(lambda: ours.SaveableDataLoader(data(), batch_size=2), take),
    "their looped": Kind(lambda: TheirLoopedLoader(TheirLoader(data(), batch_size=2), 20), take),
    "our looped": Kind(
        lambda: ours.LoopedLoader(ours.SaveableDataLoader(data(), batch_size=2), 20), take
    ),
    "normalization": Kind(InputNormalization, normalized),
    "text encoder": Kind(CTCTextEncoder, encoded),
    "generator": Kind(lambda: SaveableGenerator({"own": torch.Generator().manual_seed(8)}), drawn),
    "scaler": Kind(lambda: torch.amp.GradScaler("cpu", init_scale=4.0, growth_interval=2), scaled),
    "module": Kind(network, trained),
    "list of modules": Kind(
        lambda: torch.nn.ModuleList([network(), torch.nn.PReLU(), network()]), trained
    ),
    "wrapped": Kind(lambda: torch.nn.DataParallel(network()), trained),
    "adapted": Kind(
        lambda: AdaptedModel(network(), LoRA, target_layers=["0"], adapter_kwargs={"rank": 2}),
        trained,
    ),
    "their hooks": Kind(TheirAverage, averaged),
    "our hooks": Kind(OurAverage, averaged),
}

FUNCTIONS_OF_THE_STEP = {"WarmCoolDecay", "TriStage"}
"""What goes on the same whether anything was loaded or not."""

LIBRARIES: dict[str, Any] = {"ours": ours.Checkpointer, "theirs": theirs.Checkpointer}


def gone_on(kind: Kind, folder: Path, reader: Any) -> Any:
    resumed = kind.make()
    torch.manual_seed(9)
    assert reader(folder, {"thing": resumed}).recover_if_possible() is not None
    return kind.go(resumed, 4)


@pytest.mark.filterwarnings("ignore:.*lr_scheduler.step:UserWarning")
@pytest.mark.parametrize("writer", LIBRARIES)
@pytest.mark.parametrize("name", KINDS)
def test_goes_on_as_in_speechbrain(name: str, writer: str, tmp_path: Path) -> None:
    kind = KINDS[name]
    thing = kind.make()
    kind.go(thing, 3)
    folders = {each: tmp_path / each for each in LIBRARIES}
    for each, library in LIBRARIES.items():
        library(folders[each], {"thing": thing}).save_checkpoint(end_of_epoch=False)
    contents = [next(folder.glob("*/thing.ckpt")) for folder in folders.values()]
    assert contents[0].stat().st_size == contents[1].stat().st_size

    expected = gone_on(kind, folders["theirs"], theirs.Checkpointer)
    for reader in LIBRARIES.values():
        assert gone_on(kind, folders[writer], reader) == expected
    assert name in FUNCTIONS_OF_THE_STEP or kind.go(kind.make(), 4) != expected


@pytest.mark.parametrize("hooked", [False, True])
@pytest.mark.parametrize(("writer", "reader"), [("ours", "theirs"), ("theirs", "ours")])
def test_what_has_a_state_dict_only_needs_custom_hooks(
    writer: str, reader: str, hooked: bool, tmp_path: Path
) -> None:
    """Neither library takes an object for its ``state_dict`` alone, and both say so."""

    class Plain:
        def __init__(self) -> None:
            self.state: dict[str, Any] = {"seen": torch.zeros(2)}

        def state_dict(self) -> dict[str, Any]:
            return copy.deepcopy(self.state)

        def load_state_dict(self, state: dict[str, Any]) -> None:
            self.state = state

    def checkpointer(library: str, thing: Plain) -> Any:
        made = LIBRARIES[library](tmp_path)
        hooks = {
            "custom_save_hook": lambda thing, path: torch.save(thing.state_dict(), path),
            "custom_load_hook": lambda thing, path, end: thing.load_state_dict(torch.load(path)),
        }
        made.add_recoverable("thing", thing, **(hooks if hooked else {}))
        return made

    saved, resumed = Plain(), Plain()
    saved.state = {"seen": torch.tensor([1.0, 2.0])}
    if not hooked:
        with pytest.raises(RuntimeError, match="Don't know how to save"):
            checkpointer(writer, saved).save_checkpoint()
        return
    checkpointer(writer, saved).save_checkpoint()
    checkpointer(reader, resumed).recover_if_possible()
    assert torch.equal(resumed.state["seen"], saved.state["seen"])


def parts() -> dict[str, Any]:
    torch.manual_seed(1)
    first, second = torch.nn.Linear(3, 3), torch.nn.Linear(3, 1)
    return {
        "first": first,
        "second": second,
        "adam": torch.optim.AdamW(first.parameters(), 0.01, amsgrad=True),
        "sgd": torch.optim.SGD(second.parameters(), 0.01, momentum=0.9, nesterov=True),
        "noam": schedulers.NoamScheduler(0.1, 5),
    }


def losses(things: dict[str, Any], steps: int) -> Iterator[float]:
    torch.manual_seed(6)
    for _ in range(steps):
        loss = things["second"](things["first"](torch.randn(4, 3))).square().mean()
        loss.backward()
        things["noam"](things["adam"])
        for name in ("adam", "sgd"):
            things[name].step()
            things[name].zero_grad()
        yield loss.item()


@pytest.mark.parametrize("reader", LIBRARIES)
@pytest.mark.parametrize("writer", LIBRARIES)
def test_two_optimizers_and_a_scheduler_of_speechbrain(
    writer: str, reader: str, tmp_path: Path
) -> None:
    saved = parts()
    list(losses(saved, 3))
    LIBRARIES[writer](tmp_path, saved).save_and_keep_only({"loss": 1.0}, min_keys=["loss"])
    expected = list(losses(saved, 4))
    resumed = parts()
    LIBRARIES[reader](tmp_path, resumed).recover_if_possible(min_key="loss")
    assert list(losses(resumed, 4)) == expected


def test_its_pretrainer_reads_what_has_hooks(tmp_path: Path) -> None:
    """Statistics, labels and adapters come over by their own loaders, from files of ours."""
    names = ("normalization", "text encoder", "adapted", "module")
    saved = {name: KINDS[name].make() for name in names}
    loaded = {name: KINDS[name].make() for name in names}
    for name, thing in saved.items():
        KINDS[name].go(thing, 2)
    ours.Checkpointer(tmp_path / "save", saved).save_checkpoint(name="last")
    folder = tmp_path / "save" / "CKPT+last"
    pretrainer = Pretrainer(tmp_path / "collected", loadables=loaded)
    pretrainer.collect_files(default_source=str(folder))
    pretrainer.load_collected()
    assert torch.equal(loaded["normalization"].glob_mean, saved["normalization"].glob_mean)
    assert loaded["text encoder"].lab2ind == saved["text encoder"].lab2ind
    for name in ("adapted", "module"):
        pairs = zip(loaded[name].parameters(), saved[name].parameters(), strict=True)
        assert all(torch.equal(*pair) for pair in pairs)
